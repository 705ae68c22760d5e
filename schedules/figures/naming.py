"""Choose the labels of marks: each line is named once, at the end with more room; its other points have their number.

    labels = labels_of(axes, pair.groups, on_front, seen)     # the most important first, for labels.place

Where the end finds no place, labels.place names another point. Whether a mark was taught or trained alone, it says itself,
by being filled or hollow.
"""

import os.path
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from schedules.figures.labels import Label
from schedules.figures.style import INK, MUTED, TINY, look
from schedules.outcomes import Group

Point = tuple[float, float]


def lines_of(groups: Sequence[Group]) -> list[list[Group]]:
    """Return the groups that differ in a number of their conv alone, together; teachers and controls are in no line."""
    found: dict[tuple, list[Group]] = {}
    for group in groups:
        if not group.role:
            found.setdefault(group.line, []).append(group)
    return list(found.values())


def labels_of(
    axes: Axes, groups: Sequence[Group], on_front: Sequence[Group], points: dict[int, Point], most: int
) -> list[Label]:
    """Return the labels of groups by their importance: the front, the names of lines, controls, and then the others.

    Args: points: where the marks are, in data units; most: groups up to which each has a label, beyond it those of the
        front, the controls and one end of each line. The axes' limits must be final.
    """
    ends, numbers, of_line = {}, {}, {}
    for line in lines_of(groups):
        end = _roomier(axes, line, points)
        ends[end.number] = end
        if len(line) > 1:
            shorts = what_differs([each.label for each in line])
            numbers |= {group.number: short for group, short in zip(line, shorts)}
            of_line |= {group.number: end.number for group, short in zip(line, shorts) if short != group.label}
    front = {group.number for group in on_front}
    taught = {group.label for group in groups if group.taught}

    def name(group: Group) -> str:
        return group.label + (", alone" if not group.taught and group.label in taught else "")

    def rank(group: Group) -> int:
        if group.role == "teacher":
            return 0
        return 1 if group.number in front else 2 if group.number in ends else 3 if group.role else 4

    chosen = [each for each in groups if rank(each) < 4 or len(groups) <= most]
    return [
        Label(
            group.number, name(group) if group.number in ends else numbers.get(group.number, name(group)),
            points[group.number], colour(group), "bold" if group.role == "teacher" else "normal",
            below=group.number in front, line=of_line.get(group.number), name=name(group),
            short=numbers.get(group.number, ""),
        )
        for group in sorted(chosen, key=rank)
    ]  # fmt: skip


def what_differs(labels: Sequence[str]) -> list[str]:
    """Return the numbers in which labels differ, or the labels as they are where they differ in more.

    `Shuffle_16` and `Shuffle_8 (no CRS)` have no such number; `Shuffle_16` and `Shuffle_8` have 16 and 8.
    """
    start = len(re.sub(r"[^_ ,]*$", "", os.path.commonprefix(list(labels))))
    rests = [label[start:] for label in labels]
    shared = os.path.commonprefix([rest[::-1] for rest in rests])[::-1]
    end = len(re.sub(r"^[^_ ,]*", "", shared))
    found = [rest[: len(rest) - end] for rest in rests]
    return found if all(re.fullmatch(r"[0-9][0-9.e+-]*", each) for each in found) else list(labels)


def colour(group: Group) -> str:
    """Return the colour of a group's mark and label."""
    return {"teacher": INK, "control": MUTED}.get(group.role) or look(group.family).colour


def _roomier(axes: Axes, line: Sequence[Group], points: dict[int, Point]) -> Group:
    """Return the first or last group of a line, whichever has more room beside it, away from the line."""
    left, *_, right = sorted(line, key=lambda group: points[group.number]) * (2 if len(line) == 1 else 1)
    if left is right:
        return left
    pixels = axes.transData.transform(np.array(list(points.values())))
    box = axes.get_window_extent()

    def room(group: Group, side: int) -> float:
        x, y = axes.transData.transform(points[group.number])
        near = pixels[(abs(pixels[:, 1] - y) < TINY * axes.figure.dpi / 72) & ((pixels[:, 0] - x) * side > 1)]
        edge = box.x1 if side > 0 else box.x0
        return min([(edge - x) * side, *((near[:, 0] - x) * side)])

    return right if room(right, 1) >= room(left, -1) else left
