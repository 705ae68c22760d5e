"""Commands in a user's surroundings: no setting of matplotlib's or Python's changes a figure, or keeps a command from working."""

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import study_samples as samples

from schedules import outcomes
from schedules.figures import style
from schedules.figures.curves import curves
from schedules.figures.output import rendered
from schedules.figures.tradeoff import tradeoff

ROOT = Path(__file__).parents[1]
ODD = """text.usetex: True
font.size: 20
savefig.bbox: tight
savefig.dpi: 30
figure.dpi: 30
svg.fonttype: path
lines.linewidth: 9
axes.formatter.use_locale: True
axes.prop_cycle: cycler("color", ["red"])
"""
COMMANDS = ("collate", "costs", "generate", "list", "plot", "run")
JUPYTER = "module://matplotlib_inline.backend_inline"


def command(folder: Path, *arguments: str, **environment: str) -> str:
    """What `python schedules/NAME.py …` prints, with nothing on stderr."""
    name, *rest = arguments
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("MPL", "MATPLOTLIB", "PYTHON"))}
    plain |= {"OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run([sys.executable, ROOT / name, *rest], cwd=folder, env=plain, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def drawn(folder: Path, **environment: str) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    samples.write(
        folder / "study.csv", [*samples.published()[:3], samples.run("SepHashedFull_0.1", 5, nocrswd=True)], count=3
    )
    command(folder, "schedules/plot.py", "study.csv", "--out", "figures", "--html", "page.html", **environment)
    return {path.name: path.read_bytes() for path in [*(folder / "figures").iterdir(), folder / "page.html"]}


def test_the_same_bytes_whatever_a_user_has_set(tmp_path):
    plain, odd = drawn(tmp_path / "plain"), tmp_path / "odd"
    for folder in (odd, tmp_path / "damaged", tmp_path / "home" / "matplotlib"):
        folder.mkdir(parents=True)
    (odd / "matplotlibrc").write_text(ODD)
    assert drawn(odd, MPLBACKEND=JUPYTER, MPLCONFIGDIR="/dev/null/none", LC_ALL="de_DE.UTF-8") == plain
    (tmp_path / "damaged" / "matplotlibrc").write_bytes(b"\xff\xfe\x00no: colon\n")
    (tmp_path / "home" / "matplotlib" / "matplotlibrc").write_text(ODD)
    named = {"MATPLOTLIBRC": str(tmp_path / "damaged" / "matplotlibrc"), "XDG_CONFIG_HOME": str(tmp_path / "home")}
    assert drawn(tmp_path / "other", **named, MPLBACKEND="no such backend") == plain
    assert len(plain) == 9


def test_as_a_library_too(tmp_path):
    """Where matplotlib was imported before, with a user's settings, which stay as they are."""
    (pair,) = outcomes.read(str(samples.write(tmp_path / "study.csv", samples.published()[:3], count=3))).pairs

    def files():
        figures = tradeoff(pair, "params", "test_top1_error"), curves(pair, "test_top1_error")
        return [rendered(figure, form) for figure in figures for form in ("png", "svg")]

    plain = files()
    with matplotlib.rc_context({"text.usetex": True, "font.size": 20, "savefig.bbox": "tight", "axes.grid": True,
                                "lines.linewidth": 9, "figure.dpi": 30, "svg.fonttype": "path"}):  # fmt: skip
        assert files() == plain
        assert matplotlib.rcParams["font.size"] == 20 and matplotlib.rcParams["text.usetex"]


@pytest.mark.long
def test_jobs_inherit_a_safe_path(tmp_path):
    """With PYTHONSAFEPATH Python puts neither the script's folder nor the current one on the path."""
    job = "python main.py digits teacher -t t --wrn_depth 10 --wrn_width 0.25 --epochs 1 --train_size 32".split()
    (tmp_path / "study.json").write_text(json.dumps([job]))
    (tmp_path / "queue.py").write_text("raise SystemError('a module of the user')")
    assert "1 of 1 runs are finished" in command(tmp_path, "schedules/run.py", "study.json", PYTHONSAFEPATH="1")


@pytest.mark.parametrize(
    "safe",
    [pytest.param({}, id="plain", marks=pytest.mark.long), pytest.param({"PYTHONSAFEPATH": "1"}, id="safe path")],
)
def test_commands_find_their_modules_as_files(tmp_path, safe):
    (tmp_path / "queue.py").write_text("raise SystemError('a module of the user')")
    for name in ("main", "count", *(f"schedules/{each}" for each in ("demo", *COMMANDS))):
        done = subprocess.run([sys.executable, ROOT / f"{name}.py", "--nonsense"], cwd=tmp_path, env={**os.environ, **safe},
                              capture_output=True, text=True)  # fmt: skip
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1) and done.stderr.startswith("error: "), (
            name,
            done.stderr,
        )


def test_fonts_that_were_installed_after_matplotlib_listed_them(tmp_path, monkeypatch):
    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    new, broken = tmp_path / "new.ttf", tmp_path / "broken.ttf"
    new.write_bytes(shipped.read_bytes())
    broken.write_bytes(b"no font")
    manager = style.font_manager
    monkeypatch.setattr(manager.fontManager, "ttflist", list(manager.fontManager.ttflist))
    monkeypatch.setattr(manager, "findSystemFonts", lambda: [str(new), str(broken)])
    style._complete()
    assert [font.name for font in manager.fontManager.ttflist if font.fname == str(new)] == ["DejaVu Sans"]
