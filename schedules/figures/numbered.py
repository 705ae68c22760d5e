"""Number the marks of a crowded figure, and list the numbers beside it: networks of nearly one cost together, best first.

    found = sections(groups, "params")             # [Section("about 27k parameters", [Row(1, …), …]), …]
    figure, axes, right = canvas(found)
    note = table(figure, found, "params", right)   # words for the caption

A row is a setting, taught and alone, whose marks have the same number, filled and hollow. The gain is the error alone less the
error taught; it is grey where difference.py cannot tell the two apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from schedules.comparable import images
from schedules.difference import Result, is_told_apart
from schedules.figures.beyond import amount
from schedules.figures.naming import colour
from schedules.figures.style import FAINT, HOLLOW, INK, MUTED, PAPER, human
from schedules.outcomes import Group

RADIUS = 4.9  # points of a mark
APART = 1.15  # costs of two sections differ by more than this factor
ALIKE = 1.4  # and those within one by less than this
LEAST = 3  # settings of a section
PLANE, LEFT, GAP = 5.0, 0.45, 0.3  # inches
LIST, PITCH, LETTER = 3.85, 0.128, 6.5  # width of the list and height of a row in inches; letters in points
ABOVE, BELOW = 0.42, 0.72  # inches
LINES = 50  # of the list in one column
COLUMNS = 2
# Where the columns of the list end, in inches from its left, and where names begin; with a teacher for some, and for all or none.
BOTH = {"number": 0.13, "name": 0.22, "cost": 2.23, "taught": 2.83, "alone": 3.43, "gain": 3.79}
ONE = {"number": 0.13, "name": 0.22, "cost": 3.15, "error": 3.79}
NAMES = {len(BOTH): 31, len(ONE): 45}  # letters of a name, such as `SepHashedDecimate (WRN-16-1.84)`


@dataclass
class Row:
    """A setting with its number, its group with a teacher and its group alone."""

    number: int
    taught: Group | None = None
    alone: Group | None = None

    @property
    def first(self) -> Group:
        """The group by which it is ordered and named."""
        return self.taught or self.alone

    @property
    def groups(self) -> list[int]:
        """The numbers of its groups."""
        return [each.number for each in (self.taught, self.alone) if each is not None]


@dataclass
class Section:
    """Settings of nearly one cost, or all or the others, the least error first. Args: title: "" of all, if their costs differ."""

    title: str
    rows: list[Row] = field(default_factory=list)


def sections(groups: Sequence[Group], cost: str) -> list[Section]:
    """Return the settings of groups in sections, numbered from 1, as many of them as the list has room for.

    A section has settings of nearly one cost, at least LEAST; the few others are the last section. Without two such sections,
    or where more than a quarter are others, all settings are one section.
    """
    pairs: dict[tuple, Row] = {}
    for group in groups:
        copies = (number for number in range(len(groups)))  # a second group of one name has a row of its own
        key = next((group.label, copy) for copy in copies if not _has(pairs.get((group.label, copy)), group.taught))
        row = pairs.setdefault(key, Row(0))
        row.taught, row.alone = (group, row.alone) if group.taught else (row.taught, group)
    rows = sorted(pairs.values(), key=lambda row: row.first.cost[cost])
    parts: list[list[Row]] = [[]]
    for row in rows:
        if parts[-1] and row.first.cost[cost] > APART * parts[-1][-1].first.cost[cost]:
            parts.append([])
        parts[-1].append(row)
    alike = [part for part in parts if len(part) >= LEAST]
    others = [row for part in parts if len(part) < LEAST for row in part]
    parts = alike + [others] * bool(others)
    most = (LINES * COLUMNS - 3 * len(parts)) // len(parts)
    is_one = len(alike) < 2 or len(others) > len(rows) / 4 or any(_span(part, cost) > ALIKE for part in alike)
    if is_one or most < LEAST:
        parts, others, most = [rows], [], LINES * COLUMNS - 3
    found, number = [], 0
    for part in parts:
        best = sorted(part, key=lambda row: row.first.error)[:most]
        about = f"about {amount(cost, median(row.first.cost[cost] for row in part))}"
        words = ["others"] if part is others else [about] * (_span(part, cost) <= ALIKE)
        words += [f"the best {len(best)} of {len(part)}"] * (len(best) < len(part))
        found.append(Section(", ".join(words)))
        for row in best:
            number += 1
            row.number = number
            found[-1].rows.append(row)
    return found


def _span(rows: Sequence[Row], cost: str) -> float:
    """Return the greatest cost of rows in their order of cost, divided by the least."""
    return rows[-1].first.cost[cost] / rows[0].first.cost[cost]


def _has(row: Row | None, taught: bool) -> bool:
    return row is not None and (row.taught if taught else row.alone) is not None


def _columns(found: Sequence[Section]) -> list[list[Section | Row | None]]:
    """Return what stands in each line of each column of the list: a section's title, a row, or nothing between."""
    lines: list[Section | Row | None] = []
    for section in found:
        lines += [None] * bool(lines) + [section] * bool(section.title) + section.rows
    if len(lines) <= LINES:
        return [lines]
    half = -(-len(lines) // 2)
    breaks = [place for place, line in enumerate(lines) if line is None and len(lines) - LINES <= place <= LINES]
    cut = min(breaks, key=lambda place: abs(place - half), default=half)
    return [lines[:cut], lines[cut:][lines[cut] is None :]]


def canvas(found: Sequence[Section]) -> tuple[Figure, Axes, float]:
    """Return an empty figure with room for the list, its axes, and where the list begins, in inches."""
    columns = _columns(found)
    height = max(4.85, ABOVE + BELOW + PITCH * (max(map(len, columns)) + 4))
    right = LEFT + PLANE + GAP
    figure = Figure((right + len(columns) * LIST + (len(columns) - 1) * GAP + 0.1, height))
    width = figure.get_figwidth()
    box = (LEFT / width, BELOW / height, PLANE / width, (height - ABOVE - BELOW) / height)
    return figure, figure.add_axes(box), right


def shifts(axes: Axes, groups: Sequence[Group], at: dict[int, tuple[float, float]]) -> dict[int, float]:
    """Return how far each mark is moved sideways in points, so that none covers another: taught to the left, alone to the right.

    Each takes the nearest free place, the least errors first. The axes' limits must be final.
    """
    order = sorted(groups, key=lambda group: (not group.taught, group.error))
    scale = 72 / axes.figure.dpi
    places = axes.transData.transform(np.array([at[group.number] for group in order])) * scale
    box = axes.get_window_extent()
    ways = np.concatenate([np.arange(0, 90, 0.5), -np.arange(0.5, 30, 0.5)])
    taken, found = np.empty((0, 2)), {}
    for group, (x, y) in zip(order, places):
        tried = x + ways * (-1 if group.taught else 1)
        inside = (tried > box.x0 * scale + RADIUS) & (tried < box.x1 * scale - RADIUS)
        apart = np.hypot(tried[:, None] - taken[:, 0], y - taken[:, 1]).min(axis=1, initial=np.inf)
        free = np.flatnonzero(inside & (apart > 2 * RADIUS))
        chosen = tried[free[0] if len(free) else int(np.argmax(np.where(inside, apart, -1)))]
        taken = np.vstack([taken, (chosen, y)])
        found[group.number] = float(chosen - x)
    return found


def mark(axes: Axes, group: Group, at: tuple[float, float], shift: float, number: int) -> None:
    """Draw a group's mark with its number inside."""
    ink = colour(group)
    aside = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    axes.plot(
        *at, marker="o", markersize=2 * RADIUS - 1, markerfacecolor=ink if group.taught else PAPER, markeredgecolor=ink,
        markeredgewidth=0.8, color=ink, linestyle="none", zorder=4, transform=aside, gid=f"point-{group.number}",
    )  # fmt: skip
    axes.annotate(
        str(number), at, (shift, -0.2), textcoords="offset points", ha="center", va="center_baseline", fontsize=5.6,
        fontweight="bold", color=PAPER if group.taught else ink, zorder=5, gid=f"label-{group.number}",
    )  # fmt: skip


def table(figure: Figure, found: Sequence[Section], cost: str, right: float) -> str:
    """Write the list of numbers, and return words on it for the caption. Args: right: where it begins, in inches."""
    width, height = figure.get_size_inches()
    rows = [row for section in found for row in section.rows]
    grey = [_is_clear(row) for row in rows]
    knows = any(each is not None for each in grey)  # of how many images the errors are
    head = {"params": "parameters", "active_parameters": "parameters", "active_fraction": "share"}.get(
        cost, "mult-adds"
    )
    head = "ms" if cost.startswith("latency") else head
    has_both = len({group.taught for row in rows for group in (row.taught, row.alone) if group is not None}) > 1
    places = BOTH if has_both else ONE
    for place, lines in enumerate(_columns(found)):
        left, y = right + place * (LIST + GAP), height - ABOVE
        for column, at in places.items():
            words = {"number": "", "name": "conv", "cost": head}.get(column, column)
            _write(figure, left + at, words, y, begins=column == "name", color=MUTED)
        figure.add_artist(
            Line2D([left / width, (left + LIST) / width], [(y - 0.08) / height] * 2, color=FAINT, linewidth=0.6)
        )
        for line in lines:
            y -= PITCH
            if isinstance(line, Section):
                figure.text(
                    left / width, (y - 0.02) / height, line.title, fontsize=LETTER, fontweight="bold", va="center"
                )
            elif line is not None:
                _row(figure, line, cost, {column: left + at for column, at in places.items()}, y - 0.02, knows)
    if not has_both:
        return ""
    return "; gain: error alone less error taught, in points" + (
        ", grey where not told apart or of one seed" if knows else ""
    )


def _row(figure: Figure, row: Row, cost: str, places: dict[str, float], y: float, knows: bool) -> None:
    """Write a line of the list. Args: places: of its columns, in inches."""
    first, most = row.first, NAMES[len(places)]
    words = first.label if len(first.label) <= most else f"{first.label[: most - 1]}…"
    value = f"{100 * first.cost[cost]:.3g} %" if cost == "active_fraction" else human(first.cost[cost])
    ink = colour(first)
    _write(figure, places["number"], str(row.number), y, color=ink, fontweight="bold", gid=f"row-{row.number}")
    _write(figure, places["name"], words, y, begins=True, color=ink)
    _write(figure, places["cost"], value, y, color=MUTED)
    errors = {"taught": row.taught, "alone": row.alone} if "gain" in places else {"error": first}
    for column, group in errors.items():
        std = f" ±{group.std:.1f}" if group is not None and group.std is not None else ""
        _write(figure, places[column], "–" if group is None else f"{group.error:.1f}{std}", y)
    if row.taught is not None and row.alone is not None:
        gain = signed(row.alone.error - row.taught.error)
        clear = _is_clear(row) is True
        style = {"color": INK if clear or not knows else MUTED, "fontweight": "bold" if clear else "normal"}
        _write(figure, places["gain"], gain, y, **style)


def signed(points: float) -> str:
    """Return a difference of errors with its sign, such as `−1.2`; what rounds to 0 has none."""
    text = f"{points:+.1f}"
    return text.replace("-", "−") if float(text) else "0.0"


def _write(figure: Figure, x: float, words: str, y: float, begins: bool = False, **style) -> None:
    """Write words that begin or end at a place in inches."""
    width, height = figure.get_size_inches()
    side = "left" if begins else "right"
    figure.text(x / width, y / height, words, ha=side, va="center", fontsize=LETTER, **style)


def _is_clear(row: Row) -> bool | None:
    """Return whether taught and alone are told apart; None where the number of test images is not known."""
    if row.taught is None or row.alone is None:
        return None
    results = [Result(each.error, images(each.first)[1], len(each.runs), each.std) for each in (row.taught, row.alone)]
    return is_told_apart(*results)


def legend(figure: Figure, right: float, more: Iterable[tuple[dict, str]], kinds: set[bool]) -> None:
    """Say below the list what filled and hollow marks are. Args: more: other signs with their words; kinds: which there are."""
    width, height = figure.get_size_inches()
    grey = dict(color=MUTED, linestyle="none", marker="o", markersize=7, markeredgecolor=MUTED, markeredgewidth=1.0)
    shown = [(grey | dict(markerfacecolor=MUTED if taught else HOLLOW), words)
             for taught, words in ((True, "taught by a teacher"), (False, "trained alone")) if taught in kinds]  # fmt: skip
    handles = [Line2D([], [], label=words, **style) for style, words in [*shown, *more]]
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(right / width, (BELOW - 0.12) / height), frameon=False,
        fontsize=LETTER, ncols=3, handlelength=1.4, handletextpad=0.4, columnspacing=1.2, borderpad=0, borderaxespad=0,
    )  # fmt: skip
