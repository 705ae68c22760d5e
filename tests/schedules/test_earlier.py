"""Earlier tables as sources of a collation: what they keep of runs that are gone, and when none is written over."""

import json
import shutil
from pathlib import Path

from run_folders import NETWORK, student, table, teacher, told

from record import outcome
from schedules import collate
from schedules.table import read as read_table


def test_an_earlier_table_is_a_source(workplace, capsys):
    """Rows of runs that are gone stay, are grouped with new seeds, and are never lost by writing the table again."""
    student("gone", "--seed", "1", folder="a/runs"), teacher(folder="a/runs", errors=(50.0, 40.0, 20.0))
    assert told(capsys, collate.main, "a", "-o", "results")[0] == 0
    before, epochs = Path("results.csv").read_bytes(), {name: run["rows"] for name, run in table("results")[1].items()}
    shutil.move("a", "elsewhere"), Path("results.json").rename("kept.json")
    assert told(capsys, collate.main, "results.csv", "-o", "same")[0] == 0
    assert Path("same.csv").read_bytes() == before
    Path("kept.json").rename("results.json")

    student("new", "--seed", "2", errors=(60.0, 50.0, 40.0)), student("begun", "--lr", "3", errors=(50.0,))
    status, _, err = told(capsys, collate.main, "-o", "results")
    assert (
        status == 2
        and "has 2 finished runs" in err
        and "(gone, t)" in err
        and "name results.csv beside the folders" in err
    )
    assert Path("results.csv").read_bytes() == before
    status, out, _ = told(capsys, collate.main, "runs", "results.csv", "-o", "results")
    rows, runs, conflicts = table("results")
    assert status == 0 and [*rows] == ["begun", "new", "gone", "t"] and not conflicts
    assert {rows[name]["seeds"] for name in ("new", "gone")} == {"2"} and rows["gone"]["mean_test_top1_error"] == "35.0"
    assert rows["new"]["gap_to_teacher"] == "15.0" and runs["gone"]["rows"] == epochs["gone"] != []

    shutil.move("elsewhere/runs/gone", "runs/gone"), student("t", of="u", errors=(50.0,), folder="other")
    Path("plan.json").write_text(json.dumps([["python", "main.py", "digits", "teacher", "-t", "t", *NETWORK]]))
    assert told(capsys, collate.main, "runs", "results.csv", "other", "-o", "short", "--schedule", "plan.json")[0] == 0
    assert [(run["state"], run["test_top1_error"]) for run in table("short")[1].values()] == [("finished", 20.0)]
    assert any("are two runs" in each for each in table("short")[2])  # a student of the teacher's name
    narrow = ["runs", "results.csv", "-o", "results", "--schedule", "plan.json"]
    shutil.copy("results.csv", "kept.csv")
    assert told(capsys, collate.main, *narrow)[0] == 0  # all that it leaves out is in runs
    shutil.copy("kept.csv", "results.csv"), shutil.rmtree("runs/gone")
    status, _, err = told(capsys, collate.main, *narrow)
    assert status == 2 and "has 1 finished run that" in err and "(gone): give the schedules of these too" in err


