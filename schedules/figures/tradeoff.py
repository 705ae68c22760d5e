"""Draw error against cost: a point for each group, a look for each family, and the front of the groups that none beats.

    figure = tradeoff(pair, "params", study.measure)
    png = rendered(figure, "png")                  # output.py

Filled points had a teacher, hollow ones were trained alone. Points that would cover each other are drawn side by side,
a teacher that costs far more than all others is an arrow at the right edge (beyond.py), and where many groups cost
nearly the same, their marks are numbered (numbered.py). Tests and pages find artists by their gid: `point-<group>`,
`label-<group>`, `error-<group>`, `family-<family>-<taught|alone>`, `teacher-<group>`, `front`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from schedules.figures import beyond, numbered
from schedules.figures.captions import caption, cost_name, families, family_name, heading, measure_name
from schedules.figures.dodge import dodge, moved
from schedules.figures.labels import Label, boxes_of, place
from schedules.figures.naming import labels_of, lines_of
from schedules.figures.style import (
    FAINT,
    HOLLOW,
    INK,
    MUTED,
    PAPER,
    TINY,
    drawing,
    error_scale,
    log_ticks,
    look,
    point,
    rule,
)
from schedules.outcomes import Group, Pair
from schedules.table import finite

SIZE = (7.4, 4.85)  # inches
AXES = (0.06, 0.163, 0.725, 0.768)  # as shares of them: left, bottom, width, height; three lines of caption fit below
ALL_LABELLED = 36  # with more groups than these, only the front and one end of each line have labels
CROWDED = 12  # with more groups than these, of which a third cost nearly the same, marks are numbered
SHORT = 4  # points of a line: where lines have fewer, names at their ends tell little, and many groups are numbered too
FRONT = dict(color=FAINT, linewidth=2.2)
Point = tuple[float, float]


@drawing()
def tradeoff(pair: Pair, cost: str, measure: str) -> Figure | None:
    """Return the figure of one pair: the measure in % against `cost`, one of `Group.cost`, on a logarithmic axis.

    None where the cost of a network is not known, and for times of several machines.
    """
    is_time = cost.startswith("latency")
    if not all(finite(group.cost.get(cost)) for group in pair.groups) or is_time and len(pair.machines) > 1:
        return None
    points = {group.number: (group.cost[cost], group.error) for group in pair.groups}
    far = beyond.costly(pair, points)
    plane = Plane(pair, cost, measure, points, far, beyond.lower(pair, far))
    named, moved_aside = _named(plane)
    plain = [group for group in pair.groups if not group.role]
    is_short = len(plain) < SHORT * len(lines_of(plain))
    is_crowded = moved_aside > len(plain) / 3 or len(plain) > ALL_LABELLED and is_short
    return _numbered(plane) if len(plain) > CROWDED and is_crowded else named


@dataclass(frozen=True)
class Plane:
    """What a figure shows: the cost and error of each group by its number, and which lie beyond its axes."""

    pair: Pair
    cost: str
    measure: str
    points: dict[int, Point]
    far: set[int]  # beyond the axis of costs
    low: set[int]  # below that of errors too; teachers of other figures among them

    @property
    def inside(self) -> list[Group]:
        """The groups that have a mark."""
        return [group for group in self.pair.groups if group.number not in self.far]

    def begin(self, axes: Axes, beside: float = 0.07) -> list[np.ndarray]:
        """Set the axes and draw the front, the lines of teachers, and what is written around; return the front's corners.

        `beside`: the room left and right of the marks, as a share of the range of costs on its logarithmic scale.
        """
        _limits(axes, self, beside)
        rule(axes)
        best = self.on_front()
        steps = [_front(axes, [self.points[group.number] for group in best])] if best else []
        _guides(axes, self.pair, self.low)
        axes.set_xlabel(cost_name(self.pair, self.cost))
        heading(axes.figure, axes, f"{measure_name(self.measure)}, %", self.pair.title)
        return steps

    def on_front(self) -> list[Group]:
        """Return the groups on the front, in order of cost; none of frozen networks, as none of them is meant to be best."""
        groups = self.pair.groups
        return [] if self.pair.is_frozen else [groups[index] for index in front(list(self.points.values()))]

    def arrows(self, axes: Axes) -> list[Label]:
        """Draw the arrows to what lies beyond the axes and return their labels."""
        own = {group.number: group for group in self.pair.groups}
        shown = [*(own[number] for number in sorted(self.far)),
                 *(each for each in self.pair.guides if each.number in self.low and each.number not in own)]  # fmt: skip
        return [
            beyond.arrow(axes, group, self.cost, self.points.get(group.number, (None,))[0], group.number in self.low)
            for group in shown
        ]


def _named(plane: Plane) -> tuple[Figure, int]:
    """Return the figure with names beside the marks, and how many marks had to be moved aside."""
    pair, points, groups = plane.pair, plane.points, plane.inside
    figure = Figure(SIZE)
    axes = figure.add_axes(AXES)
    steps = plane.begin(axes)
    at = {group.number: points[group.number] for group in groups}
    shifts = _shifts(axes, groups, at)
    seen = {number: moved(axes, at[number], shifts[number]) for number in at}
    lines = _family_lines(axes, groups, seen)
    for group in groups:
        _draw(axes, group, at[group.number], shifts[group.number])
    bars = [np.array([(seen[each.number][0], end) for end in _span(axes, each)]) for each in groups if each.std]
    _labels(axes, plane, seen, [*lines, *bars, *steps])
    _legend(figure, pair)
    bars_noted = ", bars of one standard deviation" if bars else ""
    signs = "; marks of nearly one cost stand side by side" if any(shifts.values()) else ""
    caption(figure, pair, pair.groups, bars_noted, signs)
    return figure, sum(shift != 0 for shift in shifts.values())


def _numbered(plane: Plane) -> Figure:
    """Return the figure with numbered marks, and a list of the numbers beside the axes."""
    pair, groups = plane.pair, [group for group in plane.inside if group.role != "teacher"]
    sections = numbered.sections(groups, plane.cost)
    figure, axes, right = numbered.canvas(sections)
    steps = plane.begin(axes, beside=0.16)
    at = {group.number: plane.points[group.number] for group in plane.inside}
    shifts = dict.fromkeys(at, 0.0) | numbered.shifts(axes, groups, at)
    seen = {number: moved(axes, at[number], shifts[number]) for number in at}
    lines = _family_lines(axes, groups, seen, faint=True)
    numbers = {number: row.number for section in sections for row in section.rows for number in row.groups}
    for group in plane.inside:
        if group.number in numbers:
            numbered.mark(axes, group, at[group.number], shifts[group.number], numbers[group.number])
        else:
            _draw(axes, group, at[group.number], shifts[group.number])
    boxes = boxes_of(axes, list(seen.values()), numbered.RADIUS)
    teachers = [Label(each.number, each.label, seen[each.number], INK, "bold") for each in plane.inside if each.role == "teacher"]  # fmt: skip
    _place(axes, [*plane.arrows(axes), *teachers], boxes, [*lines, *steps])
    note = numbered.table(figure, sections, plane.cost, right)
    front_there = [] if pair.is_frozen else [(FRONT, "best for its cost")]
    numbered.legend(figure, right, front_there, {group.taught for group in groups})
    signs = "; marks of nearly one cost stand side by side" + note
    caption(figure, pair, pair.groups, ", ± one standard deviation" if any(each.std for each in groups) else "", signs)
    return figure


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (cost, error) that no other point beats, in order of cost.

    A point beats another if it is as good in both and better in one.
    """
    best, kept = math.inf, []
    for index in sorted(range(len(points)), key=lambda each: points[each]):
        cost, error = points[index]
        if error < best or (kept and (cost, error) == points[kept[-1]]):
            kept.append(index)
            best = error
    return kept


