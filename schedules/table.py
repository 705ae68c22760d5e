"""Read the table that `python -m schedules.collate` wrote: rows with proper types, and the epochs of each.

    runs = read("study.csv")
    runs, conflicts, teachers = read_with_epochs("study.csv")          # those of study.json, where it lies beside

Imports no torch and no matplotlib.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path

from system import files
from system.errors import RequestError, first_line

COUNTED = ("params", "mult_adds_exact")  # of every run that a figure shows
COSTS = (*COUNTED, "mult_adds")  # the published convention does not know every network
MEASURES = [
    f"{kind}_{top}_error" for kind in ("test", "best_test", "val") for top in ("top1", "top5")
]  # the columns that a figure may show
NEEDED = ("name", "state", "family", "taught", "group", "dataset", "network", *COSTS, MEASURES[0])
TEXT = {
    "name", "state", "reason", "family", "group", "folder", "git_commit", "dataset", "network", "mode", "conv", "module",
    "where", "teacher_checkpoint", "student_checkpoint", "init_from", "data_digest", "data_test_digest", "data_names",
    "teacher_digest", "init_digest", "module_digest", "network_digest", "loss", "loss_digest", "prune", "prune_where", "gate",
    "gate_where", "train_where", "taps", "widths", "biased", "shrunk_from", "shrunk_digest", "data_folder", "latency_on",
    "gap_to_teacher_verdict", "published_source",
}  # fmt: skip

Run = dict  # one row of the table, with proper types; `rows` are its epochs'


def read(path: str) -> list[Run]:
    """Return the rows of the table at `path`; raise RequestError where it is none."""
    try:
        text = files.read_file(path).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = reader.fieldnames or []
        if missing := [name for name in NEEDED if name not in columns]:
            shown = ", ".join(missing[:4]) + (", …" if len(missing) > 4 else "")
            raise RequestError(f"{path} is no table of schedules.collate: it has no column {shown}")
        rows = list(reader)
        if short := [row["name"] for row in rows if None in row.values()]:
            raise RequestError(f"{path} is damaged: the row of {short[0] or 'a run'} ends before its last column")
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path} is no table of schedules.collate: {first_line(error)}")
    return [_typed(row) for row in rows]


def _typed(row: dict) -> Run:
    """Return a row of the file with proper types: None for an empty cell, and text stays text."""
    run = {name: _value(name, text) for name, text in row.items() if name is not None}
    for name in ("name", "state", "family", "group", "dataset", "network"):
        run[name] = printable(run[name] or "")
    run["folder"], run["reason"] = run.get("folder") or "", printable(run.get("reason") or "")
    run["taught"] = run["taught"] is True
    run["family"] = run["family"] or (f"module {run.get('module')}" if run.get("module") else "unknown")
    return run


def _value(name: str, text: str | None):
    if not text:
        return None
    if name in TEXT:
        return text
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except (ValueError, RecursionError):
        return text


def printable(text: str) -> str:
    """Return the text without control characters, which no figure can show and XML forbids."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def read_epochs(path: str) -> tuple[dict, list[str], list[Run]]:
    """Return the epochs of every run, by folder and name; the conflicts; and the teachers of other studies, as rows.

    Raise RequestError where the file is no study of schedules.collate.
    """
    try:
        study = json.loads(files.read_file(path))
        rows = {(run.get("folder") or "", printable(run["name"] or "")): run.get("rows") or [] for run in study["runs"]}
        if not all(isinstance(row, dict) for each in rows.values() for row in each):
            raise TypeError("rows of a run are no list of objects")
        teachers = [run | {name: run.get(name) for name in NEEDED} for run in study.get("teachers") or []]
        return rows, [printable(str(text)) for text in study.get("conflicts") or []], teachers
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RequestError(f"{path} is no study of schedules.collate: {type(error).__name__}: {first_line(error)}")


def read_with_epochs(path: str) -> tuple[list[Run], list[str], list[Run]]:
    """Return the rows of the table at `path`, each with its epochs as `rows`; the conflicts; and teachers, as read_epochs does.

    These are of the JSON file beside it, if there is one. Raise RequestError where either is none of schedules.collate.
    """
    runs, beside = read(path), Path(path).with_suffix(".json")
    there = beside.is_file() and beside != Path(path)
    epochs, conflicts, teachers = read_epochs(str(beside)) if there else ({}, [], [])
    for run in runs:
        run["rows"] = epochs.get((run["folder"], run["name"]), [])
    return runs, conflicts, teachers


def latency_sizes(run: Run) -> list[int]:
    """Return the batch sizes for which a row says how long inference takes, rising."""
    found = {name: re.fullmatch("latency_ms_([0-9]+)", name) for name in run}
    return sorted(int(match[1]) for name, match in found.items() if match and finite(run[name]))


def machines(runs: Iterable[Run]) -> list[str]:
    """Return on what the inference of runs was timed, in the order of the runs."""
    return list(dict.fromkeys(str(run["latency_on"]) for run in runs if run.get("latency_on")))


def percent(value: float) -> str:
    """Return a number of percent for a table: `10.3 %`, `1.52 %`, `250 %`."""
    return f"{value:.0f} %" if value >= 99.95 else f"{value:.1f} %" if value >= 9.995 else f"{value:.2f} %"


def milliseconds(value: float) -> str:
    """Return a time for a table, to about three digits: `0.415`, `1.52`, `15.1`, `3,200`."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)) if value > 0 else 3):d}f}"


def finite(value: object) -> bool:
    """Return whether a cell is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
