"""Draw learning curves: error against epoch, the mean of every group, the test error thick and the training error thin.

    figure = curves(pair, study.measure)          # None where no run has its epochs

Few groups share one panel. For many, each family has a panel of its own, with all others in grey behind.
"""

import math
from collections.abc import Callable, Collection
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from schedules.figures.captions import caption, cut, families, family_name, heading, measure_name
from schedules.figures.labels import spread, width_of
from schedules.figures.style import FAINT, INK, MUTED, SMALL, TINY, drawing, error_scale, look, rule
from schedules.figures.tradeoff import AXES, SIZE
from schedules.outcomes import Group, Pair

TOGETHER = 10  # groups up to which one panel holds all
COLUMNS = 3
BESIDE = 17.0  # points between the end of a curve and its label, and beyond the label
MOST = 2.5  # inches that a label may widen a panel; of a longer one, as of a module with a long name, the end is cut
FINE = 120  # epochs that a curve in a small panel shows, each a typographic point from the next


@drawing()
def curves(pair: Pair, measure: str) -> Figure | None:
    """Return the figure of one pair; None where there is nothing to draw."""
    measure = measure.removeprefix("best_")  # an epoch has no best
    shown = {group.number: group.curve(measure) for group in pair.groups}
    groups = [group for group in pair.groups if shown[group.number]]
    if not groups:
        return None
    lines = {number: np.array(curve) for number, curve in shown.items() if curve}
    of_training = measure.replace("test", "train").replace("val", "train")
    train = {group.number: np.array(group.curve(of_training) or np.empty((0, 2))) for group in groups}
    both = [*lines.values(), *(line for line in train.values() if len(line))]
    if len(groups) <= TOGETHER:
        figure, panels = _one_panel(groups)
    else:
        figure, panels = _panels(groups)
    has_taught = any(group.taught for group in groups)
    first = next(iter(panels))
    once = {
        number for number, line in lines.items() if len(line) == 1 < len(train[number])
    }  # tested at one epoch alone
    all_once = len(once) == len(lines)
    scale = _range(both if all_once else list(lines.values()))
    behind = {number: train[number] if number in once else line for number, line in lines.items()}
    for axes, members in panels.items():
        epoch_axis(axes, both, 4 if len(panels) > 1 else 8)
        error_scale(axes, *scale)
        rule(axes)
        if axes.get_position().x0 > first.get_position().x0 + 0.01:
            axes.set_yticklabels([])
        for group in groups if len(panels) > 1 else ():
            if group not in members:
                axes.plot(*_thinned(behind[group.number], 40).T, color=FAINT, linewidth=0.35, zorder=1)
        for group in members:
            most = FINE if len(panels) > 1 else 10 * FINE
            shorter = _thinned(train[group.number], most).copy()
            shorter[:, 1] = shorter[:, 1].clip(axes.get_ylim()[0])  # it may be far below the test error
            style = dict(linewidth=1.0 if len(members) <= 5 else 0.7, dashed=has_taught and _alone(group))
            _draw(axes, group, _thinned(lines[group.number], most), shorter, bold=group.number in once, **style)
        mark_ends(axes, members, lines, short=len(panels) > 1, words=partial(_words, has_taught=has_taught))
    name = measure_name(measure).removeprefix("test ") if all_once else measure_name(measure)
    heading(figure, first, f"{name}, %", pair.title if len(panels) == 1 else "")
    if len(panels) > 1:
        figure.text(0.988, first.get_position().y1 + 0.3 / figure.get_figheight(), cut(pair.title),
                    fontsize=SMALL, color=MUTED, ha="right")  # fmt: skip
        figure.texts[0].set_y(first.get_position().y1 + 0.3 / figure.get_figheight())
    for place, each in enumerate(panels):
        if place + COLUMNS >= len(panels):  # no panel below it
            each.set_xlabel("epoch", labelpad=1)
    caption(figure, pair, groups, more=_signs(groups, len(both) > len(lines), once, len(panels) > 1))
    return figure


def _signs(groups: list[Group], train: bool, once: Collection[int], grey: bool) -> str:
    """Return the caption's words on the kinds of lines in the figure."""
    signs = {
        "dashed: trained alone": any(group.taught for group in groups) and any(map(_alone, groups)),
        "marks: test error, where it was measured once; their lines: training error": once,
        "thin: training error, at the lower edge where it is less": train and len(once) < len(groups),
        "thin grey: the other families": grey,
    }
    return "".join(f"; {words}" for words, there in signs.items() if there)


def _one_panel(groups: list[Group]) -> tuple[Figure, dict[Axes, list[Group]]]:
    """Return a figure with one panel, as wide as its labels need."""
    left, bottom, width, height = AXES
    more = _beyond(groups, False, SIZE[0] * (1 - left - width))
    figure = Figure((SIZE[0] + more, SIZE[1]))
    shrunk = SIZE[0] / (SIZE[0] + more)
    return figure, {figure.add_axes((left * shrunk, bottom, width * shrunk, height)): groups}


def _beyond(groups: list[Group], short: bool, room: float) -> float:
    """Return by how many inches the longest label of the groups is longer than the room beside its curve."""
    has_taught = any(group.taught for group in groups)
    longest = max(width_of(_words(group, short, has_taught), TINY - 0.5) for group in groups)
    return min(max(0.0, (longest + BESIDE) / 72 - room), MOST)


