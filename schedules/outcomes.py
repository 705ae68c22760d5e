"""Read the results of a study, the table of `python -m schedules.collate`, as runs, groups and pairs to draw.

    study = read("study.csv")                     # and the learning curves of study.json, where it lies beside
    for pair in study.pairs:                      # one for each figure: the same data, network and length of training
        print(pair.title)                         # cifar10, WRN-28-10, 200 epochs
        for group in pair.groups:                 # the finished runs that differ in their seed alone
            print(group.label, group.error, group.std, group.cost["params"])

comparable.py decides which runs one figure may show. Imports no torch and no matplotlib.
"""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from layers.mixed import brief
from models.registry import reference_conv, size_flags
from record.identity import asked, dataset_key, name_of
from schedules import comparable, table
from schedules.comparable import Comparison, comparisons, differing, flags_of_teaching, network_name, setup
from schedules.table import COSTS, COUNTED, MEASURES, Run, finite, printable
from system.errors import RequestError

__all__ = ["MEASURES", "Group", "Pair", "Run", "Study", "network_name", "read", "setup"]

WORDS = {
    "nocrswd": "no CRS",
    "crs_factor": "CRS ×",
    "init_from": "from ",
    "where": "where ",
    "beta": "β ",
    "alpha": "α ",
    "taught by": "by ",
    "prune": "",
    "l1": "L1 ",
}


@dataclass
class Group:
    """The finished runs that differ in their seed alone: their mean error in %, and its deviation (None of one run)."""

    number: int
    runs: list[Run]
    error: float
    std: float | None
    label: str = ""
    suffix: str = ""  # what its label says beyond the conv
    role: str = ""  # "teacher", "control" (the reference conv at another width) or none
    line: tuple = ()  # equal for the groups that one line may join: they differ in the number of their conv, or of how they are pruned, alone

    @property
    def first(self) -> Run:
        """Its first run, which has the configuration of all but for the seed."""
        return self.runs[0]

    @property
    def family(self) -> str:
        """The family of its blocks, as in a table: `SepHashed`, `TensorTrain_x_4`, `module mine.py`."""
        return self.first["family"]

    @property
    def taught(self) -> bool:
        """Whether its runs had a teacher."""
        return self.first["taught"] is True

    @property
    def cost(self) -> dict[str, float]:
        """The costs of its network, by the names in table.COSTS, and `active_parameters`, which are all unless it was pruned."""
        active = self.first.get("active_parameters")
        return {cost: self.first[cost] for cost in COSTS} | {
            "active_parameters": active if finite(active) else self.first["params"]
        }

    def curve(self, measure: str) -> list[tuple[int, float]]:
        """Return (epoch, mean of the measure over its runs) for each epoch that every run with rows has measured.

        Epochs count from 1. A run need not test every epoch.
        """
        curves = [
            {
                row["epoch"] + 1: row[measure]
                for row in run["rows"]
                if finite(row.get(measure)) and finite(row.get("epoch"))
            }
            for run in self.runs
            if run["rows"]
        ]
        shared = sorted(set.intersection(*map(set, curves))) if curves else []
        return [(epoch, statistics.fmean(curve[epoch] for curve in curves)) for epoch in shared]


@dataclass
class Pair:
    """All results of one network on one set of data after one number of epochs: what one figure may show."""

    dataset: str
    network: str
    runs: list[Run]
    groups: list[Group]
    guides: list[Group] = field(default_factory=list)  # teachers, which may be of another figure
    without_configuration: int = 0  # unfinished runs of no known network, which every figure counts
    comparison: Comparison = field(default_factory=lambda: Comparison({}))
    apart: tuple[str, ...] = ()  # by what kinds of things it differs from other pairs of this dataset and network

    @property
    def title(self) -> str:
        """The words that tell it from the others, such as `cifar10, WRN-28-10, 200 epochs`."""
        words = self.comparison.words
        kinds = ["network", *["epochs"] * bool(self.epochs), *(kind for kind in self.apart if kind in words)]
        return ", ".join([self.dataset, *(words[kind] for kind in dict.fromkeys(kinds) if kind in words)])

    @property
    def is_pruned(self) -> bool:
        """Whether any of its groups has parameters that are 0."""
        return any(group.cost["active_parameters"] != group.cost["params"] for group in self.groups)

    @property
    def epochs(self) -> int | None:
        """How many epochs its runs have; None where no record says."""
        return comparable.epochs(self.groups[0].first)

    @property
    def undrawn(self) -> Counter:
        """The number of runs that are in no group, by the reason."""
        drawn = {id(run) for group in self.groups for run in group.runs}
        left = [run["state"] for run in self.runs if id(run) not in drawn]
        counts = Counter("without result" if state == "finished" else state for state in left)
        return counts + Counter({"without a configuration": self.without_configuration})


