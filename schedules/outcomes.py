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
from dataclasses import dataclass, field, replace
from pathlib import Path

from record.identity import name_of
from schedules import comparable, table
from schedules.comparable import Comparison, alike, comparisons, differing, tested_on
from schedules.grouping import one_of_each_seed
from schedules.labelling import set_labels, teacher_label
from schedules.table import COSTS, COUNTED, MEASURES, Run, finite
from system.errors import RequestError
from training.registry import GATES_ALONE


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
    line: tuple = ()  # equal for the groups that one line may join: they differ in a number of their conv or of their sparsity alone

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
    def cost(self) -> dict[str, float | None]:
        """The costs of its network, by the names in table.COSTS, and of what is not 0 or not closed, by the names below.

        These are means over its runs. Without a record of that all are active and open. A share is that of one parameter at
        least. `active_mult_adds` is None where a run that has become sparse does not say it.
        """
        of_all = {
            "active_parameters": (self.first["params"], 1), "active_fraction": (1.0, 1 / self.first["params"]),
            "active_mult_adds": (self.first["mult_adds_exact"], 1), "mult_adds_gated": (self.first["mult_adds_exact"], 1),
        }  # fmt: skip
        left = {
            name: statistics.fmean(max(run[name], least) if finite(run.get(name)) else whole for run in self.runs)
            for name, (whole, least) in of_all.items()
        }
        if any(finite(run.get("active_parameters")) and not finite(run.get("active_mult_adds")) for run in self.runs):
            left["active_mult_adds"] = None
        return {cost: self.first[cost] for cost in COSTS} | left | self._times()

    def _times(self) -> dict[str, float]:
        """Return the mean median ms of inference, for the batch sizes that all of its runs have measured."""
        sizes = set.intersection(*(set(table.latency_sizes(run)) for run in self.runs))
        return {
            f"latency_ms_{each}": statistics.fmean(run[f"latency_ms_{each}"] for run in self.runs) for each in sizes
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
    is_shown_elsewhere: bool = (
        False  # whether it holds a teacher alone, which is drawn beside its students in another figure
    )

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
    def is_gated(self) -> bool:
        """Whether in any of its groups channels are chosen for each image, and what that takes is known."""
        return any(finite(run.get("mult_adds_gated")) for group in self.groups for run in group.runs)

    @property
    def latency_sizes(self) -> list[int]:
        """The batch sizes for which any of its runs says how long inference takes, rising."""
        return sorted({size for group in self.groups for run in group.runs for size in table.latency_sizes(run)})

    @property
    def machines(self) -> list[str]:
        """On what the inference of its runs was timed; times of several machines are not compared."""
        return table.machines(run for group in self.groups for run in group.runs)

    @property
    def is_frozen(self) -> bool:
        """Whether in all of its groups only the gates were trained."""
        return all(group.first.get("train_where") == GATES_ALONE for group in self.groups)

    def has_one_cost(self, cost: str) -> bool:
        """Return whether its groups, which are told apart by what their gates leave, all cost the same otherwise."""
        costs = {group.cost[cost] for group in self.groups}
        return self.is_gated and len(self.groups) > 1 and len(costs) == 1 and None not in costs

    @property
    def epochs(self) -> int | None:
        """How many epochs its runs have; None where no record says."""
        return comparable.epochs(self.groups[0].first)

    @property
    def undrawn(self) -> Counter:
        """The number of runs that are in no group, by the reason."""
        drawn = {id(run) for group in self.groups for run in group.runs}
        left = [run for run in self.runs if id(run) not in drawn]
        seeds = {(run.get("group"), run.get("seed")) for group in self.groups for run in group.runs}
        again = {True: "repeated", False: "without result"}
        counts = Counter(
            again[(run.get("group"), run.get("seed")) in seeds] if run["state"] == "finished" else run["state"]
            for run in left
        )
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
    runs, conflicts, elsewhere = table.read_with_epochs(path)
    groups = _groups(runs, measure)
    if not groups:
        states = ", ".join(f"{count} {state}" for state, count in Counter(run["state"] for run in runs).items())
        instead = next((each for each in MEASURES if _groups(runs, each)), None)
        hint = f": they have another error, give --error {instead}" if instead else ""
        raise RequestError(f"{path} has no finished run with a {measure} to draw ({states or 'no run at all'}){hint}")
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
    lone = {id(each) for each in pairs if [(of.role, of.taught) for of in each.groups] == [("teacher", False)]}
    guides = {group.number for pair in pairs if id(pair) not in lone for group in pair.guides}
    for pair in pairs:
        pair.is_shown_elsewhere = id(pair) in lone and pair.groups[0].number in guides
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
    for of_group in map(one_of_each_seed, members.values()):
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
    controls = {id(runs[place]) for place in pair.comparison.controls if comparable.is_reference(runs[place])}
    for group in pair.groups:
        group.role = "teacher" if group.number in taught_any else "control" if id(group.first) in controls else ""
    set_labels(pair.groups, [*groups, *elsewhere], pair.comparison.words.get("network"))
    own = {group.number: group for group in pair.groups}
    for group in _teachers(pair.runs, [*groups, *elsewhere], pair.groups):
        label = ", ".join([teacher_label(group), *_unlike(group, pair)])
        pair.guides.append(own.get(group.number) or replace(group, label=label, role="teacher"))


def _unlike(group: Group, pair: Pair) -> list[str]:
    """Return in what a teacher was trained unlike the runs of a pair, in words."""
    words, shown = comparable.words(group.first), pair.comparison.words
    return [words[kind] for kind in ("epochs", "images", "side", "augment") if shown and words[kind] != shown[kind]]


def _teachers(students: list[Run], groups: list[Group], tested_as: list[Group]) -> list[Group]:
    """Return the groups that the students name as their teachers, and that were tested on the same images."""
    names = {run.get("teacher_checkpoint") for run in students if run.get("mode") == "student"} - {None}
    tests = {tested_on(group.first) for group in tested_as}
    return [
        group for group in groups
        if any(name_of(run) in names for run in group.runs) and any(alike(tested_on(group.first), each) for each in tests)
    ]  # fmt: skip
