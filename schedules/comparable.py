"""Find which runs belong in one figure, and which of those on one line.

    for comparison in comparisons(runs):           # one for each figure
        comparison.words                           # {"network": "WRN-16-1", "epochs": "30 epochs", …}
        comparison.own, comparison.controls        # places in `runs`

Runs of one figure have the same data, network and length of training. They differ in their conv, their teacher, their
seed, and maybe in settings such as the learning rate. On one line are the runs that differ in the number of their conv
alone. The reference network at another width is the control that a compression has to beat: it is a point that no line
joins, in the figure of each network that differs from it in nothing else. So is a network whose conv has no number, such as
`Sep`, at another width than those that have one: its width is all that could meet a budget. What a record does not say of its data (old
records have no digest) equals what another one does not say, and nothing else.

Imports no torch and no matplotlib.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cli import flags
from cli.recipes import structured_lr_of
from layers.registry import FAMILIES
from models.registry import NETWORKS, reference_conv, size_flags, tap_flags, width_flag
from record.identity import NOT_IDENTITY, asked, dataset_key
from training import registry

ROLES = {"teacher_checkpoint", "student_checkpoint", "seed", "mode", "conv", "module", "help", "dataset", "network"}
OF_DATA = ("data_digest", "data_train", "data_test", "train_size", "val_size", "image_size")
OF_LENGTH = ("epochs", "augment", "cutout")
PLURALS = {
    "dataset": "datasets", "network": "networks", "epochs": "lengths", "images": "sets of training images",
    "held out": "sizes of what is held out", "data": "sets of data", "side": "image sizes", "augment": "augmentations",
    "cutout": "cutouts",
}  # fmt: skip

Run = dict  # one row of the table


@dataclass
class Comparison:
    """The runs that one figure may show, by their places in the table.

    words: what they share, in words, such as `30 epochs`, by the kind of thing; own: the runs of the figure's network;
    controls: those at other widths, of the reference network and of convs without a number.
    """

    words: dict[str, str]
    own: list[int] = field(default_factory=list)
    controls: list[int] = field(default_factory=list)


def flags_of_teaching() -> tuple[str, ...]:
    """Return the keys of the flags that have no effect without a teacher: those of its losses and of taps."""
    return (*(flag.dest for flag in registry.teaching_flags()), *tap_flags())


def network_name(run: Run) -> str:
    """Return the network's name with its size: `WRN-28-10`, `MobileNetV2 ×0.5`, `DARTS`."""
    return NETWORKS[run["network"]].short_name(run) if run["network"] in NETWORKS else run["network"]


def setup(run: Run, without: Iterable[str] = ()) -> dict:
    """Return the flags of a run that can change its result, without its names, its conv and its seed.

    --structured_lr is None where it is the preset of the conv, which convs that are compared may differ in.
    """
    fields = {action.dest for action in flags.training_parser()._actions} - ROLES - set(NOT_IDENTITY) - set(without)
    rate, preset = run.get("structured_lr"), structured_lr_of(run.get("conv"), run.get("optimizer"))
    known = {**run, "structured_lr": None if rate == preset else rate or 1.0}
    return {name: known.get(name) for name in sorted(fields)}


def is_reference(run: Run) -> bool:
    """Return whether no layer of the run's network is replaced."""
    return not run.get("module") and run.get("family") == reference_conv(run["network"])


def is_of_width_alone(run: Run) -> bool:
    """Return whether the run's conv has no number, so that only the network's width says what it costs.

    Where weights become 0 or channels are chosen, that has a number of its own, and the family is not the conv alone.
    """
    conv = run.get("conv")
    return not run.get("module") and conv in FAMILIES and conv == run.get("family") and not FAMILIES[conv].numbers


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """Return a comparison for each figure, in the order of first runs; runs without a configuration are in none."""
    alike: dict[tuple, list[int]] = {}
    for place, run in enumerate(runs):
        if run.get("dataset") and run.get("network"):
            alike.setdefault(_key(run), []).append(place)
    found = [comparison for places in alike.values() for comparison in _of_widths(runs, places)]
    return sorted(found, key=lambda comparison: min(comparison.own + comparison.controls))


def _of_widths(runs: Sequence[Run], places: Sequence[int]) -> list[Comparison]:
    """Return the comparisons of runs that differ in their width alone: one for each width with replaced layers."""

    def width(place: int):
        return _plain(runs[place].get(width_flag(runs[place]["network"])))

    swapped = [place for place in places if not is_reference(runs[place])]
    numbered = [place for place in swapped if not is_of_width_alone(runs[place])]
    widths = dict.fromkeys(width(place) for place in numbered or swapped)
    if not widths:
        first, several = runs[places[0]], len({width(place) for place in places}) > 1
        return [Comparison(words(first, "several widths" if several else network_name(first)), own=[*places])]
    found = []
    for each in widths:
        own = [place for place in places if width(place) == each]
        controls = [place for place in places if width(place) not in widths]
        found.append(Comparison(words(runs[own[0]], network_name(runs[own[0]])), own, controls))
    return found