@dataclass
class Study:
    """The whole table, in its order, with the conflicts that the JSON file lists."""

    path: Path
    measure: str
    runs: list[Run]
    pairs: list[Pair]
    conflicts: list[str]


def read(path: str, measure: str = MEASURES[0]) -> Study:
    """Return the study of the table at `path`; raise RequestError where it is none, or no run in it has finished.

    The learning curves are read from the JSON file beside it, if there is one.
    """
    runs, beside = table.read(path), Path(path).with_suffix(".json")
    there = beside.is_file() and beside != Path(path)
    rows, conflicts, elsewhere = table.read_epochs(str(beside)) if there else ({}, [], [])
    for run in runs:
        run["rows"] = rows.get((run["folder"], run["name"]), [])
    groups = _groups(runs, measure)
    if not groups:
        states = ", ".join(f"{count} {state}" for state, count in Counter(run["state"] for run in runs).items())
        raise RequestError(f"{path} has no finished run with a {measure} to draw ({states or 'no run at all'})")
    teachers = [replace(group, number=len(groups) + group.number) for group in _groups(elsewhere, measure)]
    return Study(Path(path), measure, runs, _pairs(runs, groups, teachers), conflicts)


def _pairs(runs: list[Run], groups: list[Group], elsewhere: list[Group]) -> list[Pair]:
    """Return a pair for each comparison with a group; runs with a result but no configuration are one of their own."""
    known = comparisons(runs)
    bare = [place for place, run in enumerate(runs) if not (run["dataset"] and run["network"])]
    unfinished = sum(runs[place]["state"] != "finished" for place in bare)
    found = [(each, _members(runs, groups, each)) for each in [*known, Comparison({}, own=bare)]]
    drawn = [(comparison, members) for comparison, members in found if members]
    pairs = []
    for comparison, members in drawn:
        first = members[0].first
        kin = [each for each, of in drawn if (of[0].first["dataset"], of[0].first["network"]) == _place(first)]
        shown = [runs[place] for place in sorted(comparison.own + comparison.controls)]
        pair = Pair(*_place(first), shown, members, comparison=comparison)
        pair.apart = tuple(differing(kin))
        pair.without_configuration = unfinished if all(_place(first)) else 0
        _assign(pair, runs, groups, elsewhere)
        pairs.append(pair)
    return pairs


def _place(run: Run) -> tuple[str, str]:
    return run["dataset"], run["network"]


def _members(runs: list[Run], groups: list[Group], comparison: Comparison) -> list[Group]:
    """Return the groups of a comparison as copies: a group may have another role in each figure."""
    inside = {id(runs[place]) for place in comparison.own + comparison.controls}
    return [replace(group) for group in groups if id(group.first) in inside]


def _groups(runs: list[Run], measure: str) -> list[Group]:
    """Return the groups of the finished runs with a result and costs, with the table's mean and deviation, if any.

    Published mult-adds may be unknown.
    """
    members: dict[tuple, list[Run]] = {}
    for number, run in enumerate(runs):
        whole = finite(run.get(measure)) and all(finite(run[cost]) and run[cost] > 0 for cost in COUNTED)
        if run["state"] == "finished" and whole:
            key = (run["dataset"], run["network"], run["group"] or f"run {number}")
            members.setdefault(key, []).append(run)
    groups = []
    for of_group in members.values():
        errors = [run[measure] for run in of_group]
        mean, std = (of_group[0].get(f"{kind}_{measure}") for kind in ("mean", "std"))
        own = statistics.stdev(errors) if len(errors) > 1 else None
        mean, std = (mean if finite(mean) else statistics.fmean(errors)), (std if finite(std) else own)
        groups.append(Group(len(groups), of_group, mean, std))
    return groups


def _assign(pair: Pair, runs: list[Run], groups: list[Group], elsewhere: list[Group]) -> None:
    """Set the role, the label and the line of each group of a pair, and the pair's teachers.

    `elsewhere`: teachers of other studies.
    """
    taught_any = {group.number for group in _teachers(runs, groups, groups)}
    controls = {id(runs[place]) for place in pair.comparison.controls}
    for group in pair.groups:
        group.role = "teacher" if group.number in taught_any else "control" if id(group.first) in controls else ""
    _label(pair.groups, [*groups, *elsewhere])
    own = {group.number: group for group in pair.groups}
    for group in _teachers(pair.runs, [*groups, *elsewhere], pair.groups):
        label = ", ".join([_teacher_label(group), *_unlike(group, pair)])
        pair.guides.append(own.get(group.number) or replace(group, label=label, role="teacher"))