def test_what_a_table_says_of_runs_that_are_gone(workplace, capsys):
    """Runs that never began, ran or taught without a row of their own, and what contradicts them."""
    Path("runs/never").mkdir(parents=True), outcome.note(Path("runs/never"), 2, "no such dataset")
    odd = student("odd", of="u") / "config.json"
    odd.write_text(odd.read_text().replace('"taps": null', '"taps": "[12]"'))
    teacher(), student("s")
    jobs = [["python", "main.py", "digits", "student", "-t", "t", "-s", name, *NETWORK] for name in ("s", "never")]
    Path("plan.json").write_text(json.dumps(jobs))
    for name, schedule in (("all", []), ("planned", ["--schedule", "plan.json"])):
        told(capsys, collate.main, "-o", name, *schedule)
        status, out, _ = told(capsys, collate.main, f"{name}.csv", "-o", "again", *schedule)
        assert status == 0 and Path("again.csv").read_bytes() == Path(f"{name}.csv").read_bytes()
        assert ("no gap to u" in out) == (name == "all") and "no curves" not in out
    assert read_table("all.csv")[1]["taps"] == "[12]"
    told(capsys, collate.main, "planned.csv", "-o", "few")
    rows, _, _ = table("few")
    assert [*rows] == ["s", "never"] and rows["s"]["gap_to_teacher"] == "0.0"  # its teacher has no row, but is known

    altered = Path("all.csv").read_text().replace("\nt,finished,", "\nt,running,").replace(",30.0,6.0,", ",31.0,6.0,")
    Path("other.csv").write_text(altered)
    status, out, _ = told(capsys, collate.main, "other.csv", "all.csv", "-o", "both")
    rows, _, conflicts = table("both")
    assert status == 0 and rows["t"]["state"] == "finished" and "other.csv: no curves of odd, s, t" in out
    found = "other.csv is used, not all.csv: test_top1_error is 31.0 and 30.0"
    assert conflicts == [f"{name}: {found}" for name in ("odd", "s")]
    told(capsys, collate.main, "both.csv", "-o", "both")
    assert table("both")[2] == conflicts  # which nobody could find again
    told(capsys, collate.main, "other.csv", "-o", "other.rows")
    assert "it was running when other.csv" in table("other.rows")[0]["t"]["reason"]

    shutil.rmtree("runs/t"), student("t", of="u")  # another run of the name
    for name in ("all", "planned"):  # a row, and a teacher that has none
        status, _, err = told(capsys, collate.main, "-o", name)
        assert status == 2 and "has 1 finished run that no folder has any more" in err and "(t)" in err
    status, _, err = told(capsys, collate.main, "planned", "-o", "x")
    assert status == 2 and "planned.csv, which is there" in err


def test_a_study_that_is_run_again_beside_its_table(workplace, capsys):
    """Its teacher has other weights now, one run has begun again, one never had begun before, and the table's files break."""
    jobs = [["python", "main.py", "digits", "student", "-t", "t", "-s", name, *NETWORK] for name in ("s", "u", "early")]
    Path("plan.json").write_text(json.dumps(jobs))
    teacher(), student("s"), student("u", errors=(50.0, 40.0))
    Path("runs/early").mkdir(), outcome.note(Path("runs/early"), 2, "no such dataset")

    def taught_by(digest):
        for path in (Path("runs/s/config.json"), Path("runs/u/config.json")):
            document = json.loads(path.read_text())
            document["config"]["teacher_digest"] = digest
            path.write_text(json.dumps(document))

    taught_by("a" * 16)
    table_and_runs = ["runs", "results.csv", "-o", "results", "--schedule", "plan.json"]
    assert told(capsys, collate.main, "-o", "results", "--schedule", "plan.json")[0] == 0

    for place in ("runs/u", "runs/early"):
        shutil.rmtree(place)
    student("u", errors=(51.0,)), student("early"), taught_by("a" * 16)
    assert told(capsys, collate.main, *table_and_runs)[0] == 0
    rows, _, conflicts = table("results")
    assert rows["u"]["epochs_done"] == "1" and rows["early"]["state"] == "finished" and not conflicts
    taught_by("b" * 16)
    assert told(capsys, collate.main, "-o", "results", "--schedule", "plan.json")[0] == 0

    shutil.rmtree("runs/s")  # and its folder is gone: no damage of the table makes its row worth less
    whole, document = Path("results.csv").read_text(), Path("results.json").read_text()
    for name, text in (("results.json", document[:300]), ("results.csv", whole[:-20])):
        Path(name).write_text(text)
        status, _, err = told(capsys, collate.main, "-o", "results")
        assert status == 2 and "not written over" in err and Path(name).read_text() == text
        Path("results.csv").write_text(whole), Path("results.json").write_text(document)
    Path("results.csv").write_text(whole.replace(",3,3,1000,", ",three,3,1000,"))
    status, _, err = told(capsys, collate.main, *table_and_runs)
    assert status == 2 and "epochs_done of s is 'three', no number" in err