def _limits(axes: Axes, plane: Plane, beside: float) -> None:
    axes.set_xscale("log")
    costs = [plane.points[group.number][0] for group in plane.inside]
    low, high = min(costs), max(costs)
    room = max((high / low) ** beside, 2 / (high / low) ** 0.5)  # leaves room beside a single point too
    axes.set_xlim(low / room, high * room)
    log_ticks(axes.xaxis, *axes.get_xlim())
    shown = [group for group in [*plane.pair.groups, *plane.pair.guides] if group.number not in plane.low]
    ends = [group.error + sign * (group.std or 0) for group in shown for sign in (-1, 1)]
    least = min(group.error for group in shown)
    error_scale(axes, max(min(ends), 0.5 * least), max(ends))


def _front(axes: Axes, points: list[Point]) -> np.ndarray:
    """Draw the least error for each cost, which falls in steps, and return its corners."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    xs, ys = [xs[0], *xs, axes.get_xlim()[1]], [axes.get_ylim()[1], *ys, ys[-1]]
    corners = [(xs[0], ys[0])]
    for at in range(1, len(xs)):
        corners += [(xs[at], ys[at - 1]), (xs[at], ys[at])]
    axes.plot(*zip(*corners), zorder=1, gid="front", solid_joinstyle="miter", **FRONT)
    return np.array(corners)


def _family_lines(axes: Axes, groups: list[Group], points: dict[int, Point], faint: bool = False) -> list[np.ndarray]:
    """Join the settings of a family that differ in its number alone, and return the lines; the control has none."""
    drawn: list[np.ndarray] = []
    for members in lines_of(groups):
        line, first = np.array(sorted(points[group.number] for group in members)), members[0]
        if len(line) < 2:
            continue
        style = dict(color=look(first.family).colour, linewidth=0.8, alpha=0.75 if first.taught else 0.45)
        style |= dict(linewidth=0.5, alpha=0.3) if faint else {}
        gid = f"family-{first.family}-{'taught' if first.taught else 'alone'}"
        axes.plot(*line.T, zorder=2, gid=gid + (f"-{first.suffix}" if first.suffix else ""), **style)
        drawn.append(line)
    return drawn


def _guides(axes: Axes, pair: Pair, low: set[int]) -> None:
    """Draw each teacher's error as a thin line across the axes, with a name where its point is not in the figure."""
    own = {group.number for group in pair.groups}
    for group in pair.guides:
        if group.number in low:
            continue
        axes.axhline(group.error, color=MUTED, linewidth=0.5, zorder=1.5, gid=f"teacher-{group.number}")
        if group.number not in own:
            axes.annotate(
                group.label, (1, group.error), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                ha="right", fontsize=TINY, color=MUTED, gid=f"guide-{group.number}",
            )  # fmt: skip


