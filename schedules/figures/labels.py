"""Place labels beside points, so that they cover no other label, no point, and as few lines as possible.

    placed = place(axes, [Label(0, "SepHashed_0.1", (5e5, 5.2), "#009e87")], avoid=boxes, lines=[xy])

Each label takes the place around its point that costs least. A label without any place is left out, so the most
important labels have to come first.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Annotation, Text

from schedules.figures.style import FONTS, PAPER, TINY

DISTANCES = (5.0, 9.0, 15.0, 23.0, 33.0, 46.0)  # from a point's centre to its label, in points
ANGLES = np.deg2rad([0, 180, 90, 270, 35, 145, -35, -145, 18, 162, -18, -162, 60, 120, -60, -120])
BELOW = np.deg2rad([-145, 180, -120, -162, 270, -60, -35, 0, 162, -18, 145, 35, 18, 120, 90, 60])
GAP = 1.5  # pixels that stay free around a label
LINE = 0.8  # cost of every 3 pixels of a line below a label, in points of distance
AMBIGUOUS = 8.0  # cost of every point that is nearer to a label than the label's own
LEADER = 13.0  # distance in points from which on a thin line joins a label to its point


@dataclass
class Label:
    """A text for the point at `at`, in data units. Its artist has the gid `label-<number>`."""

    number: int | str
    text: str
    at: tuple[float, float]
    colour: str
    weight: str = "normal"
    below: bool = False  # prefer the place to the left and below, where a front leaves room
    line: int | None = None  # the line whose name one of its labels has to carry
    name: str = ""  # the text with the line's name
    short: str = ""  # the text without it

    @property
    def names_its_line(self) -> bool:
        """Whether it carries the name of its line."""
        return self.line is not None and self.text == self.name


Place = tuple[Label, np.ndarray, np.ndarray, np.ndarray]  # a label, its box, its offset in pixels, points of its leader


def place(
    axes: Axes,
    labels: Sequence[Label],
    avoid: np.ndarray,
    lines: Sequence[np.ndarray],
    size: float = TINY,
    farthest: float = DISTANCES[-1],
) -> list[Annotation]:
    """Draw the labels in their order and return those that found a place. The axes' limits must be final.

    Where the label that names a line finds no place, the first of the line's others that has room for the name carries it.

    Args: avoid: (n, 4) boxes x0, y0, x1, y1 in pixels that no label may touch; lines: (m, 2) points each, in data
        units; size: of the letters, in points; farthest: the largest distance of a label from its point, in points.
    """
    canvas = FigureCanvasAgg(axes.figure)
    canvas.figure.draw_without_rendering()  # makes the layout final
    crossed = _along([axes.transData.transform(line) for line in lines])

    def places(of: Sequence[Label]) -> list[Place]:
        return _places(axes, canvas, of, np.array(avoid, float).reshape(-1, 4), crossed, size, farthest)

    chosen, tried = list(labels), set()
    found = places(chosen)
    while (heir := _heir(found, tried)) is not None:
        tried.add(heir.number)
        others = [_with_name(each, heir) if each.line == heir.line else each for each in chosen]
        attempt = places(others)
        if any(label.number == heir.number for label, *_ in attempt):
            chosen, found = others, attempt
    scale, drawn = axes.figure.dpi / 72, []
    for label, _, offset, leader in found:
        arrow = dict(arrowstyle="-", color=label.colour, linewidth=0.4, alpha=0.7, shrinkA=0.5, shrinkB=3)
        drawn.append(axes.annotate(
            label.text, label.at, offset / scale, textcoords="offset points", ha="center", va="center", fontsize=size,
            color=label.colour, fontweight=label.weight, arrowprops=arrow if len(leader) else None,
            gid=f"label-{label.number}", zorder=6, annotation_clip=False,
            bbox=dict(boxstyle="square,pad=0.04", facecolor=PAPER, edgecolor="none", alpha=0.8),  # above all lines
        ))  # fmt: skip
    return drawn


def _heir(found: Sequence[Place], tried: Container[int | str]) -> Label | None:
    """Return the first placed label of a line that none names, but for those that were tried."""
    labels = [label for label, *_ in found]
    named = {label.line for label in labels if label.names_its_line}
    return next((each for each in labels if each.line not in {None, *named} and each.number not in tried), None)


def _with_name(label: Label, heir: Label) -> Label:
    """Return a label of the heir's line with the text that it has where the heir carries the name."""
    return replace(label, text=label.name if label.number == heir.number else label.short)


