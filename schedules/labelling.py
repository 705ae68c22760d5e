"""What the groups of a figure are called: their conv, how weights become 0 or channels are chosen, and in what they are unusual.

    set_labels(pair.groups, all_groups, "WRN-16-2")
    print(pair.groups[0].label)                   # SepHashed_0.1 (β 100)

Imports no torch and no matplotlib.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from gates import registry as gates
from layers.mixed import brief
from models.registry import reference_conv, size_flags
from record.identity import asked, name_of
from schedules.comparable import flags_of_teaching, network_name, setup
from schedules.table import Run, finite, printable
from sparsity import registry as sparsity
from training.registry import GATES_ALONE, teaching_flags

if TYPE_CHECKING:
    from schedules.outcomes import Group

WORDS = {
    "nocrswd": "no CRS",
    "crs_factor": "CRS ×",
    "init_from": "from ",
    "where": "where ",
    "beta": "β ",
    "alpha": "α ",
    "taught by": "by ",
    "weight_decay": "decay ",
    "prune_at": "pruned at ",
    "prune_until": "until ",
    "prune_where": "pruned ",
    "kl_weight": "KL ×",
    "kl_warmup": "KL warm-up ",
    "gate_where": "gates ",
    "gate_weight": "gate loss ×",
    "gate_warmup": "warm-up ",
    "train_where": "trained ",
}
# usual where any group has it, even if another value is more common
USUAL = {flag.dest: str(flag.default) for flag in teaching_flags()} | {"structured_lr": "None"}
ONLY_GATES = "only gates trained"
LETTERS = 24  # of a setting that is text
GENERATIONS = 9  # of runs that start from runs, which are compared; longer chains end in a name


@dataclass(frozen=True, repr=False)
class _Start:
    """The run that another one starts from, in words; as text it is equal for runs that differ in a number of `_numbers` alone."""

    words: str
    settings: str

    def __repr__(self) -> str:
        return self.settings


def set_labels(groups: list[Group], all_groups: Sequence[Group], network: str | None = None) -> None:
    """Set each group's label to the shortest words that tell it from the others: its conv, and in what it is unusual.

    `network`: the one that the figure is of; others are named.
    """
    plain = [group for group in groups if not group.role] or groups
    setups = {group.number: _setup(group, all_groups) for group in groups}
    unsaid = {each.number: {*size_flags(), *sparsity.unsaid(each.first), *gates.unsaid(each.first)} for each in groups}

    def said(group: Group, name: str) -> str:
        """Return a setting as text: not given where it goes without saying, the default where a taught run has none."""
        value = None if name in unsaid[group.number] else setups[group.number][name]
        return USUAL.get(name, "None") if value is None and group.taught else str(value)

    usual = {}
    for taught in {group.taught for group in groups}:
        kin = [each for each in plain if each.taught == taught] or [each for each in groups if each.taught == taught]
        for name in setups[groups[0].number]:
            among_kin = name in (*flags_of_teaching(), "init_from", "taught by")  # students alone, or networks alone
            of = kin if among_kin else plain
            values = [said(each, name) for each in of]
            default = USUAL.get(name)
            usual[taught, name] = default if default in values else Counter(values).most_common(1)[0][0]
    are_several = len({network_name(group.first) for group in plain}) > 1
    for group in groups:
        mine = setups[group.number]
        unusual = [
            each for each in mine if each not in unsaid[group.number] and said(group, each) != usual[group.taught, each]
        ]
        others = {run.get("init_from") for each in all_groups for run in each.runs}
        is_start = any(name_of(run) in others for run in group.runs)
        is_named = are_several and network_name(group.first) != network
        parts = [network_name(group.first)] * is_named + [_words(name, mine[name], group, is_start) for name in unusual]
        parts += ["trained on"] * ("init_from" not in unusual and _only_trains_on(group, groups))
        own = {name: value for name, value in mine.items() if name not in _numbers(group.first)}
        group.line = (group.family, group.taught, str(own))
        group.suffix = "" if group.role else ", ".join(parts)
        group.label = network_name(group.first) if group.role else shown_conv(group.first)
        if group.role == "teacher":
            group.label = teacher_label(group)
        group.label += f" ({group.suffix})" if group.suffix else ""
    twins = Counter(group.label for group in groups if group.role)
    for group in groups:
        if (
            group.role
            and twins[group.label] > 1
            and len({each.taught for each in groups if each.label == group.label}) == 1
        ):
            group.label += f" ({group.first['name'][:32]})"


def _only_trains_on(group: Group, groups: Sequence[Group]) -> bool:
    """Return whether a group without gates goes on from another network: the control of the gated ones."""
    return (
        bool(group.first.get("init_from"))
        and not gates.ways(group.first)
        and any(gates.ways(each.first) for each in groups)
    )


def _numbers(run: Run) -> set[str]:
    """Return the keys in which the runs that one line joins may differ, beside the number of their conv."""
    return sparsity.numbers(run) | gates.numbers()


def _setup(group: Group, groups: Sequence[Group], depth: int = 0) -> dict:
    """Return the settings of its runs, with their teacher as `taught by`, the number of a group or a name, and what they start from."""
    name = group.first.get("teacher_checkpoint") if group.first.get("mode") == "student" else None
    known = next((each.number for each in groups if name and any(name_of(run) == name for run in each.runs)), name)
    start = _start(group.first, groups, depth)
    return setup(group.first) | {"taught by": known, "init_from": start}


def _start(run: Run, groups: Sequence[Group], depth: int) -> _Start | str | None:
    """Return what a run starts from: a group whose channels are chosen too, by its settings, or a name."""
    name = run.get("init_from")
    of = next((each for each in groups if name and any(name_of(run) == name for run in each.runs)), None)
    if of is None or not gates.ways(of.first) or depth == GENERATIONS:
        return name
    own = {key: value for key, value in _setup(of, groups, depth + 1).items() if key not in _numbers(of.first)}
    own = {key: str(value) for key, value in own.items()}
    words = [] if of.first["gate"] == run.get("gate") else [shown_conv(of.first)]
    words += ["gates trained first"] if of.first.get("train_where") == GATES_ALONE else []
    return _Start(", ".join(words or [shown_conv(of.first)]), str((of.family, own)))


def teacher_label(group: Group) -> str:
    """Return what a teacher is called: `teacher WRN-16-1`, `teacher WRN-16-1 Sep`."""
    conv = shown_conv(group.first)
    reference = reference_conv(group.first["network"])
    return f"teacher {network_name(group.first)}" + ("" if conv in ("Conv", reference) else f" {conv}")


def shown_conv(run: Run) -> str:
    """Return the run's conv, such as `SepHashed_0.1`, a mixed one in brief, or the file name of a user's module.

    Where weights become 0 or channels are chosen it is followed by how; of the network's own conv that is all: `TopK_0.05`.
    """
    ways = [*sparsity.ways(run).values(), *gates.ways(run).values()]
    if not run.get("conv"):
        return printable(", ".join([PurePath(run.get("module") or run["family"]).name, *ways]))
    own = [] if ways and run["conv"] == reference_conv(run["network"]) else [brief(asked(run))]
    return printable(", ".join([*own, *ways]))


def described(run: Run, suffix: str = "") -> str:
    """Return the run's conv and gate, and what else tells it apart: `Conv, FBS_0.5 (warm-up 1)`.

    `suffix`: that of its group's label, which a figure of frozen gates alone leaves out.
    """
    conv = shown_conv(run)
    if gates.ways(run) and run.get("conv") == reference_conv(run["network"]):
        conv = f"{brief(asked(run))}, {conv}"
    frozen = run.get("train_where") == GATES_ALONE and ONLY_GATES not in suffix
    more = ", ".join(filter(None, (suffix, ONLY_GATES if frozen else "")))
    return conv + (f" ({more})" if more else "")


def _words(name: str, value, group: Group, is_start: bool) -> str:
    """Return a setting in words: `β 100`, `no CRS`, `by t`. `is_start`: whether others start from the group's runs."""
    if name == "nocrswd":
        return WORDS[name] if value else "CRS"
    if name == "init_from" and value is None:
        return "the start" if is_start else "from scratch"
    if name == "train_where" and value == GATES_ALONE:
        return ONLY_GATES
    if isinstance(value, _Start):
        return WORDS[name] + value.words
    if name == "init_from":  # names of a study begin alike
        start = printable(str(value))
        return WORDS[name] + (start if len(start) <= LETTERS else f"…{start[1 - LETTERS :]}")
    value = group.first["teacher_checkpoint"] if name == "taught by" and value is not None else value
    shown = f"{value:g}" if finite(value) else printable(str(value))[:LETTERS]
    return WORDS.get(name, name + " ") + shown
