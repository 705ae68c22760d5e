"""The command that draws a study, and its page: which files it writes, and what it refuses."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
import study_samples as samples
from drawn import study
from PIL import Image

from cli import command as cli_command
from schedules import outcomes, plot
from schedules.figures import style
from schedules.figures.output import rendered
from schedules.figures.tradeoff import tradeoff
from schedules.page import TEMPLATE, data, inline, is_page, page
from system import files as system_files


@pytest.fixture(autouse=True)
def the_style():
    with style.drawing():
        yield


def command(*arguments):
    return cli_command.run(lambda: plot.main([*map(str, arguments)]))


def test_files_of_two_networks_and_a_page(tmp_path, capsys):
    other = samples.run("Sep", 2.9, taught=False, network="DARTS", wrn_depth=None, wrn_width=None)
    path = samples.write(tmp_path / "study.csv", [*samples.published()[:3], other], count=3)
    assert command(path, "--out", tmp_path / "new" / "figures", "--html", tmp_path / "page.html") == 0
    said = capsys.readouterr().out.splitlines()
    written = {line for line in said if not line.startswith("no ")}
    names = {
        f"study.cifar10.{network}.{kind}.{end}"
        for network in ("WideResNet", "DARTS")
        for kind in ("params", "mult_adds", "curves")
        for end in ("png", "svg")
    }
    assert written == {str(tmp_path / "new" / "figures" / name) for name in names} | {str(tmp_path / "page.html")}
    assert sum("--nocrswd" in line for line in said) == 2
    for name in names:
        if name.endswith("png"):
            with Image.open(tmp_path / "new" / "figures" / name) as image:
                assert round(image.info["dpi"][0]) == 200
        else:
            svg = ElementTree.parse(tmp_path / "new" / "figures" / name)
            assert len({each.get("id") for each in svg.iter()} & {"point-0", "point-3", "curve-0", "curve-3"}) == 1
    again = tradeoff(outcomes.read(str(path)).pairs[1], "params", "test_top1_error")
    assert rendered(again, "svg") == (tmp_path / "new/figures/study.cifar10.DARTS.params.svg").read_bytes()


def test_a_heat_map_keeps_its_scale_of_colours_on_a_dark_page(tmp_path, capsys):
    runs = [samples.run(f"Tucker_{share}_{d}", 10 * d + share) for share in (0.2, 0.5) for d in (2, 4)]
    path = samples.write(tmp_path / "study.csv", runs)
    assert command(path, "--out", tmp_path, "--html", tmp_path / "page.html") == 0
    assert str(tmp_path / "study.cifar10.WideResNet.dimensions.png") in capsys.readouterr().out
    (figure,) = re.findall(r'<figure class="dimensions">.*?</figure>', (tmp_path / "page.html").read_text(), re.DOTALL)
    assert "var(--" not in figure and figure.count('class="point"') == figure.count('class="label"') == 4
    assert len({*re.findall(r"fill: (#[0-9a-f]{6})", figure)}) >= 4


NASTY = '</script><script>alert("x")</script>&amp;$\\frac{1}{2}$ \x01 日本'


def test_odd_names_and_empty_fields(tmp_path, capsys):
    runs = [
        samples.run("Conv", 5.0, name=NASTY, module=NASTY, family=f"module {NASTY}", group="") | {"conv": None},
        samples.run("CP_0.1", 5.0, test_top1_error=None, name="finished but empty"),
        samples.run("CP_0.2", float("nan"), name="not a number"),
        samples.run("CP_0.3", 0.0, name="perfect", test_top5_error=None),
        samples.run("CP_0.4", 5.0, name="free", params=None),
        samples.run("CP_0.5", 0, state="failed", name="lost", reason=NASTY, percent_of_teacher_params="nan"),
    ]
    path = samples.write(tmp_path / "st udy$.csv", runs, count=2, conflicts=[NASTY])
    assert command(path, "--html", tmp_path / "page.html") == 0
    (pair,) = outcomes.read(str(path)).pairs
    assert [group.first["conv"] for group in pair.groups] == [None, "CP_0.3"]
    assert pair.undrawn == {"without result": 3, "failed": 1}
    text = (tmp_path / "page.html").read_text()
    for pattern in ("<script>alert", "</script><script>alert"):
        assert pattern not in text
    assert text.count("</script>") == 2
    assert {url for url in re.findall(r"https?://[^\"' >]+", text)} <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    inside = re.search(r'id="study">(.*?)</script>', text)[1]
    known = json.loads(inside)
    assert not set("<>&") & set(inside)
    assert known["runs"][0]["name"] == NASTY.replace("\x01", "\N{REPLACEMENT CHARACTER}") and len(known["runs"]) == 6
    assert (
        "params" in known["runs"][5] and "percent_of_teacher_params" not in known["runs"][5]
    )  # as others write no number
    assert {key: len(group["curve"]) for key, group in known["groups"].items()} == {"0": 2, "1": 2}


def test_a_page_is_small(tmp_path):
    read = study(tmp_path, samples.published(1)[:26] + samples.large(13))
    files = [(0, kind, rendered(figure, "svg").decode()) for _, kind, figure in plot.figures(read, "exact") if figure]
    assert len(read.runs) >= 39
    text = page(read, files)
    assert len(text.encode()) < 1_000_000
    assert set(re.findall(r'class="point" data-group="(\d+)"', text)) == {
        str(number) for number in data(read)["groups"]
    }
    assert "{{" not in text


def test_svg_ids_are_its_own():
    colours = {}
    svg = '<svg width="1pt" height="2pt" viewBox=""><g id="point-3"><use href="#m1" style="fill: #0077bb"/></g><path id="m1" clip-path="url(#p)" style="fill: #222222"/></svg>'
    inlined = inline(svg, "f1-", "t", colours)
    assert (
        'class="point" data-group="3"' in inlined
        and 'href="#f1-m1"' in inlined
        and 'id="f1-m1"' in inlined
        and "url(#f1-p)" in inlined
    )
    assert colours == {"--c0077bb": "#0077bb"} and "var(--c0077bb)" in inlined and "var(--ink)" in inlined


@pytest.mark.parametrize(
    "contents, says",
    [
        (None, "study.csv cannot be read: No such file"),
        (b"", "it has no column name, state"),
        (b"name,state\na,finished\n", "it has no column family, taught, group"),
        (b"\xff\xfe\x00", "is no table of schedules.collate"),
        ([], "it has no column"),
        ([samples.run("ACDC", 1, state="failed"), samples.run("ACDC", 1, 1, state="running")], "no finished run with a test_top1_error to draw (1 failed, 1 running)"),
    ],
    ids=["missing", "empty", "other", "binary", "no rows", "none finished"],
)  # fmt: skip
def test_refusals(tmp_path, capsys, contents, says):
    path = tmp_path / "study.csv"
    if isinstance(contents, list):
        samples.write(path, contents)
    elif contents is not None:
        path.write_bytes(contents)
    before = sorted(tmp_path.iterdir())
    assert command(path, "--out", tmp_path / "out", "--html", tmp_path / "page.html") == 2
    out, err = capsys.readouterr()
    assert says in err and len(err.splitlines()) == 1 and not out and sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("target", ["study.csv", "study.json", "schedule.json", "empty", "folder", "template.html"])
def test_a_page_replaces_nothing_but_a_page(tmp_path, capsys, target):
    path = samples.write(tmp_path / "study.csv", samples.published()[:2], count=1)
    (tmp_path / "folder").mkdir()
    (tmp_path / "schedule.json").write_text("{}")
    (tmp_path / "empty").touch()
    (tmp_path / "template.html").write_bytes(TEMPLATE.read_bytes())
    before = {each: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()}
    assert command(path, "--out", tmp_path / "out", "--html", tmp_path / target) == 2
    out, err = capsys.readouterr()
    assert "exists and is no earlier page" in err and len(err.splitlines()) == 1 and not out
    assert {each: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()} == before
    assert not (tmp_path / "out").exists()


def test_a_page_may_be_made_anew(tmp_path):
    html = tmp_path / "new.html"
    html.write_text(page(study(tmp_path, samples.published()[:1], curves=False), []))
    system_files.keep("--html", str(html), "page", is_page)
    system_files.keep("--html", str(tmp_path / "none.html"), "page", is_page)


def test_damaged_json_and_wrong_flags(tmp_path, capsys):
    path = samples.write(tmp_path / "study.csv", samples.published()[:2], count=1)
    path.with_suffix(".json").write_text('{"runs": [{"rows": 3}]}')
    assert command(path) == 2 and "study.json is no study of schedules.collate" in capsys.readouterr().err
    path.with_suffix(".json").unlink()
    assert command(path, "--mult_adds", "exakt") == 2 and "did you mean 'exact'?" in capsys.readouterr().err
    assert (
        command(path, "--error", "val_top1_error") == 2
        and "no finished run with a val_top1_error" in capsys.readouterr().err
    )
    (tmp_path / "file").touch()
    assert command(path, "--out", tmp_path / "file") == 2 and "cannot be made" in capsys.readouterr().err
    assert (
        command(path, "--html", tmp_path / "file" / "page.html") == 2
        and "--html: the folder" in capsys.readouterr().err
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "study.csv"]