def _places(
    axes: Axes, canvas: FigureCanvasAgg, labels: Sequence[Label], taken: np.ndarray, crossed: np.ndarray, size: float,
    farthest: float,
) -> list[Place]:  # fmt: skip
    """Return the labels that find a place, with it. Args: taken: boxes that none may touch; crossed: points on lines."""
    bounds, scale = axes.get_window_extent(), axes.figure.dpi / 72
    found: list[Place] = []
    centres = (taken[:, :2] + taken[:, 2:]) / 2
    for label in labels:
        width, height = _extent(axes, canvas, label, size)
        centre = axes.transData.transform(label.at)
        own = (
            (taken[:, 0] <= centre[0])
            & (centre[0] <= taken[:, 2])
            & (taken[:, 1] <= centre[1])
            & (centre[1] <= taken[:, 3])
        )
        best = None
        for box, offset, preference in _candidates(centre, width, height, scale, label.below):
            inside = box[0] > bounds.x0 and box[1] > bounds.y0 and box[2] < bounds.x1 and box[3] < bounds.y1
            if not inside or preference > farthest or _touches(taken, box):
                continue
            nearer = _distance(centres, box) < _distance(centre[None], box) - 0.1
            cost = preference + LINE * _within(crossed, box).sum() + AMBIGUOUS * nearer.sum()
            if best is not None and cost >= best[0]:
                continue
            leader = _leader(centre, box) if preference >= LEADER else np.empty((0, 2))
            if not any(_within(leader, each).any() for each in taken[~own] if len(leader)):
                best = (cost, box, offset, leader)
        if best is None:
            continue
        _, box, offset, leader = best
        found.append((label, box, offset, leader))
        taken = np.vstack([taken, box, *(np.hstack([each - 1, each + 1])[None] for each in leader)])
    return found


def boxes_of(axes: Axes, points: Sequence[tuple[float, float]], radius: float) -> np.ndarray:
    """Return square boxes (n, 4) in pixels around points in data units; the radius is in points."""
    axes.figure.draw_without_rendering()
    centres = axes.transData.transform(np.array(points, float).reshape(-1, 2))
    return np.hstack([centres - radius * axes.figure.dpi / 72, centres + radius * axes.figure.dpi / 72])


def spread(wanted: Sequence[float], least: float) -> list[float]:
    """Return the positions nearest to the wanted ones, by least squares, that keep their order and are `least` apart.

    The method is the pool-adjacent-violators algorithm of isotonic regression.
    """
    order = sorted(range(len(wanted)), key=lambda each: wanted[each])
    blocks: list[list[float]] = []  # the sum of the places that its members want for its first one, and their number
    for rank, index in enumerate(order):
        blocks.append([wanted[index] - rank * least, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    starts = [total / count for total, count in blocks for _ in range(int(count))]
    result = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        result[index] = starts[rank] + rank * least
    return result


def width_of(text: str, size: float) -> float:
    """Return the width of a text in points; `size` is that of its letters."""
    figure = Figure(dpi=72)  # so that a pixel is a point
    drawn = Text(0, 0, text, fontproperties=FontProperties(family=FONTS, size=size), figure=figure)
    return drawn.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width


def _extent(axes: Axes, canvas: FigureCanvasAgg, label: Label, size: float) -> tuple[float, float]:
    """Return a label's width and height in pixels; the height is at least that of a line."""
    font = FontProperties(family=FONTS, size=size, weight=label.weight)
    text = Text(0, 0, label.text, fontproperties=font, figure=axes.figure)
    box = text.get_window_extent(canvas.get_renderer())
    return box.width, max(box.height, size * axes.figure.dpi / 72)


def _candidates(centre: np.ndarray, width: float, height: float, scale: float, below: bool):
    """Yield boxes around a point, each with the offset of its middle in pixels and its distance in points."""
    for distance in DISTANCES:
        for rank, angle in enumerate(BELOW if below else ANGLES):
            direction = np.array([np.cos(angle), np.sin(angle)])
            # The label's middle lies where its nearest edge is `distance` away.
            reach = np.array([width / 2, height / 2]) * np.clip(direction * 1.6, -1, 1)
            offset = direction * distance * scale + reach
            middle = centre + offset
            half = np.array([width / 2 + GAP, height / 2 + GAP * 0.4])
            yield np.concatenate([middle - half, middle + half]), offset, distance + 0.3 * rank


def _touches(boxes: np.ndarray, box: np.ndarray) -> bool:
    apart = (boxes[:, 2] <= box[0]) | (boxes[:, 0] >= box[2]) | (boxes[:, 3] <= box[1]) | (boxes[:, 1] >= box[3])
    return bool((~apart).any())


def _distance(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the distance of each point from a box."""
    return np.hypot(*(points - np.clip(points, box[:2], box[2:])).T)


def _within(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    if not len(points):
        return np.zeros(0, bool)
    return (points[:, 0] > box[0]) & (points[:, 0] < box[2]) & (points[:, 1] > box[1]) & (points[:, 1] < box[3])


def _leader(centre: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return points on the line from a point to the nearest place of its label's box."""
    end = np.clip(centre, box[:2], box[2:])
    return centre + np.linspace(0, 1, 16)[1:-1, None] * (end - centre)


def _along(lines: Sequence[np.ndarray], step: float = 3.0) -> np.ndarray:
    """Return points every `step` pixels along polylines."""
    found = [np.empty((0, 2))]
    for line in lines:
        for start, end in zip(line[:-1], line[1:]):
            if np.isfinite([start, end]).all():
                count = int(min(2000, max(2, np.hypot(*(end - start)) / step)))
                found.append(start + np.linspace(0, 1, count)[:, None] * (end - start))
    return np.vstack(found)
