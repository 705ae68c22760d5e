"""Runs beside their teachers and beside what is published, as the table of a collation says it."""

import csv
import json
import shlex
from pathlib import Path

import pytest
from run_folders import NETWORK, run, student, table, teacher, told

from schedules import collate, frame
from schedules.outcomes import read
from schedules.page import data

ACDC, IMAGES = ("--conv", "ACDC_4"), {"data_test": 2970, "data_digest": "11"}


def changed(place, **fields):
    """A run whose record says other things of its configuration."""
    document = json.loads((place / "config.json").read_text())
    document["config"] |= fields
    (place / "config.json").write_text(json.dumps(document))


def study(seeds=2):
    """Teachers of 20.0 and 20.2 % error, students of 30.0 and 30.2 with a tenth of their parameters, the same alone at 33."""
    for seed in range(seeds):
        more, ends = ("--seed", str(seed)), [(50.0, 40.0, error + seed / 5) for error in (20.0, 30.0, 33.0)]
        changed(run("digits", "teacher", "-t", f"t{seed}", *more, errors=ends[0]), **IMAGES)
        taught = student(f"s{seed}", *ACDC, *more, of=f"t{seed}", errors=ends[1], params=100)
        changed(taught, teacher_digest=f"d{seed}", **IMAGES)
        changed(run("digits", "teacher", "-t", f"a{seed}", *ACDC, *more, errors=ends[2], params=100), **IMAGES)
    changed(student(f"s{seeds}", *ACDC, "--seed", str(seeds), of="t0", errors=(50.0,), params=100), **IMAGES)


def columns(runs, name):
    return [
        runs[name].get(column) for column in ("percent_of_teacher_params", "gap_to_teacher", "gap_to_teacher_verdict")
    ]


def schedule(path, *lines):
    Path(path).write_text(json.dumps([["python", "main.py", *shlex.split(line), *NETWORK] for line in lines]))


def test_a_group_is_set_beside_its_teacher(workplace, capsys):
    """In every row of it, the unfinished too; a network alone has the share of the same network taught, and no gap."""
    study()
    _, out, _ = told(capsys, collate.main, "-o", "study")
    rows, runs, _ = table()
    for name in ("s0", "s1", "s2"):
        assert columns(runs, name) == [10.0, pytest.approx(10.0), "told apart"]
        assert (
            float(rows[name]["gap_to_teacher"]) == pytest.approx(10)
            and rows[name]["gap_to_teacher_verdict"] == "told apart"
        )
    assert columns(runs, "a1") == [10.0, None, None] and columns(runs, "t0") == [None, None, None]
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "+10.00, told apart" in lines["s0"] and "10.0 %" in lines["s0"] and "10.0 %" in lines["a0"]
    assert "taught − teacher" in out and "published" not in out and "published_source" not in rows["s0"]
    tip = next(
        each for each in data(read("study.csv"))["groups"].values() if each["label"] == "ACDC_4" and each["taught"]
    )
    assert ["of the teacher's parameters", "10.0 %"] in tip["costs"]
    assert ["test error − teacher's", "+10.00, told apart"] in tip["costs"]
    table_of_page = {each["name"]: each for each in data(read("study.csv"))["runs"]}
    assert (
        table_of_page["s1"]["gap_to_teacher_verdict"] == "told apart"
        and table_of_page["a0"]["percent_of_teacher_params"] == 10
    )


def test_a_teacher_that_is_no_row_and_several_schedules(workplace, capsys):
    """A second schedule adds a seed: its rows follow, a job that is in both is one row, groups are over both."""
    study()
    schedule(
        "a.json", "digits student -t t0 -s s0 --conv ACDC_4 --seed 0", "digits teacher -t a0 --conv ACDC_4 --seed 0"
    )
    schedule(
        "b.json", "digits teacher -t a0 --conv ACDC_4 --seed 0", "digits student -t t1 -s s1 --conv ACDC_4 --seed 1"
    )
    _, out, _ = told(capsys, collate.main, "-o", "study", "--schedule", "a.json", "b.json")
    _, runs, _ = table()
    assert [*runs] == ["s0", "a0", "s1"] and columns(runs, "s0") == [10.0, pytest.approx(10.0), "told apart"]
    assert {runs[name]["group"] for name in ("s0", "s1")} == {"s0"} and columns(runs, "a0")[0] == 10
    assert "note: no job of a.json, b.json, so without a row, but teaching some: t0" in out
    assert told(capsys, collate.main, "-o", "study", "--schedule", "a.json", "--schedule", "b.json")[1] == out
    found = frame("runs", ["b.json", "a.json"])
    assert list(found.name) == ["a0", "s1", "s0"] and found.gap_to_teacher[1] == pytest.approx(10)
    assert list(frame("runs", "a.json").name) == ["s0", "a0"]
    schedule("c.json", "digits teacher -t a0 --conv ACDC_4 --seed 0 --lr 0.5")
    for arguments, says in (
        (
            ["a.json", "c.json"],
            "job 2 of a.json and job 1 of c.json are both named 'a0' but differ (lr was 0.1, is 0.5)",
        ),
        (["a.json", "runs"], "--schedule runs is a folder: give folders of runs before --schedule"),
    ):
        status, said, err = told(capsys, collate.main, "-o", "other", "--schedule", *arguments)
        assert (status, said, len(err.splitlines())) == (2, "", 1) and says in err and not Path("other.csv").exists()