def _shifts(axes: Axes, groups: list[Group], at: dict[int, Point]) -> dict[int, float]:
    """Return the shift of each group in points. Of a family, the group with a teacher is on the left."""
    order = {family: rank for rank, family in enumerate(families(groups))}
    sorted_ = sorted(groups, key=lambda group: (order[group.family], not group.taught, group.number))
    radii = [_look(group)["markersize"] / 2 for group in sorted_]
    places = [at[group.number] for group in sorted_]
    shifts = dodge(axes, places, [_span(axes, group) for group in sorted_], radii)
    return {group.number: shift for group, shift in zip(sorted_, shifts)}


def _span(axes: Axes, group: Group) -> tuple[float, float]:
    """Return the ends of a group's error bar."""
    std = group.std or 0.0
    return max(group.error - std, min(axes.get_ylim()[0], group.error)), group.error + std


def _look(group: Group) -> dict:
    """Return keywords for a group's point."""
    style = point(group.family, group.taught)
    if group.role:
        shade = INK if group.role == "teacher" else MUTED
        face = shade if group.taught else HOLLOW
        style |= dict(color=shade, markerfacecolor=face, markeredgecolor=PAPER if group.taught else shade)
        style |= dict(markersize=style["markersize"] + 1.5) if group.role == "teacher" else {}
    return style


def _draw(axes: Axes, group: Group, at: Point, shift: float) -> None:
    """Draw a group's point with its error bar. Hollow points are above filled ones, as they hide nothing."""
    style, above = _look(group), 0 if group.taught else 0.2
    aside = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    axes.plot(*at, zorder=4 + above, gid=f"point-{group.number}", clip_on=False, transform=aside, **style)
    if group.std:
        bar = dict(color=style["color"], linewidth=0.9, zorder=3, transform=aside)
        axes.plot([at[0]] * 2, _span(axes, group), gid=f"error-{group.number}", **bar)


def _labels(axes: Axes, plane: Plane, points: dict[int, Point], lines: list[np.ndarray]) -> None:
    """Label the arrows, the front, the control and each line once, and all others where they are few."""
    boxes = boxes_of(axes, list(points.values()), 3.6)
    _place(
        axes,
        [*plane.arrows(axes), *labels_of(axes, plane.inside, plane.on_front(), points, ALL_LABELLED)],
        boxes,
        lines,
    )


def _place(axes: Axes, labels: list[Label], boxes: np.ndarray, lines: list[np.ndarray]) -> None:
    heights = [line.get_ydata()[0] for line in axes.lines if (line.get_gid() or "").startswith("teacher-")]
    guides = [np.array([(axes.get_xlim()[0], y), (axes.get_xlim()[1], y)]) for y in heights]
    arrows = np.array(
        [each.arrow_patch.get_window_extent().extents for each in axes.texts if getattr(each, "arrow_patch", None)]
    )
    place(axes, labels, np.vstack([boxes, arrows.reshape(-1, 4)]), [*lines, *guides])


def _legend(figure: Figure, pair: Pair) -> None:
    """Draw a column on the right: the families, then what filled, hollow and grey mean."""
    plain = [group for group in pair.groups if not group.role]
    shown = [(point(family, True), family_name(family)) for family in families(plain)]
    grey = dict(color=MUTED, linestyle="none", marker="o", markersize=5.2, markeredgecolor=MUTED, markeredgewidth=1.0)
    notes = []
    for taught, words in ((True, "taught by a teacher"), (False, "trained alone")):
        if any(group.taught is taught for group in plain):
            notes.append((grey | dict(markerfacecolor=MUTED if taught else HOLLOW), words))
    if any(group.role == "control" for group in pair.groups):
        family = next(group.family for group in pair.groups if group.role == "control")
        control = point(family, True)
        notes.append((control | dict(color=MUTED, markerfacecolor=MUTED), f"{family}, other widths"))
    notes += [] if pair.is_frozen else [(FRONT, "best for its cost")]
    handles = [Line2D([], [], label=words, **style) for style, words in [*shown, *notes]]
    if shown:
        handles.insert(len(shown), Line2D([], [], linestyle="none", label=" "))
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.79, 0.94), frameon=False, fontsize=TINY, handlelength=1.9,
        labelspacing=0.45 if len(handles) < 22 else 0.2, handletextpad=0.5, borderpad=0,
    )  # fmt: skip
