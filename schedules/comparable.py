"""Which runs belong in one figure, and which of those on one line.

    for member in arenas(runs):                    # a figure each
        member.words, member.own, member.guests    # {"network": "WRN-16-1", "epochs": "30 epochs", …}, places in `runs`

Runs of one figure have the same data, network and length of training: they differ in their conv, in who taught them, in
their seed, and maybe in settings such as the learning rate. On one line are those that differ in the conv and its number
alone. The reference network at another width, the control that a compression has to beat, is a guest in the figures of the
networks that differ from it in nothing else: a point that no line joins. What a record does not know of its data (those
of before have no digest) is the same as what another does not know, and as nothing else.

Imports no torch and no matplotlib.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cli import flags
from input.folders import is_own
from models.registry import NETWORKS, reference_conv, size_flags, tap_flags, width_flag
from record.identity import NOT_IDENTITY

ROLES = {"teacher_checkpoint", "student_checkpoint", "seed", "mode", "conv", "module", "help", "dataset", "network"}
OF_DATA = ("data_digest", "data_train", "data_test", "train_size", "val_size", "image_size")
OF_LENGTH = ("epochs", "augment", "cutout")
OF_TEACHING = ("temperature", "alpha", "beta", *tap_flags())  # what a network alone has no use for
SIZES = size_flags()
PLURALS = {
    "dataset": "datasets", "network": "networks", "epochs": "lengths", "images": "sets of training images",
    "held out": "sizes of what is held out", "data": "sets of data", "side": "image sizes", "augment": "augmentations",
    "cutout": "cutouts",
}  # fmt: skip

Run = dict  # one row of the table


@dataclass
class Arena:
    """Runs that one figure may show, by their places; `words` say what they share, by what kind of thing it is."""

    words: dict[str, str]
    own: list[int] = field(default_factory=list)
    guests: list[int] = field(default_factory=list)


def network_name(run: Run) -> str:
    """`WRN-28-10`, `MobileNetV2 ×0.5`, `DARTS`."""
    return NETWORKS[run["network"]].short_name(run) if run["network"] in NETWORKS else run["network"]


def setup(run: Run, without: Iterable[str] = ()) -> dict:
    """What a run was asked for beside its names, its conv and its seed."""
    fields = {action.dest for action in flags.training_parser()._actions} - ROLES - set(NOT_IDENTITY) - set(without)
    return {name: run.get(name) for name in sorted(fields)}


def is_reference(run: Run) -> bool:
    """Whether nothing is swapped in it."""
    return not run.get("module") and run.get("family") == reference_conv(run["network"])


def arenas(runs: Sequence[Run]) -> list[Arena]:
    """The figures that a table makes, by the first of their runs. What has no configuration is in none."""
    fields: dict[tuple, list[int]] = {}
    for place, run in enumerate(runs):
        if run.get("dataset") and run.get("network"):
            fields.setdefault(_key(run), []).append(place)
    found = [arena for places in fields.values() for arena in _of_field(runs, places)]
    return sorted(found, key=lambda arena: min(arena.own + arena.guests))


def _of_field(runs: Sequence[Run], places: Sequence[int]) -> list[Arena]:
    """The arenas of runs that differ in their width at the most: one for each width at which something was swapped."""

    def width(place: int):
        return _plain(runs[place].get(width_flag(runs[place]["network"])))

    swapped = [width(place) for place in places if not is_reference(runs[place])]
    widths = dict.fromkeys(swapped)
    if not widths:
        first, several = runs[places[0]], len({width(place) for place in places}) > 1
        return [Arena(words(first, "several widths" if several else network_name(first)), own=[*places])]
    found = []
    for each in widths:
        own = [place for place in places if width(place) == each]
        guests = [place for place in places if width(place) not in widths]
        found.append(Arena(words(runs[own[0]], network_name(runs[own[0]])), own, guests))
    return found


def _key(run: Run) -> tuple:
    """Equal for runs that may stand in one figure, at the most differing in their width."""
    digest = run.get("data_digest")
    dataset = "" if digest and is_own(run["dataset"]) else run["dataset"]  # the same folder by another name
    sizes = [flag for flag in SIZES if flag != width_flag(run["network"])]
    return (dataset, run["network"], *(_plain(run.get(name)) for name in (*sizes, *OF_DATA, *OF_LENGTH)))


def but_for_teaching(run: Run) -> tuple:
    """Equal for a run that was taught and the same network alone, whatever their seeds."""
    rest = setup(run, without=(*OF_TEACHING, "epochs"))
    settings = str({name: _plain(value) for name, value in rest.items()})
    return (*_key(run), run.get("conv"), run.get("module"), settings)


def _plain(value) -> str:
    """What is off is as if it were not there, and 10 is 10.0."""
    return str(float(value)) if value and isinstance(value, int | float) else str(value or "")


def words(run: Run, network: str | None = None) -> dict[str, str]:
    """What a run shares with the others of its arena, for a person."""
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
    """How long a run was to be, None where nothing says so."""
    return _count(run.get("epochs")) or _count(run.get("epochs_planned"))


def images(run: Run) -> tuple[int | None, int | None]:
    """How many images a run trains on (of those that there are what --train_size asks for, or what --val_size leaves) and is
    tested on; None where its record does not say."""
    total, held = _count(run.get("data_train")), _count(run.get("val_size")) or 0
    return _count(run.get("train_size")) or (total - held if total else None), _count(run.get("data_test"))


def _count(value) -> int | None:
    """A whole number above 0, as every cell of a table that counts something holds."""
    return int(value) if isinstance(value, int | float) and 0 < value < 1e15 else None


def mixture(runs: Sequence[Run], most: int = 4) -> str:
    """In what the runs of a table differ that are not of one study, `2 networks (WRN-10-1, WRN-16-1), 2 lengths (3 epochs, 30
    epochs)`; nothing where one figure shows all of a dataset."""
    found = arenas(runs)
    told = [{"dataset": runs[arena.own[0]]["dataset"], **arena.words} for arena in found]
    parts = []
    for kind in ("dataset", *differing(found)):
        of_kind = [*dict.fromkeys(each[kind] for each in told)]
        if len(of_kind) > 1:
            shown = ", ".join(of_kind[:most]) + (", …" if len(of_kind) > most else "")
            parts.append(f"{len(of_kind)} {PLURALS[kind]} ({shown})")
    return ", ".join(parts)


def counted(number: float | None, what: str) -> str:
    """`1 seed`, `30 epochs`, `epochs unknown`."""
    return f"{number:,} {what}{'s' * (number != 1)}" if number else f"{what}s unknown"


def differing(arenas: Sequence[Arena]) -> list[str]:
    """The kinds of things in which they differ, but for a digest where the numbers of images say so already."""
    kinds = [kind for kind in arenas[0].words if len({arena.words[kind] for arena in arenas}) > 1] if arenas else []
    return [kind for kind in kinds if not (kind == "data" and "images" in kinds and _follows(arenas))]


def _follows(arenas: Sequence[Arena]) -> bool:
    """Whether the numbers of images tell all data apart that their digests do."""
    return len({arena.words["images"] for arena in arenas}) == len(
        {(arena.words["images"], arena.words["data"]) for arena in arenas}
    )
