"""Published test errors, beside those of runs that were trained by the published setting.

    found = match(row, teacher)                    # rows of a collation; None where the setting is another one
    found.min_error, found.max_error, found.source

published.csv holds one setting a line: the flags of main.py that train it, without names; the exact parameters of its
network; its error in %, a range where several are published; the source. Errors are of single runs on the lossless
CIFAR-10. A run has the setting if every flag that can change its result is resolved to the same value, it has the same
parameters and saw all images. Imports no torch.
"""

import csv
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cli import options
from models.registry import reference_conv
from record.identity import differences
from schedules.comparable import Run, setup
from schedules.table import finite

TABLE = Path(__file__).with_suffix(".csv")
NAMES = {"teacher": ["-t", "t"], "student": ["-t", "t", "-s", "s"]}  # every command needs names; none is compared
# What changes a result by rounding alone, and the file that flags came from.
FREE = ("precision", "compile", "autotune", "config")
SCALED_DECAY = ("nocrswd", "crs_factor")  # without effect where no convolution is replaced
IMAGES = {"data_train": 50_000, "data_test": 10_000}  # of CIFAR-10
NOTE = "published errors are of single runs on the lossless CIFAR-10, not on images stored as JPEG"


class Published(NamedTuple):
    """A published setting: its flags, the parameters, the range of the error in %, and where it was published."""

    command: str
    params: int
    min_error: float
    max_error: float
    source: str


def facts() -> list[Published]:
    """Return what published.csv holds."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [
            Published(
                row["command"], int(row["params"]), float(row["min_error"]), float(row["max_error"]), row["source"]
            )
            for row in csv.DictReader(file)
        ]


def match(run: Run, teacher: Run | None = None) -> Published | None:
    """Return the published setting that a run has; None where it has none.

    Args: run: a row of a collation, whose parameters and images may not be known yet; teacher: the row of its teacher. A
    student has the setting only if its teacher has that of the same network as it is, by itself.
    """
    for fact, config in _known().get(_key(run), ()):
        counts = {"params": fact.params, **IMAGES}
        if any(run.get(name) not in (None, count) for name, count in counts.items()):
            continue
        if differences(_deciding(config), _deciding(run)):
            continue
        if run["mode"] == "teacher" or _is_dense(teacher, run["network"]):
            return fact
    return None


def _is_dense(teacher: Run | None, network: str) -> bool:
    """Return whether a teacher is the network as it is, trained by a published setting."""
    if teacher is None or teacher.get("mode") != "teacher" or teacher.get("conv") != reference_conv(network):
        return False
    return teacher.get("network") == network and match(teacher) is not None


def _key(config: Mapping) -> tuple:
    """Return the parts of a configuration that `setup` leaves out, and that a run shares with a published setting."""
    return tuple(config.get(name) for name in ("dataset", "network", "conv", "mode"))


def _deciding(config: Mapping) -> dict:
    """Return the flags that can change the result; of a network as it is, not how a replacement's weights decay."""
    whole = config["conv"] == reference_conv(config["network"])
    return setup(config, without=(*FREE, *SCALED_DECAY * whole))


@cache
def _known() -> dict[tuple, list[tuple[Published, Mapping]]]:
    """Return the published settings with their resolved configurations, by `_key`."""
    found: dict[tuple, list[tuple[Published, Mapping]]] = {}
    for fact in facts():
        words = fact.command.split()
        config = options.training([*words, *NAMES[words[1]]])
        found.setdefault(_key(config), []).append((fact, config))
    return found


def add_published(rows: Iterable[Run], by_name: Mapping[str, Run]) -> None:
    """Add to each row the published error of its setting, as a range, and the source; None where there is none.

    `by_name` holds the rows of teachers.
    """
    for row in rows:
        teacher = by_name.get(row.get("teacher_checkpoint")) if row["taught"] else None
        found = match(row, teacher) if row.get("dataset") else None
        row["published_min_test_top1_error"] = found.min_error if found else None
        row["published_max_test_top1_error"] = found.max_error if found else None
        row["published_source"] = found.source if found else None


def shown_range(run: Run) -> str:
    """Return the published error of a row: `4.99`, `3.3 to 4.2`, or "" where there is none."""
    low, high = (run.get(f"published_{end}_test_top1_error") for end in ("min", "max"))
    if not (finite(low) and finite(high)):
        return ""
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