def _unlike(group: Group, pair: Pair) -> list[str]:
    """Return in what a teacher was trained unlike the runs of a pair, in words."""
    words, shown = comparable.words(group.first), pair.comparison.words
    return [words[kind] for kind in ("epochs", "images", "side", "augment") if shown and words[kind] != shown[kind]]


def _teachers(students: list[Run], groups: list[Group], tested_as: list[Group]) -> list[Group]:
    """Return the groups that the students name as their teachers, and that were tested on the same images."""
    names = {run.get("teacher_checkpoint") for run in students if run.get("mode") == "student"} - {None}
    tests = {_tested_on(group.first) for group in tested_as}
    return [
        group for group in groups
        if any(name_of(run) in names for run in group.runs) and any(_alike(_tested_on(group.first), each) for each in tests)
    ]  # fmt: skip


def _tested_on(run: Run) -> tuple[str, str | None]:
    """Return what the run's test images are compared by, and their digest if it is known."""
    digest = run.get("data_test_digest") or run.get("data_digest")
    return dataset_key(run["dataset"], digest), digest


def _alike(one: tuple, other: tuple) -> bool:
    """Return whether nothing that is known of two sets of test images tells them apart."""
    return one[0] == other[0] and (one[1] == other[1] or None in (one[1], other[1]))


def _teacher_label(group: Group) -> str:
    conv = shown_conv(group.first)
    reference = reference_conv(group.first["network"])
    return f"teacher {network_name(group.first)}" + ("" if conv in ("Conv", reference) else f" {conv}")


def _label(groups: list[Group], all_groups: Sequence[Group]) -> None:
    """Set each group's label to the shortest words that tell it from the others: its conv, and in what it is unusual."""
    plain = [group for group in groups if not group.role] or groups
    setups = {group.number: _setup(group, all_groups) for group in groups}

    usual = {}
    for taught in {group.taught for group in groups}:
        kin = [each for each in plain if each.taught == taught] or [each for each in groups if each.taught == taught]
        for name in setups[groups[0].number]:
            among_kin = name in (*flags_of_teaching(), "init_from", "taught by")  # students alone, or networks alone
            of = kin if among_kin else plain
            usual[taught, name] = Counter(str(setups[each.number][name]) for each in of).most_common(1)[0][0]
    several = len({network_name(group.first) for group in plain}) > 1
    for group in groups:
        mine = setups[group.number]
        unusual = [name for name in mine if name not in size_flags() and str(mine[name]) != usual[group.taught, name]]
        parts = [network_name(group.first)] * several + [_words(name, mine[name], group) for name in unusual]
        group.line = (group.family, group.taught, str({**mine, "prune": None}))
        group.suffix = "" if group.role else ", ".join(parts)
        group.label = network_name(group.first) if group.role else shown_conv(group.first)
        if group.role == "teacher":
            group.label = _teacher_label(group)
        group.label += f" ({group.suffix})" if group.suffix else ""
    twins = Counter(group.label for group in groups if group.role)
    for group in groups:
        if (
            group.role
            and twins[group.label] > 1
            and len({each.taught for each in groups if each.label == group.label}) == 1
        ):
            group.label += f" ({group.first['name'][:32]})"


def _setup(group: Group, groups: Sequence[Group]) -> dict:
    """Return the settings of its runs, with their teacher as `taught by`: the number of a group, or a name."""
    name = group.first.get("teacher_checkpoint") if group.first.get("mode") == "student" else None
    known = next((each.number for each in groups if name and any(name_of(run) == name for run in each.runs)), name)
    return setup(group.first) | {"taught by": known}


def shown_conv(run: Run) -> str:
    """Return the run's conv, such as `SepHashed_0.1`, a mixed one in brief, or the file name of a user's module."""
    if run.get("conv"):
        return printable(brief(asked(run)))
    return printable(PurePath(run.get("module") or run["family"]).name)


def _words(name: str, value, group: Group) -> str:
    """Return a setting in words: `β 100`, `no CRS`, `by t`."""
    if name == "nocrswd":
        return WORDS[name] if value else "CRS"
    value = group.first["teacher_checkpoint"] if name == "taught by" and value is not None else value
    shown = f"{value:g}" if finite(value) else printable(str(value))[:24]
    return WORDS.get(name, name + " ") + shown