@pytest.mark.parametrize("name, fields, known", [
    ("s1", {"teacher_checkpoint": "t0", "teacher_digest": "another"}, []),  # t0 was trained again after it had taught s0
    ("t1", None, []),  # not finished
    ("t0", {"data_digest": "22"}, ["s1"]),  # tested on other images
    ("s0", {"teacher_checkpoint": "elsewhere"}, ["s1", "s2"]),  # of which nothing is known
])  # fmt: skip
def test_a_gap_that_nobody_knows_is_empty(workplace, capsys, name, fields, known):
    study()
    if fields is None:
        metrics = workplace / "runs" / name / "metrics.jsonl"
        metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:2]))
    else:
        changed(Path("runs") / name, **fields)
    assert told(capsys, collate.main, "-o", "study")[0] == 0
    _, runs, _ = table()
    assert [each for each in ("s0", "s1", "s2") if runs[each]["gap_to_teacher"] is not None] == known
    one_teacher = not known  # or several, or one that is not known: then nobody knows the share of the network alone
    assert columns(runs, "s2")[0] == 10 and columns(runs, "a0")[0] == (10 if one_teacher else None)
    with open("study.csv", newline="") as file:
        assert ("gap_to_teacher" in next(csv.reader(file))) == bool(known)  # left out where it is empty in all rows


def test_a_network_alone_whose_counterparts_have_several_teachers(workplace, capsys):
    teacher(), teacher("u", params=2000, errors=(40.0,) * 3), changed(Path("runs/u"), lr=0.2)
    for name in "tu":
        student(f"of.{name}", *ACDC, of=name, params=100)
    run("digits", "teacher", "-t", "alone", *ACDC, params=100)
    told(capsys, collate.main, "-o", "study")
    _, runs, _ = table()
    assert [columns(runs, name)[0] for name in ("of.t", "of.u", "alone")] == [10.0, 5.0, None]


def test_what_is_published_stands_beside_a_run_of_the_same_setting(workplace, capsys):
    """A student of the published teacher and one of half the epochs, planned, and what is measured of costs."""
    network = "--wrn_depth 28 --wrn_width 10"
    jobs = [
        f"cifar10 teacher -t t {network}", f"cifar10 student -t t -s s --conv ACDC {network}",
        f"cifar10 student -t t -s half --conv ACDC {network} --epochs 100",
    ]  # fmt: skip
    Path("s.json").write_text(json.dumps([["python", "main.py", *job.split()] for job in jobs]))
    teacher("other")
    _, out, _ = told(capsys, collate.main, "-o", "study", "--schedule", "s.json")
    rows, runs, _ = table()
    ends = [[runs[name][f"published_{end}_test_top1_error"] for end in ("min", "max")] for name in runs]
    assert ends == [[3.3, 4.2], [4.99, 4.99], [None, None]] and "1906.00859" in rows["s"]["published_source"]
    assert "3.3 to 4.2" in out and "note: published errors are of single runs on the lossless CIFAR-10" in out


def test_times_and_what_is_left_have_columns_where_a_run_has_them(workplace, capsys):
    for seed, place in enumerate([teacher(), run("digits", "teacher", "-t", "t1", "--seed", "1")]):
        (place / "latency.json").write_text(json.dumps({"latency_ms_8": 1.5 + seed, "latency_on": "this CPU"}))
    _, out, _ = told(capsys, collate.main, "-o", "study")
    assert "inference ms," in out and "batch of 8" in out and "2.00" in out and "not 0" not in out
    rows = [
        json.loads(line) | {"active_parameters": 250} for line in (place / "metrics.jsonl").read_text().splitlines()
    ]
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "latency.json").write_text(json.dumps({"latency_ms_8": 2.5, "latency_on": "another"}))
    _, out, _ = told(capsys, collate.main, "-o", "study")
    assert "batch of 8" not in out and "timed on several machines" in out and "not 0" in out and "250" in out
    page = data(read("study.csv"))
    assert (
        page["latency_sizes"] == [8]
        and page["runs"][1] | {"active_parameters": 250, "latency_ms_8": 2.5} == page["runs"][1]
    )