def _panels(groups: list[Group]) -> tuple[Figure, dict[Axes, list[Group]]]:
    """Return a figure with a panel for each family, as wide as its labels need, and the groups of each panel."""
    kinds = families(groups)
    columns = min(COLUMNS, len(kinds))
    rows = math.ceil(len(kinds) / columns)
    height = 0.75 + 1.75 * rows
    left, right, gap = 0.05 * SIZE[0], 0.005 * SIZE[0], 0.135 * SIZE[0]  # inches; the gap holds the labels at the ends
    width = (SIZE[0] - left - right) / columns - gap
    gap += _beyond(groups, True, gap)
    whole = left + right + columns * (width + gap)
    figure, panels = Figure((whole, height)), {}
    left, gap, width = (each / whole for each in (left, gap, width))
    for rank, family in enumerate(kinds):
        row, column = divmod(rank, columns)
        bottom = (height - 1.75 * (row + 1)) / height
        axes = figure.add_axes((left + column * (width + gap), bottom, width, 1.3 / height))
        axes.set_title(
            family_name(family), loc="left", fontsize=TINY + 0.5, color=look(family).colour, fontweight="bold", pad=3
        )
        panels[axes] = [group for group in groups if group.family == family]
    return figure, panels


def epoch_axis(axes: Axes, lines: list[np.ndarray], most: int) -> None:
    """Set the axis of epochs, which count from 1, with at most `most` ticks."""
    first, last = int(min(line[0, 0] for line in lines)), int(max(line[-1, 0] for line in lines))
    axes.set_xlim(first, last if last > first else first + 1)
    ticks = [tick for tick in MaxNLocator(most, integer=True).tick_values(0, last) if first < tick <= last]
    spare = len(ticks) < 2 or ticks[0] - first > (last - first) / 16
    axes.set_xticks(([first] if spare else []) + ticks)


def _thinned(line: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` points of a line, its first and its last among them."""
    kept = np.linspace(0, len(line) - 1, most).round().astype(int)
    return line[np.unique(kept)] if len(line) > most else line


def _range(lines: list[np.ndarray]) -> tuple[float, float]:
    """Return the range of errors, without the largest of the first tenth of training, which would flatten the rest."""
    late = [line[min(len(line) - 1, len(line) // 10) :, 1] for line in lines]
    return min(line[:, 1].min() for line in lines), max(each.max() for each in late)


def _alone(group: Group) -> bool:
    """Return whether a group is marked as trained alone; teachers need no mark."""
    return not group.taught and group.role != "teacher"


def _draw(
    axes: Axes, group: Group, line: np.ndarray, train: np.ndarray, *, linewidth: float, dashed: bool, bold: bool
) -> None:
    """Draw the test errors of a group, and its training errors: thin, or `bold` where they are its only curve."""
    colour = INK if group.role == "teacher" else MUTED if group.role == "control" else look(group.family).colour
    style = dict(color=colour, linestyle=(0, (3, 1.5)) if dashed else "-")
    axes.plot(*line.T, linewidth=linewidth, zorder=3, gid=f"curve-{group.number}", **style)
    if len(train):
        shade = dict(linewidth=linewidth, alpha=0.8) if bold else dict(linewidth=0.35, alpha=0.5)
        axes.plot(*train.T, zorder=2, gid=f"train-{group.number}", **shade, **style)
    if len(line) == 1:
        axes.plot(*line.T, marker="o", markersize=3, zorder=3, clip_on=False, **style)


def _words(group: Group, short: bool, has_taught: bool = True) -> str:
    """Return a group's label, without the family where the panel's title says it, and whether it was trained alone.

    `has_taught`: whether any group of the figure had a teacher; where none had, `alone` says nothing.
    """
    words = group.label
    if short and not group.role and not group.family.startswith("module "):
        words = words.removeprefix(group.family.partition("_x_")[0]).lstrip("_").strip()
        words = words if not words.startswith("(") else words[1:-1]
    alone = "" if not has_taught else "alone" if _alone(group) else "" if words else "taught"
    return ", ".join(filter(None, (words, alone))) or group.label


def mark_ends(
    axes: Axes,
    groups: list[Group],
    lines: dict[int, np.ndarray],
    short: bool = False,
    words: Callable[[Group, bool], str] = _words,
) -> None:
    """Write the names of the groups to the right of their curves, moved apart where they would overlap.

    Where there is no room for all, the groups with the least errors are named. `words` says what a group is called, `short`
    where a title says its family.
    """
    height = axes.get_position().height * axes.figure.get_figheight() * 72
    least = TINY * 1.12
    named = sorted(groups, key=lambda group: group.error)[: max(1, int(height / least))]

    def to_points(value: float) -> float:
        return axes.transAxes.inverted().transform(axes.transData.transform((1, value)))[1] * height

    ends = [min(max(to_points(lines[group.number][-1, 1]), 0), height) for group in named]
    for group, end, place in zip(named, ends, _within(spread(ends, least), least, height)):
        colour = INK if group.role == "teacher" else MUTED if group.role == "control" else look(group.family).colour
        axes.annotate(
            "", (1, end / height), (9, (place - end)), xycoords="axes fraction", textcoords="offset points",
            arrowprops=dict(arrowstyle="-", color=colour, linewidth=0.4, shrinkA=0, shrinkB=0), annotation_clip=False,
        )  # fmt: skip
        axes.annotate(
            words(group, short), (1, end / height), (10, place - end), xycoords="axes fraction",
            textcoords="offset points", va="center", fontsize=TINY - 0.5, color=colour, annotation_clip=False,
            gid=f"label-{group.number}",
        )  # fmt: skip


def _within(places: list[float], least: float, height: float) -> list[float]:
    """Return the places moved between 0 and `height`, still in their order and at least `least` apart."""
    order, moved = sorted(range(len(places)), key=lambda each: places[each]), list(places)
    highest = height
    for each in reversed(order):
        moved[each] = min(moved[each], highest)
        highest = moved[each] - least
    lowest = 0.0
    for each in order:
        moved[each] = max(moved[each], lowest)
        lowest = moved[each] + least
    return moved
