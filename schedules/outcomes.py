"""What came of a study: the table that `python -m schedules.collate` wrote, as runs, groups and pairs to draw.

    study = read("study.csv")                     # and the learning curves of study.json, where it lies beside
    for pair in study.pairs:                      # one for each dataset and network
        for group in pair.groups:                 # the finished runs that differ in their seed alone
            print(group.label, group.error, group.std, group.cost["params"])

Imports no torch and no matplotlib.
"""

import csv
import io
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import cli
import flags
from errors import RequestError, first_line
from identity import NOT_IDENTITY, name_of
from presets import PRESETS, WIDTHS

COSTS = ("params", "mult_adds", "mult_adds_exact")
MEASURES = [
    f"{kind}_{top}_error" for kind in ("test", "best_test", "val") for top in ("top1", "top5")
]  # what a group can be judged by
NEEDED = ("name", "state", "family", "taught", "group", "dataset", "network", *COSTS, MEASURES[0])
TEXT = {
    "name", "state", "reason", "family", "group", "folder", "git_commit", "dataset", "network", "mode", "conv", "module",
    "where", "teacher_checkpoint", "student_checkpoint", "init_from",
}  # fmt: skip
ROLES = {"teacher_checkpoint", "student_checkpoint", "seed", "mode", "conv", "module", "help", "dataset", "network"}
SHAPE = ("wrn_depth", "wrn_width", "width_mult")  # a label tells these wherever they are not the usual ones
WORDS = {
    "nocrswd": "no CRS",
    "crs_factor": "CRS ×",
    "init_from": "from ",
    "where": "where ",
    "beta": "β ",
    "alpha": "α ",
}

Run = dict  # one row of the table, with proper types; `rows` are its epochs'


@dataclass
class Group:
    """The finished runs that differ in their seed alone. Errors are in %; `std` is None of a single run."""

    number: int
    runs: list[Run]
    error: float
    std: float | None
    label: str = ""
    suffix: str = ""  # what its label says beyond the conv
    role: str = ""  # "teacher", "control" (the reference conv at another width) or none

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def family(self) -> str:
        return self.first["family"]

    @property
    def taught(self) -> bool:
        return self.first["taught"] is True

    @property
    def cost(self) -> dict[str, float]:
        return {cost: self.first[cost] for cost in COSTS}

    def curve(self, measure: str) -> list[tuple[int, float]]:
        """Epochs, counted from 1, and the mean over its runs, of the epochs that every run with rows has."""
        curves = [
            {
                row["epoch"] + 1: row[measure]
                for row in run["rows"]
                if _finite(row.get(measure)) and _finite(row.get("epoch"))
            }
            for run in self.runs
            if run["rows"]
        ]
        shared = sorted(set.intersection(*map(set, curves))) if curves else []
        return [(epoch, statistics.fmean(curve[epoch] for curve in curves)) for epoch in shared]


@dataclass
class Pair:
    """All that is known of one network on one dataset."""

    dataset: str
    network: str
    runs: list[Run]
    groups: list[Group]
    guides: list[Group] = field(default_factory=list)  # teachers, which may be another network
    strays: int = 0  # runs that ended before they had a configuration: of no network, and so told of with every one

    @property
    def undrawn(self) -> Counter:
        """How many runs are in no group, by why; those without a configuration too."""
        drawn = {id(run) for group in self.groups for run in group.runs}
        left = [run["state"] for run in self.runs if id(run) not in drawn]
        counts = Counter("without result" if state == "finished" else state for state in left)
        return counts + Counter({"without a configuration": self.strays})


@dataclass
class Study:
    """The whole table, in its order, with what the JSON file says of conflicts."""

    path: Path
    measure: str
    runs: list[Run]
    pairs: list[Pair]
    conflicts: list[str]


def read(path: str, measure: str = MEASURES[0]) -> Study:
    """The study whose table is `path`. RequestError where it is none, or where no run in it has finished."""
    runs, beside = _table(path), Path(path).with_suffix(".json")
    rows, conflicts = _json(str(beside)) if beside.is_file() and beside != Path(path) else ({}, [])
    for run in runs:
        run["rows"] = rows.get((run["folder"], run["name"]), [])
    by_pair: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_pair.setdefault((run["dataset"], run["network"]), []).append(run)
    groups = _groups(runs, measure)
    if not groups:
        states = ", ".join(f"{count} {state}" for state, count in Counter(run["state"] for run in runs).items())
        raise RequestError(f"{path} has no finished run with a {measure} to draw ({states or 'no run at all'})")
    strays = sum(run["state"] != "finished" and not (run["dataset"] and run["network"]) for run in runs)
    pairs = []
    for (dataset, network), members in by_pair.items():
        own = [group for group in groups if (group.first["dataset"], group.first["network"]) == (dataset, network)]
        if own:
            pairs.append(_pair(dataset, network, members, own, runs, groups))
            pairs[-1].strays = strays if dataset and network else 0
    return Study(Path(path), measure, runs, pairs, conflicts)


def network_name(run: Run) -> str:
    """`WRN-28-10`, `MobileNetV2 ×0.5`, `DARTS`."""
    if run.get("wrn_depth") is not None and run.get("wrn_width") is not None:
        return f"WRN-{run['wrn_depth']:g}-{run['wrn_width']:g}"
    width = run.get("width_mult")
    return run["network"] + (f" ×{width:g}" if _finite(width) and width != 1 else "")