def _key(run: Run) -> tuple:
    """Return a key that is equal for runs of one figure; it leaves out the network's width."""
    dataset = dataset_key(run["dataset"], run.get("data_digest"))
    sizes = [flag for flag in size_flags() if flag != width_flag(run["network"])]
    return (
        dataset,
        run["network"],
        run.get("network_digest"),
        *(_plain(run.get(name)) for name in (*sizes, *OF_DATA, *OF_LENGTH)),
    )


def but_for_teaching(run: Run) -> tuple:
    """Return a key that is equal for a run with a teacher and the same network alone, whatever their seeds."""
    rest = setup(run, without=(*flags_of_teaching(), "epochs"))
    settings = str({name: _plain(value) for name, value in rest.items()})
    return (*_key(run), asked(run), run.get("module"), settings)


def _plain(value) -> str:
    """Return a value as text: "" for what is off or missing, and the same for 10 and 10.0."""
    return str(float(value)) if value and isinstance(value, int | float) else str(value or "")


def words(run: Run, network: str | None = None) -> dict[str, str]:
    """Return what a run shares with the others of its comparison, in words, by the kind of thing."""
    some, total, trained = (_count(run.get("train_size")), _count(run.get("data_train")), images(run)[0])
    part = f"{some:,} of {total:,}" if some and total else f"{trained:,}" if trained else ""
    digest, augment, cutout = run.get("data_digest"), run.get("augment"), _count(run.get("cutout"))
    held, side = _count(run.get("val_size")), _count(run.get("image_size"))
    return {
        "network": network or network_name(run),
        "epochs": counted(epochs(run), "epoch"),
        "images": f"{part} training images" if part else "images not counted",
        "held out": f"{held:,} held out" if held else "none held out",
        "data": f"data {str(digest)[:8]}" if digest else "data without a digest",
        "side": f"{side}×{side}" if side else "images as they are",
        "augment": f"augment {augment}" if augment else "augmentation unknown",
        "cutout": f"cutout {cutout}" if cutout else "no cutout",
    }


def epochs(run: Run) -> int | None:
    """Return the number of epochs that a run was to have, None where nothing says it."""
    return _count(run.get("epochs")) or _count(run.get("epochs_planned"))


def images(run: Run) -> tuple[int | None, int | None]:
    """Return the number of training images and of test images of a run, None where its record does not say.

    It trains on what --train_size asks for, or on what --val_size leaves.
    """
    total, held = _count(run.get("data_train")), _count(run.get("val_size")) or 0
    return _count(run.get("train_size")) or (total - held if total else None), _count(run.get("data_test"))


def _count(value) -> int | None:
    """Return a cell of the table as a whole number above 0, None where it is none."""
    return int(value) if isinstance(value, int | float) and 0 < value < 1e15 else None


def tested_on(run: Run) -> tuple[str, str | None]:
    """Return what the run's test images are compared by, and their digest if it is known."""
    digest = run.get("data_test_digest") or run.get("data_digest")
    return dataset_key(run["dataset"], digest), digest


def alike(one: tuple, other: tuple) -> bool:
    """Return whether nothing that is known of two sets of test images, by `tested_on`, tells them apart."""
    return one[0] == other[0] and (one[1] == other[1] or None in (one[1], other[1]))


def mixture(runs: Sequence[Run], most: int = 4) -> str:
    """Return in what the runs of a table differ that are not of one study, at most `most` examples of each kind.

    Such as `2 networks (WRN-10-1, WRN-16-1), 2 lengths (3 epochs, 30 epochs)`; "" where one figure shows all of them.
    """
    found = comparisons(runs)
    words_of_each = [{"dataset": runs[each.own[0]]["dataset"], **each.words} for each in found]
    parts = []
    for kind in ("dataset", *differing(found)):
        of_kind = [*dict.fromkeys(each[kind] for each in words_of_each)]
        if len(of_kind) > 1:
            shown = ", ".join(of_kind[:most]) + (", …" if len(of_kind) > most else "")
            parts.append(f"{len(of_kind)} {PLURALS[kind]} ({shown})")
    return ", ".join(parts)


def counted(number: float | None, what: str) -> str:
    """Return a number with its noun: `1 seed`, `30 epochs`, `epochs unknown`."""
    return f"{number:,} {what}{'s' * (number != 1)}" if number else f"{what}s unknown"


def differing(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the kinds of things in which comparisons differ, without digests where counts of images say as much."""
    if not comparisons:
        return []
    kinds = [kind for kind in comparisons[0].words if len({each.words[kind] for each in comparisons}) > 1]
    return [kind for kind in kinds if not (kind == "data" and "images" in kinds and _counts_suffice(comparisons))]


def _counts_suffice(comparisons: Sequence[Comparison]) -> bool:
    """Return whether the numbers of images tell apart all data that their digests tell apart."""
    images = {each.words["images"] for each in comparisons}
    return len(images) == len({(each.words["images"], each.words["data"]) for each in comparisons})
