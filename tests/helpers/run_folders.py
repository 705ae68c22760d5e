"""Folders of runs that nobody trained, and what is collated of them."""

import csv
import json
from pathlib import Path

from cli import command as cli_command
from cli import options
from record import outcome

NETWORK = ["--wrn_depth", "10", "--wrn_width", "1", "--epochs", "3"]


def run(*arguments, errors=(50.0, 40.0, 30.0), folder="runs", end=None, **counts):
    """What a run with these flags leaves after as many epochs as there are errors."""
    config = {key: value for key, value in options.training([*arguments, *NETWORK]).items() if key != "resume"}
    name = config["student_checkpoint"] or config["teacher_checkpoint"]
    place = Path(folder) / name
    place.mkdir(parents=True)
    costs = {"params": 1000, "crs_ratio": 0.5, "mult_adds": 2e6, "mult_adds_exact": 1e6, "stored_bytes": 4000} | counts
    document = {
        "config": config,
        "counts": costs,
        "argv": ["main.py", *arguments, *NETWORK],
        "versions": {"git_commit": "c"},
    }
    (place / "config.json").write_text(json.dumps(document))
    rows = [
        {"epoch": epoch, "test_top1_error": error, "test_top5_error": error / 5, "best_test_top1_error": min(errors[: epoch + 1]),
         "seconds": 2.0, "images_per_second": 700.0}
        for epoch, error in enumerate(errors)
    ]  # fmt: skip
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if end is not None:
        outcome.note(place, *end)
    return place


def teacher(name="t", **keywords):
    return run("digits", "teacher", "-t", name, **keywords)


def student(name, *flags, of="t", **keywords):
    return run("digits", "student", "-t", of, "-s", name, *flags, **keywords)


def table(name="study"):
    with open(f"{name}.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    document = json.loads(Path(f"{name}.json").read_text())
    assert [*rows] == [each["name"] for each in document["runs"]]
    return rows, {each["name"]: each for each in document["runs"]}, document["conflicts"]


def told(capsys, main, *arguments):
    status = cli_command.run(lambda: main([*arguments]))
    out, err = capsys.readouterr()
    return status, out, err
