"""--dry_run: everything is built and timed, nothing is written, what is wrong is told as by the run itself."""

import json
import re
import shutil

import pytest
import torch
from results import snapshot
from samples import tree, write_tar
from small_runs import TINY

import main
from cli import command as cli_command
from system import durations
from training import dry_run

DIGITS = ["digits", "teacher", "-t", "d", *TINY, "--dry_run"]


def table(out: str) -> dict[str, str]:
    return dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines() if re.match(r"[a-z -]+  +\S", line))


def test_what_it_says(workplace, capsys):
    assert main.main([*DIGITS, "--conv", "SepHashed_0.5", "--val_size", "100", "--epochs", "200"]) == 0
    said = table(capsys.readouterr().out)
    assert list(workplace.iterdir()) == []
    assert said["parameters"] == "1,810" and re.fullmatch(
        r"\d\.\d{5}E\+05 published, \d\.\d{5}E\+05 exact", said["mult-adds an image"]
    )
    train, test = (float(said[f"{step} step"].split()[0]) for step in ("training", "test"))
    assert train > test > 0 and "(32 images, median of 5)" in said["training step"]
    assert said["an epoch"].endswith(": 13 training and 14 test steps")  # 400 of 32; 297 and 100
    assert float(said["peak memory"].split()[0].replace(",", "")) > 100
    seconds = 200 * (13 * train + 14 * test)
    amount, unit = said["the run"].split()[:2]
    assert float(amount) * {"s": 1, "min": 60, "h": 3600}[unit] == pytest.approx(seconds, rel=0.02)
    assert said["the run"].endswith("for 200 epochs") and "MB are free" in said["disk"]


def test_tests_that_are_left(workplace, capsys):
    assert main.main([*DIGITS, "--json", "--epochs", "7", "--test_every", "3", "--train_size", "320"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["steps"], said["tests"]) == (10, 3)
    total = 7 * 10 * said["train_seconds"] + 3 * 10 * said["test_seconds"]
    assert said["seconds"] == pytest.approx(total) == pytest.approx(7 * said["epoch_seconds"])


def test_a_student_of_a_teacher(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    before = snapshot(workplace)
    student = ["digits", "student", "-t", "t", "-s", "s", *TINY, "--conv", "ACDC_3", "--dry_run"]
    for flags in (
        [],
        ["--init_from", "t", "--fit_effort", "0.02", "--checkpoint_activations"],
        ["--precision", "bf16", "--clip_grad", "1", "--batch_size", "2"],
    ):
        assert main.main([*student, *flags]) == 0
        assert "training step" in capsys.readouterr().out
    assert snapshot(workplace) == before


def test_as_json(workplace, capsys):
    """One object on standard output, and nothing else there."""
    assert main.main(["digits", "teacher", "-t", "t", *TINY, "--dry_run", "--json"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert (said["params"], said["batch_size"], said["epochs"], said["device"]) == (6010, 32, 2, "cpu")
    epoch = said["steps"] * said["train_seconds"] + said["test_steps"] * said["test_seconds"]
    assert said["epoch_seconds"] == pytest.approx(epoch) and said["seconds"] == pytest.approx(2 * epoch)
    assert 0 < said["peak_bytes"] < said["memory_bytes"] and "parameters" in err
    assert cli_command.run(lambda: main.main(["digits", "teacher", "-t", "t", *TINY, "--json"])) == 2
    assert "--json goes with --dry_run" in capsys.readouterr().err


def test_of_a_run_that_is_there(teacher, workplace, capsys):
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    before = snapshot(workplace)
    command = ["digits", "teacher", "-t", "t", *TINY, "--dry_run"]
    assert cli_command.run(lambda: main.main(command)) == 2
    assert "is finished" in capsys.readouterr().err
    assert main.main([*command, "--resume"]) == 0
    assert table(capsys.readouterr().out)["the run"] == "0 s for 0 epochs, 2 are done"
    assert snapshot(workplace) == before


def test_the_cache_of_a_dataset_is_not_written(workplace, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(workplace / "cache"))
    (workplace / "data").mkdir()
    write_tar(workplace / "data/cifar10.tar", tree(), "w")
    command = ["cifar10", "teacher", "-t", "x", *TINY, "--train_size", "15", "--dry_run", "--download"]
    assert main.main(command) == 0
    assert [path.name for path in workplace.rglob("*")] == ["data", "cifar10.tar"]
    (workplace / "data/cifar10.tar").unlink()
    assert cli_command.run(lambda: main.main(command)) == 2
    assert "cifar10 is not there yet, and is not downloaded for a dry run" in capsys.readouterr().err


def test_what_goes_wrong(workplace, capsys, monkeypatch):
    def step(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(dry_run.TrainStep, "__call__", step)
    assert cli_command.run(lambda: main.main(DIGITS)) == 4
    told = "a --batch_size below 32 needs less memory, --checkpoint_activations too; nothing was written"
    assert told in capsys.readouterr().err and list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    "seconds, shown", [(0.5, "0.5 s"), (119, "119 s"), (7100, "118 min"), (9e4, "25 h"), (1e6, "11.6 days")]
)
def test_durations(seconds, shown):
    assert durations.duration(seconds) == shown
