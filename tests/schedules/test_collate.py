"""What is gathered of runs, here and from other machines, and how they are listed."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from run_folders import NETWORK, run, student, table, teacher, told
from small_runs import TINY

import main
from record import outcome
from schedules import collate, list


def test_every_state_is_a_row(workplace, capsys):
    teacher(errors=(60.0, 20.0, 30.0))
    student("diverged", "--lr", "9", errors=(), end=(3, "loss is nan in epoch 0"))
    student("stopped", "--lr", "8", errors=(50.0,), end=(143, "stopped by SIGTERM"))
    student("killed", "--lr", "7", errors=(50.0, 45.0))
    student("full", "--lr", "6", errors=(50.0,), end=(4, "disk full"))
    Path("runs/never").mkdir(), outcome.note(Path("runs/never"), 2, "no such dataset")
    damaged = student("damaged", "--lr", "5")
    (damaged / "config.json").write_text("{")
    status, out, err = told(capsys, collate.main, "-o", "study")
    assert (status, err) == (0, "") and "7 runs, 1 finished, 2 incomplete, 1 diverged, 3 failed" in out
    rows, runs, conflicts = table()
    assert {name: row["state"] for name, row in rows.items()} == {
        "t": "finished", "diverged": "diverged", "stopped": "incomplete", "killed": "incomplete", "full": "failed",
        "never": "failed", "damaged": "failed",
    }  # fmt: skip
    assert rows["diverged"]["reason"] == "loss is nan in epoch 0" and rows["never"]["reason"] == "no such dataset"
    assert "damaged" in rows["damaged"]["reason"] and not conflicts
    t = runs["t"]
    assert (t["test_top1_error"], t["best_test_top1_error"], t["best_test_top5_error"]) == (30.0, 20.0, 4.0)
    assert (t["epochs_done"], t["epochs_planned"], t["seconds"], t["params"]) == (3, 3, 6.0, 1000)
    assert (t["family"], t["taught"], runs["full"]["taught"]) == ("Conv", False, True)
    assert len(t["rows"]) == 3 and rows["killed"]["epochs_done"] == "2"
    recorded = json.loads(Path("runs/t/config.json").read_text())["config"]
    assert {key: t[key] for key in recorded} == recorded
    assert rows["t"]["nocrswd"] == "false" and rows["t"]["epoch_step"] == ""


def test_machines_are_merged_by_name(workplace, capsys):
    for folder, errors in (("a/runs", (50.0, 40.0)), ("b", (50.0, 40.0, 30.0))):
        teacher(folder=folder, errors=errors)
        student("same", folder=folder)
    (
        student("apart", folder="a/runs", errors=(50.0, 41.0, 30.0)),
        student("apart", folder="b", errors=(50.0, 42.0, 31.0)),
    )
    student("lr", folder="a/runs", errors=(50.0,)), student("lr", "--lr", "0.5", folder="b")
    student("only", folder="b")
    status, out, _ = told(capsys, collate.main, "a", "b", "-o", "study")
    rows, runs, conflicts = table()
    assert status == 0 and [*rows] == ["apart", "lr", "same", "t", "only"]
    assert runs["t"]["folder"] == "b/t" and runs["t"]["epochs_done"] == 3
    assert runs["lr"]["lr"] == 0.5 and runs["apart"]["test_top1_error"] == 30.0
    assert len(conflicts) == 2 and all(f"conflict: {each}" in out for each in conflicts)
    assert "apart" in conflicts[0] and "the errors of 2 epochs differ, first of epoch 2" in conflicts[0]
    assert "lr was 0.1, is 0.5" in conflicts[1]


def test_epochs_without_a_test(workplace, capsys):
    """A run that goes on is shown with its last tested epoch."""
    place = teacher(errors=(50.0, 40.0))
    with (place / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 2, "train_loss": 1.0, "seconds": 2.0}) + "\n")
    for command in (collate.main, ["-o", "study"]), (list.main, []):
        _, out, _ = told(capsys, command[0], *command[1])
        assert "40.00" in out
    assert table()[1]["t"]["test_top1_error"] == table()[1]["t"]["best_test_top1_error"] == 40


def test_a_damaged_copy_is_a_conflict(workplace, capsys):
    teacher(folder="a"), (teacher(folder="b") / "config.json").write_text("{")
    told(capsys, collate.main, "b", "a", "-o", "study")
    _, runs, (conflict,) = table()
    assert runs["t"]["state"] == "finished" and "damaged" in conflict


@pytest.mark.parametrize("damage", [
    {"counts": [1]}, {"config": {"epochs": 3, "conv": 5}}, {"argv": [1, 2]}, {"config": 5}, {"versions": 1}, "[" * 200_000,
])  # fmt: skip
def test_a_record_that_is_none_is_a_failed_run(workplace, capsys, damage):
    path = teacher() / "config.json"
    text = damage if isinstance(damage, str) else json.dumps(json.loads(path.read_text()) | damage)
    path.write_text(text), teacher("other")
    assert told(capsys, collate.main, "-o", "study")[0] == told(capsys, list.main)[0] == 0
    rows, _, _ = table()
    assert (rows["t"]["state"], rows["other"]["state"]) == ("failed", "finished") and "damaged" in rows["t"]["reason"]


def test_metrics_that_are_none(workplace, capsys):
    path = teacher() / "metrics.jsonl"
    first, second, third = path.read_text().splitlines()
    path.write_text("\n".join([first, "{", third, ""]))
    assert told(capsys, collate.main, "-o", "study")[0] == told(capsys, list.main)[0] == 0
    assert len(table()[1]["t"]["rows"]) == 2
    path.write_text(f'{first}\n{{"test_top1_error": null}}\n')
    assert told(capsys, list.main)[0] == 0


def test_a_run_of_the_name_runs(workplace, capsys):
    teacher("runs"), teacher("other")
    assert told(capsys, collate.main, "-o", "study")[0] == told(capsys, collate.main, ".", "-o", "study")[0] == 0
    assert len(table()[0]) == 2


def test_mult_adds_that_are_not_counted_are_not_shown(workplace, capsys):
    teacher(uncounted=["block.conv"])
    told(capsys, collate.main, "-o", "study")
    assert table()[1]["t"]["mult_adds_exact"] is None and table()[1]["t"]["params"] == 1000


def test_a_table_of_somebody_elses_is_not_written_over(workplace, capsys):
    teacher(), Path("data.csv").write_text("my,precious,data\n")
    status, _, err = told(capsys, collate.main, "-o", "data")
    assert status == 2 and "choose another -o" in err and Path("data.csv").read_text() == "my,precious,data\n"
    for _ in range(2):  # its own is
        assert told(capsys, collate.main, "-o", "study.csv")[0] == 0


def test_a_plan_of_which_nothing_is_there(workplace, capsys):
    """Neither its runs nor their teacher exist, and the budget has not found a number yet."""
    flags = [["-t", "of.elsewhere", "-s", "s", "--conv", "SepHashed", "--budget", "1e4"]]
    Path("study.json").write_text(
        json.dumps([["python", "main.py", "digits", "student", *each, *NETWORK] for each in flags])
    )
    assert told(capsys, collate.main, "-o", "gathered", "--schedule", "study.json")[0] == 0
    (row,) = table("gathered")[1].values()
    assert (row["state"], row["family"]) == ("planned", "SepHashed")
    assert told(capsys, list.main, "study.json")[0] == 0


def test_what_cannot_begin_says_why(workplace, capsys):
    teacher(errors=(50.0,), end=(3, "loss is nan"))
    Path("runs/early").mkdir(), outcome.note(Path("runs/early"), 2, "no such dataset")
    jobs = [["python", "main.py", *line.split(), *NETWORK] for line in (
        "digits teacher -t t", "digits student -t t -s s", "digits teacher -t early --conv ACDC_4",
    )]  # fmt: skip
    Path("study.json").write_text(json.dumps(jobs))
    told(capsys, collate.main, "-o", "gathered", "--schedule", "study.json")
    runs = table("gathered")[1]
    assert (runs["s"]["state"], runs["s"]["reason"]) == ("planned", "its teacher t diverged")
    early = runs["early"]
    assert (early["state"], early["reason"], early["conv"]) == ("failed", "no such dataset", "ACDC_4")


def test_what_a_schedule_plans_is_a_row_too(workplace, capsys):
    teacher()
    student("s")
    run("digits", "teacher", "-t", "another")
    jobs = [["python", "main.py", *shlex.split(line), *NETWORK] for line in (
        "digits teacher -t t", "digits student -t t -s s", "digits student -t t -s later --conv ACDC_4",
    )]  # fmt: skip
    Path("study.json").write_text(json.dumps(jobs))
    status, _, err = told(capsys, collate.main, "-o", "study", "--schedule", "study.json")
    assert (status, err.count("\n")) == (2, 1) and "choose another -o" in err  # a schedule is not written over
    assert json.loads(Path("study.json").read_text()) == jobs and not Path("study.csv").exists()
    told(capsys, collate.main, "-o", "gathered", "--schedule", "study.json")
    rows, runs, _ = table("gathered")
    assert {name: row["state"] for name, row in rows.items()} == {"t": "finished", "s": "finished", "later": "planned"}
    assert (runs["later"]["family"], runs["later"]["epochs_planned"], runs["later"]["rows"]) == ("ACDC", 3, [])
    status, out, _ = told(capsys, list.main, "study.json")
    assert status == 0 and "3 runs: 2 finished, 1 planned" in out and "another" not in out
    assert "python main.py digits student -t t -s later --conv ACDC_4" in out


def test_one_line_says_that_runs_are_of_several_studies(workplace, capsys):
    def changed(place, **fields):
        document = json.loads((place / "config.json").read_text())
        document["config"] |= fields
        (place / "config.json").write_text(json.dumps(document))

    teacher(), student("s", "--conv", "ACDC_4"), changed(teacher("narrow"), wrn_width=0.5)
    _, out, _ = told(capsys, collate.main, "-o", "study")
    assert "note:" not in out  # another width of the same network is the study's control
    run("digits", "teacher", "-t", "longer", "--conv", "ACDC_4", "--val_size", "100")
    deeper = run("digits", "teacher", "-t", "wide", "--conv", "ACDC_4")
    changed(deeper, wrn_depth=16, epochs=2, data_train=1500, data_digest="ab" * 8)
    _, out, _ = told(capsys, collate.main, "-o", "study")
    (note,) = [line for line in out.splitlines() if line.startswith("note: ")]
    for part in (
        "2 networks (WRN-10-1, WRN-16-1)",
        "2 lengths (3 epochs, 2 epochs)",
        "--schedule FILE",
        "1,500 training images",
    ):
        assert part in note
    Path("study.json").unlink(), Path("study.csv").unlink()
    Path("s.json").write_text(json.dumps([["python", "main.py", *"digits teacher -t t".split(), *NETWORK]]))
    _, out, _ = told(capsys, collate.main, "-o", "study", "--schedule", "s.json")
    assert "note:" not in out and [*table()[0]] == ["t"]


def test_a_listing_says_how_to_go_on(workplace, capsys):
    teacher()
    student("b", "--conv", "ACDC_4", errors=(50.0,), end=(4, "no space left"))
    status, out, err = told(capsys, list.main)
    lines = out.splitlines()
    assert (status, err) == (0, "") and lines[-1] == "2 runs: 1 finished, 1 failed"
    command = f"python main.py digits student -t t -s b --conv ACDC_4 {' '.join(NETWORK)} --resume"
    assert lines[2].split() == ["b", "failed", "1/3", "50.00"]
    assert lines[3:5] == ["    no space left", f"    {command}"] and lines[5].split()[:2] == ["t", "finished"]
    _, out, _ = told(capsys, list.main, "--state", "finished")
    assert "30.00" in out and "50.00" not in out


@pytest.mark.parametrize("main, arguments, says", [
    (collate.main, ["-o", "x"], "runs is no folder"),
    (collate.main, ["nowhere", "-o", "x"], "nowhere is no folder"),
    (collate.main, ["empty", "-o", "x"], "empty holds no run"),
    (collate.main, ["empty"], "-o"),
    (collate.main, ["-o", "x", "--shedule", "a"], "did you mean '--schedule'"),
    (list.main, [], "there is no run"),
    (list.main, ["--state", "done"], "unknown state 'done'"),
    (list.main, ["missing.json"], "missing.json cannot be read"),
])  # fmt: skip
def test_wrong_requests(workplace, capsys, main, arguments, says):
    Path("empty").mkdir()
    status, out, err = told(capsys, main, *arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1) and says in err
    assert [*workplace.iterdir()] == [workplace / "empty"]


def test_of_real_runs(teacher, workplace, capsys):
    """A finished run, which main.py has trained."""
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    capsys.readouterr()
    assert main.main(["digits", "teacher", "-t", "t", *TINY, "--resume"]) == 0
    error = capsys.readouterr().out.splitlines()[-1].split()[1]
    told(capsys, collate.main, "-o", "study")
    rows, runs, _ = table()
    assert f"{runs['t']['test_top1_error']:.2f}" == error and rows["t"]["state"] == "finished"
    assert runs["t"]["params"] == json.loads(Path("runs/t/config.json").read_text())["counts"]["params"]