def setup(run: Run, without: Iterable[str] = ()) -> dict:
    """What a run was asked for beside its names, its conv and its seed."""
    fields = {action.dest for action in flags.training_parser()._actions} - ROLES - set(NOT_IDENTITY) - set(without)
    return {name: run.get(name) for name in sorted(fields)}


def _table(path: str) -> list[Run]:
    try:
        text = cli.read_file(path).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = reader.fieldnames or []
        if missing := [name for name in NEEDED if name not in columns]:
            shown = ", ".join(missing[:4]) + (", …" if len(missing) > 4 else "")
            raise RequestError(f"{path} is no table of schedules.collate: it has no column {shown}")
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path} is no table of schedules.collate: {first_line(error)}")
    return [_typed(row) for row in rows]


def _typed(row: dict) -> Run:
    """Proper types: None for what is empty, and words stay words."""
    run = {name: _value(name, text) for name, text in row.items() if name is not None}
    for name in ("name", "state", "family", "group", "dataset", "network"):
        run[name] = _printable(run[name] or "")
    run["folder"], run["reason"] = run.get("folder") or "", _printable(run.get("reason") or "")
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


def _printable(text: str) -> str:
    """Control characters have no place in a figure, and none in XML."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _json(path: str) -> tuple[dict, list[str]]:
    """The epochs of every run, by folder and name, and the conflicts."""
    try:
        study = json.loads(cli.read_file(path))
        rows = {
            (run.get("folder") or "", _printable(run["name"] or "")): run.get("rows") or [] for run in study["runs"]
        }
        if not all(isinstance(row, dict) for each in rows.values() for row in each):
            raise TypeError("rows of a run are no list of objects")
        return rows, [_printable(str(text)) for text in study.get("conflicts") or []]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RequestError(f"{path} is no study of schedules.collate: {type(error).__name__}: {first_line(error)}")


def _finite(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _groups(runs: list[Run], measure: str) -> list[Group]:
    """Of the finished runs with a result and costs; mean and deviation are the table's, where it has them."""
    members: dict[tuple, list[Run]] = {}
    for number, run in enumerate(runs):
        whole = _finite(run.get(measure)) and all(_finite(run[cost]) and run[cost] > 0 for cost in COSTS)
        if run["state"] == "finished" and whole:
            key = (run["dataset"], run["network"], run["group"] or f"run {number}")
            members.setdefault(key, []).append(run)
    groups = []
    for of_group in members.values():
        errors = [run[measure] for run in of_group]
        mean, std = (of_group[0].get(f"{kind}_{measure}") for kind in ("mean", "std"))
        own = statistics.stdev(errors) if len(errors) > 1 else None
        mean, std = (mean if _finite(mean) else statistics.fmean(errors)), (std if _finite(std) else own)
        groups.append(Group(len(groups), of_group, mean, std))
    return groups


def _pair(
    dataset: str, network: str, runs: list[Run], groups: list[Group], all_runs: list[Run], all_groups: list[Group]
) -> Pair:
    """Says of each group whether it taught, is the control or neither, and names it."""
    guides = _teachers(runs, all_groups, dataset)
    teachers = _teachers(all_runs, all_groups, dataset)
    reference = PRESETS.get(network, {}).get("conv", "Conv")
    width = WIDTHS.get(network)
    widths = {group.first.get(width) for group in guides}
    for group in groups:
        if any(group is each for each in teachers):
            group.role = "teacher"
        elif group.family == reference and width is not None and guides and group.first.get(width) not in widths:
            group.role = "control"
    _label(groups)
    return Pair(dataset, network, runs, groups, guides)


def _teachers(students: list[Run], groups: list[Group], dataset: str) -> list[Group]:
    """The groups that some of the students name as who taught them."""
    names = {run.get("teacher_checkpoint") for run in students if run.get("mode") == "student"} - {None}
    of_dataset = [group for group in groups if group.first["dataset"] == dataset]
    return [group for group in of_dataset if any(name_of(run) in names for run in group.runs)]


def _label(groups: list[Group]) -> None:
    """The shortest words that tell each from the others: its conv, and in what it is unusual."""
    plain = [group for group in groups if not group.role]
    setups = {group.number: setup(group.first) for group in groups}
    usual = {
        name: Counter(str(setups[group.number][name]) for group in plain or groups).most_common(1)[0][0]
        for name in setups[groups[0].number]
    }
    bare = {group.number: (_conv(group.first), group.taught) for group in groups}
    for group in groups:
        mine = setups[group.number]
        twins = [setups[each.number] for each in plain if bare[each.number] == bare[group.number]]
        parts = [network_name(group.first)] if any(str(mine[name]) != usual[name] for name in SHAPE) else []
        for name in mine:
            unusual = name not in SHAPE and str(mine[name]) != usual[name]
            if unusual and any(twin[name] != mine[name] for twin in twins):
                parts.append(_words(name, mine[name]))
        group.suffix = "" if group.role else ", ".join(parts)
        group.label = network_name(group.first) if group.role else _conv(group.first)
        if group.role == "teacher":
            group.label = f"teacher {group.label}" + ("" if group.first["conv"] == "Conv" else f" {_conv(group.first)}")
        group.label += f" ({group.suffix})" if group.suffix else ""


def _conv(run: Run) -> str:
    """`SepHashed_0.1`, or the file name of a user's module."""
    return _printable(run.get("conv") or PurePath(run.get("module") or run["family"]).name)


def _words(name: str, value) -> str:
    if name == "nocrswd":
        return WORDS[name] if value else "CRS"
    shown = f"{value:g}" if _finite(value) else _printable(str(value))[:24]
    return WORDS.get(name, name + " ") + shown
