"""Runs of before the checkpoint's format 3 (made at b24a869) go on, are tested, teach, are gathered and listed.

runs_of_format_2.tar.xz holds a finished teacher `t` and its student `s`, which SIGTERM stopped after an epoch and two steps.
"""

import json
import tarfile
from pathlib import Path

import pytest
from results import rows_of, saved

import main
import schedules.collate
import schedules.list

SMALL = "--wrn_depth 10 --wrn_width 0.25 --conv SepHashed_0.2 --train_size 48 --batch_size 16 --epochs 2".split()
STUDENT = ["digits", "student", "-t", "t", "-s", "s", "--clip_grad", "1", *SMALL]


@pytest.fixture
def old(workplace):
    with tarfile.open(Path(__file__).with_name("runs_of_format_2.tar.xz")) as archive:
        archive.extractall(workplace, filter="data")
    return workplace


def test_a_stopped_run_goes_on(old, capsys):
    (first,) = rows_of(old, "s")
    assert main.main([*STUDENT, "--resume"]) == 0
    said = capsys.readouterr().out
    assert "resuming after 1 of 2 epochs and 2 steps" in said and "epoch 2/2" in said
    rows = rows_of(old, "s")
    assert rows[0] == first and len(rows) == 2 and saved(old, "s")["format"] == 3
    assert not (old / "runs/s/end.json").exists()


def test_a_finished_run_is_shown_tested_and_teaches(old, capsys):
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    assert main.main(["digits", "teacher", "-t", "t", *SMALL, "--resume"]) == 0
    assert "t is finished, nothing is left to do" in capsys.readouterr().out
    assert main.main(["digits", "teacher", "-t", "t", "--evaluate"]) == 0
    error = float(capsys.readouterr().out.splitlines()[-1].split()[1])
    assert error == pytest.approx(
        rows_of(old, "t")[-1]["test_top1_error"], abs=0.5
    )  # of an image or two on another CPU
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    assert main.main(["digits", "student", "-t", "t", "-s", "new", *SMALL, "--init_from", "t", "--epochs", "1"]) == 0
    assert (old / "checkpoints/new.pt").exists()


def test_they_are_gathered_and_listed(old, capsys):
    assert schedules.list.main([]) == 0
    said = capsys.readouterr().out
    assert (
        "2 runs: 1 finished, 1 interrupted" in said and "stopped by SIGTERM; 1 of 2 epochs and 2 steps are kept" in said
    )
    assert schedules.collate.main(["-o", "study"]) == 0
    rows = {row["name"]: row for row in json.loads((old / "study.json").read_text())["runs"]}
    assert (rows["t"]["state"], rows["s"]["state"], rows["s"]["epochs_done"]) == ("finished", "incomplete", 1)
