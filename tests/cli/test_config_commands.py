"""Configuration files in the commands: schedules, count.py, --evaluate, and the file that a run writes."""

import contextlib
import json

import pytest
from config_layers import origins, resolved, write
from results import refused
from small_runs import TINY

import count
import main
from cli import options
from schedules import generate
from schedules.schedule import parse
from system.errors import RequestError


def test_a_schedule_of_files(workplace):
    write(mine="prune: TopK_0.1\nepochs: 3", wrong="\nlr: 0", all="network: ResNet9")
    jobs, faults = parse([["python", "main.py", "--config", "base.yaml", "mine.yaml", "lr=0.3", "-t", "y"],
                          ["python", "main.py", "--config", "wrong.yaml", "digits", "teacher", "-t", "z"],
                          ["python", "main.py", "--config", "base.yaml", "--print_config"],
                          ["python", "main.py", "--config", "base.yaml", "--", "digits", "student", "lr=2", "s.yaml"]])  # fmt: skip
    assert (jobs[0].name, jobs[0].options.lr, jobs[0].epochs) == ("y", 0.3, 3)
    assert options.training(jobs[0].command()[2:]) == jobs[0].options | {"resume": True}
    assert [number for number, _ in faults] == [2, 3, 4] and faults[0][1].startswith("wrong.yaml:2: argument --lr")
    for flags, where in (
        ("conv=ACDC", "conv=ACDC"),
        ("--config=mine.yaml base.yaml seed=3", "seed=3"),
        ("--config all.yaml", "all.yaml:1"),
    ):
        with pytest.raises(RequestError, match=f"{where}: .* after --: every job has its own"):
            generate.options(["digits", "--", *flags.split()])
    words = generate.options(["digits", "--", "--config", "mine.yaml", "lr=0.3"]).behind.words
    assert words[-4:] == ("--epochs", "3", "--lr", "0.3")


def test_count_takes_the_files_of_main(workplace, capsys):
    write(mine="network: ResNet9\nlr: 0.3\nconv: Sep", wrong="lr: 0")
    assert count.main(["--config", "base.yaml", "mine.yaml", "conv=ACDC", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert count.main(["digits", "--network", "ResNet9", "--conv", "ACDC", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == shown
    assert "lr=3: 'lr' is a key of main.py" in refused(capsys, count.main, *"--config base.yaml lr=3".split())[1]
    assert "wrong.yaml:1: argument --lr" in refused(capsys, count.main, *"--config base.yaml wrong.yaml".split())[1]
    (workplace / "checkpoints").mkdir()
    (workplace / "checkpoints/base.pt").touch()
    for flag, value in (("--config", "base.yaml"), ("--gate", "FBS_0.5")):
        assert f"{flag} does not go with a run" in refused(capsys, count.main, "base", flag, value)[1]


def test_a_file_evaluates(workplace, capsys):
    """What a file gives and a test has no use for is left out; what the command line gives is refused."""
    write(mine="init_from: t\nfit_effort: 0.5\nuntil: 2\nl1: 1e-5\ntrain_where: x\nprune: {_: TopK_0.1, at: 99}\n"
               "gate: {_: FBS_0.5, warmup: 99}\ndry_run: true\njson: true\nresume: true\nlr: 0.3")  # fmt: skip
    request = resolved("--config base.yaml mine.yaml --evaluate --gate_skip")
    assert request == resolved("digits teacher -t x --lr 0.3 --evaluate --gate_skip")
    assert set(origins(request).values()) & {"mine.yaml:1", "mine.yaml:6", "mine.yaml:11"} == {"mine.yaml:11"}
    write(allocating="allocate: true\nbudget: 1e4\ninit_from: t\nconv: SepHashed\nevaluate: true")
    assert resolved("--config base.yaml allocating.yaml").budget == 10_000
    for given, words in (("l1=1", "l1=1: --evaluate only tests"), ("--prune_at 3", "error: --evaluate only tests")):
        said = refused(capsys, main.resolve, *f"--config base.yaml mine.yaml --evaluate {given}".split())[1]
        assert words in said


def test_what_a_run_writes(workplace, capsys, monkeypatch):
    """The file of a run asks for it again; with --resume it goes on, and what says the same is not written again."""
    write(mine="import: base.yaml\ntrain_size: 64\nl1: 1e-5")
    command = ["--config", "mine.yaml", *TINY, "--train_size", "64"]
    for flag in ("--dry_run", "--print_config"):
        with pytest.raises(SystemExit) if flag == "--print_config" else contextlib.nullcontext():
            assert main.main([*command, flag]) == 0
        assert not (workplace / "runs").exists()
    printed = capsys.readouterr().out
    assert main.main([*command, "--until", "1"]) == 0
    path = workplace / "runs/x/config.yaml"
    before, at = path.read_text(), path.stat().st_mtime_ns
    assert printed.endswith(before) and "teacher_checkpoint: x  # base.yaml:3" in before and "\nuntil" not in before
    own = ["--config", "runs/x/config.yaml"]
    assert "the run 'x' exists, with 1 of 2 epochs done" in refused(capsys, main.main, *own)[1]
    assert main.main([*own, "--resume", "--until", "1"]) == 0 and main.main([*own, "--resume"]) == 0
    assert main.main([*own, "--evaluate"]) == 0
    assert (path.read_text(), path.stat().st_mtime_ns) == (before, at)
    assert main.main([*own, "-t", "other", "lr=0.2", "--until", "1"]) == 0
    of_other = (workplace / "runs/other/config.yaml").read_text()
    assert "lr: 0.2  # lr=0.2" in of_other and "train_size: 64  # runs/x/config.yaml:" in of_other
    path.with_name("config.yaml.partial").touch()  # of a kill
    assert main.main([*own, "-t", "other", "lr=0.2", "--resume", "workers=2", "--until", "1"]) == 0
    assert main.main(["--config", "runs/other/config.yaml", "--resume", "workers=2"]) == 0
    assert "workers: 2  # workers=2" in (workplace / "runs/other/config.yaml").read_text()


def test_what_only_the_network_shows_has_a_line_too(workplace, capsys):
    """A wrong request that is found once the network is built, by main.py and by count.py."""
    write(mine="dataset: digits\nmode: teacher\nteacher_checkpoint: t\nwrn_depth: 10\nwhere: nowhere\nconv: Sep\n")
    for program in (main, count):
        _, error = refused(capsys, program.main, "--config", "mine.yaml")
        assert error.startswith("error: mine.yaml:5: --where 'nowhere' matches none of the layers")
