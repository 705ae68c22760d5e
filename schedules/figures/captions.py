"""The words of figures: headings, captions, and the names of families and measures.

heading(figure, axes, f"{measure_name(measure)}, %", pair.title)
caption(figure, pair, pair.groups)
"""

import re
import textwrap
from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layers.mixed import brief
from layers.registry import FAMILIES
from schedules.comparable import counted, images
from schedules.figures.style import MUTED, SMALL, TINY
from schedules.outcomes import Group, Pair

NAMES = {"params": "parameters", "mult_adds": "mult-adds per image (published convention)",
         "mult_adds_exact": "mult-adds per image (exact)", "active_parameters": "parameters that are not 0",
         "active_fraction": "share of the weights that are not 0",
         "active_mult_adds": "mult-adds per image (exact) without dead filters",
         "mult_adds_gated": "mean mult-adds per image, those of closed channels left out (exact)"}  # fmt: skip
CAPTION = 138  # letters in a line of the caption of a figure 7.4 inches wide
HEADING = 70  # letters that fit on the right of a heading


def measure_name(measure: str) -> str:
    """Return a measure in words: `test top-1 error`, `best validation top-5 error`."""
    return measure.replace("_", " ").replace("val ", "validation ").replace("top", "top-")


def cost_name(pair: Pair, cost: str) -> str:
    """Return what the axis of a cost is called; a time says of how many images, and where it was measured."""
    if not cost.startswith("latency"):
        return NAMES[cost]
    size = int(cost.rpartition("_")[2])
    return f"inference of {size:,} image{'s' * (size > 1)}, median ms on {', '.join(pair.machines)}"


def heading(figure: Figure, axes: Axes, what: str, where: str) -> None:
    """Write above the axes what the vertical one shows, and on the right of which runs."""
    box = axes.get_position()
    figure.text(0.012, box.y1 + 0.03, what, fontsize=SMALL, fontweight="bold", gid="heading")
    figure.text(box.x1, box.y1 + 0.03, cut(where), fontsize=SMALL, color=MUTED, ha="right", gid="where")


def cut(words: str) -> str:
    """Return as many of the words as fit in a heading; the caption has them all."""
    return words if len(words) <= HEADING else f"{words[: HEADING - 1]}…"


def caption(figure: Figure, pair: Pair, groups: Sequence[Group], bars: str = "", more: str = "") -> None:
    """Write below a figure how many runs, epochs, seeds and images it shows, and how many runs it leaves out.

    `bars` and `more` are added to it: words on the error bars, and on anything else.
    """
    drawn, seeds = sum(len(group.runs) for group in groups), Counter(len(group.runs) for group in groups)
    text = counted(drawn, "finished run") + (f" in {counted(len(groups), 'group')}" if max(seeds) > 1 else "")
    text += f", {counted(pair.epochs, 'epoch')}, {_seeds(seeds)}{f': means{bars}' if max(seeds) > 1 else ''}"
    trained, tested = images(groups[0].first)
    counts = [f"{number:,} {what}" for what, number in (("training", trained), ("test", tested)) if number]
    text += f"; {' and '.join(counts)} images" if counts else ""
    text += "; only gates were trained, all else was frozen" if pair.is_frozen else ""
    if len(pair.title) > HEADING:
        text += f"; {pair.title}"
    if pair.undrawn:
        text += "; not drawn: " + ", ".join(f"{count} {why}" for why, count in sorted(pair.undrawn.items()))
    width, height = figure.get_size_inches()
    letters = int(CAPTION * width / 7.4)
    lines = textwrap.wrap(text + more + ".", letters, break_long_words=False, break_on_hyphens=False)
    figure.text(
        0.012, min(0.018, 0.09 / height), "\n".join(lines), fontsize=TINY, color=MUTED, linespacing=1.15, gid="caption"
    )


def _seeds(seeds: Counter) -> str:
    """Return the seeds in words: `1 seed`, `3 seeds a point`, `3 seeds at 12 points, 1 seed at 4`."""
    if len(seeds) == 1:
        return counted(*seeds, "seed") + (" a point" if max(seeds) > 1 else "")
    (most, points), *others = sorted(seeds.items(), reverse=True)
    rest = ", ".join(f"{counted(each, 'seed')} at {number}" for each, number in others)
    return f"{counted(most, 'seed')} at {counted(points, 'point')}, {rest}"


def families(groups: Sequence[Group]) -> list[str]:
    """Return the families of the groups in the order of the registry, users' modules last."""
    order = {name: rank for rank, name in enumerate(FAMILIES)}
    found = {group.family for group in groups}
    return sorted(
        found, key=lambda family: (order.get(re.split(r"[ ,]", family)[0].partition("_x_")[0], len(order)), family)
    )


def family_name(family: str) -> str:
    """Return a family in words, such as `TensorTrain, d = 4`; for a module, the name of its file, in brief if mixed."""
    if "=" in family and not family.startswith("module "):
        return brief(family)
    base, _, dimensions = family.partition("_x_")
    if family.startswith("module "):
        name = family.replace("\\", "/").rstrip("/").split("/")[-1].removeprefix("module ")
        return name if len(name) <= 24 else name[:23] + "…"
    return f"{base}, d = {dimensions}" if dimensions else family
