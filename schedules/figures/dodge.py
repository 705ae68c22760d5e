"""Move marks apart that would cover each other: sideways by a few points, never up or down, as the height is the error.

    shifts = dodge(axes, places, spans, radii)     # in points, 0 for most

In a study of equal costs all marks are on one vertical line.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

NEAR = 4.0  # points between marks of nearly equal cost, at most
STEP = 7.0  # points between neighbours: a marker's width and a little


def dodge(
    axes: Axes, places: Sequence[tuple[float, float]], spans: Sequence[tuple[float, float]], radii: Sequence[float]
) -> list[float]:
    """Return the shift of each mark in points, positive to the right. Earlier marks are on the left.

    Args: axes: with their final limits; places, and spans (the lower and upper ends of error bars): in data units;
        radii of the markers: in points.
    """
    x, y = _points(axes, places).T
    low, high = (_points(axes, [(at[0], span[end]) for at, span in zip(places, spans)])[:, 1] for end in (0, 1))
    low, high = np.minimum(low, y - radii), np.maximum(high, y + radii)
    meet = (abs(x[:, None] - x) < NEAR) & (low[:, None] < high) & (low < high[:, None])
    shifts = [0.0] * len(places)
    for members in _components(meet):
        lanes: dict[int, int] = {}
        for one in sorted(members, key=lambda each: (round(x[each] / NEAR), each)):
            taken = {lanes[other] for other in lanes if meet[one, other]}
            lanes[one] = next(lane for lane in range(len(members)) if lane not in taken)
        for one, lane in lanes.items():
            shifts[one] = (lane - max(lanes.values()) / 2) * STEP
    return shifts


def moved(axes: Axes, at: tuple[float, float], shift: float) -> tuple[float, float]:
    """Return a place in data units after a shift in points."""
    x, y = axes.transData.transform(at)
    return (
        (float(axes.transData.inverted().transform((x + shift * axes.figure.dpi / 72, y))[0]), at[1]) if shift else at
    )


def _points(axes: Axes, places: Sequence[tuple[float, float]]) -> np.ndarray:
    return axes.transData.transform(np.array(places, float).reshape(-1, 2)) * 72 / axes.figure.dpi


def _components(meet: np.ndarray) -> list[list[int]]:
    """Return the marks in groups that overlap, directly or through others."""
    left, found = set(range(len(meet))), []
    while left:
        members, new = [], [min(left)]
        while new:
            one = new.pop()
            if one in left:
                left.remove(one)
                members.append(one)
                new += [int(other) for other in np.flatnonzero(meet[one])]
        found.append(members)
    return found
