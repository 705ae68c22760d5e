"""Draw which channels each class opens: a panel a gated layer, a row a class, a column a channel.

    figure = heat_map("digits.fbs", "FBS_0.5, 297 test images", {"conv1.0": shares}, names=[])

Channels are ordered so that those which the same classes open stand together: first those that nearly all images open; then those
that tell classes apart, by the angle of their first two principal components over the classes; then those that all classes open about
as often, and at the end those that nearly no image opens.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from schedules.figures.style import FAINT, INK, MUTED, SMALL, TINY, drawing

WIDTH = 9.6  # inches
LEFT, RIGHT, TOP, BOTTOM, ACROSS, DOWN = 0.75, 0.15, 0.62, 0.62, 0.3, 0.3  # inches; the last two between panels
ROW, LEAST, MOST = 0.075, 0.5, 1.6  # inches of a class, of a panel
CONSTANT = 0.05  # a channel whose shares are all that near to 0 or 1 is taken as closed, or open, for every class
TELLS = 0.3  # a channel tells classes apart whose shares differ by that
NAMED = 20  # classes whose names fit beside a panel
COLOURS = LinearSegmentedColormap.from_list(
    "gates", ["#f7f7f4", "#a6cde0", "#3f8fc1", "#0b4f8a", "#08203f"]
).with_extremes(bad=FAINT)


@drawing()
def heat_map(name: str, words: str, shares: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Return the figure of a run.

    Args: words: on its gates and images; shares: by layers, of a class's images that open a channel (classes, o); names: of the
    classes; none: they are numbered.
    """
    classes = len(next(iter(shares.values())))
    columns = 1 if len(shares) <= 4 else 2 if len(shares) <= 16 else 3
    rows = -(-len(shares) // columns)
    high = min(MOST, max(LEAST, ROW * classes))
    left, across = (LEFT, LEFT) if classes <= NAMED else (0.4, ACROSS)
    wide = (WIDTH - left - RIGHT - (columns - 1) * across) / columns
    height = TOP + BOTTOM + rows * high + (rows - 1) * DOWN
    figure = Figure((WIDTH, height))
    for place, (layer, share) in enumerate(shares.items()):
        row, column = divmod(place, columns)
        x, y = left + column * (wide + across), height - TOP - row * (high + DOWN) - high
        axes = figure.add_axes((x / WIDTH, y / height, wide / WIDTH, high / height), gid=f"gate-{place}")
        image = axes.imshow(share[:, order(share)], COLOURS, aspect="auto", interpolation="nearest", vmin=0, vmax=1)
        axes.set_title(_title(layer, share, 60 // columns), fontsize=TINY, loc="left", pad=2, color=INK)
        _ticks(axes, classes, names)
    figure.text(0.1 / WIDTH, 1 - 0.2 / height, name, fontsize=SMALL, fontweight="bold", va="center")
    figure.text(1 - RIGHT / WIDTH, 1 - 0.2 / height, words, fontsize=SMALL, color=MUTED, ha="right", va="center")
    bar = figure.add_axes((left / WIDTH, 0.28 / height, 1.6 / WIDTH, 0.09 / height))
    figure.colorbar(image, bar, orientation="horizontal", ticks=(0, 0.5, 1)).outline.set_linewidth(0.4)
    bar.tick_params(labelsize=TINY, length=2, pad=1)
    note = (
        "mean gate: share of a class's images that open a channel; columns are channels, whose number is above,\n"
        "in order: always open first, then by the classes that open them, then never open"
    )
    figure.text((left + 1.8) / WIDTH, 0.32 / height, note, fontsize=TINY, color=MUTED, va="center")
    return figure


def order(share: np.ndarray) -> np.ndarray:
    """Return the numbers of the channels of (classes, o) in the order in which they are drawn."""
    known = share[~np.isnan(share).any(1)]
    if not len(known):
        return np.arange(share.shape[1])
    opened, closed = known.min(0) >= 1 - CONSTANT, known.max(0) <= CONSTANT
    tells = known.max(0) - known.min(0) >= TELLS
    between = np.flatnonzero(tells)
    if len(between) > 2 and len(known) > 2:
        centred = known[:, between] - known[:, between].mean(0)
        _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
        first, second = sizes[:2, None] * axes[:2]
        angles = np.arctan2(second, first)
        angles = np.sort(angles), between[np.argsort(angles, kind="stable")]
        gaps = np.diff(angles[0], append=angles[0][0] + 2 * np.pi)
        between = np.roll(angles[1], -1 - int(gaps.argmax()))  # the circle is cut where it is emptiest
    means = known.mean(0)

    def by_mean(chosen: np.ndarray) -> np.ndarray:
        numbers = np.flatnonzero(chosen)
        return numbers[np.argsort(-means[numbers], kind="stable")]

    return np.concatenate([by_mean(opened), between, by_mean(~opened & ~tells & ~closed), by_mean(closed)])


def _title(layer: str, share: np.ndarray, letters: int) -> str:
    known = share[~np.isnan(share).any(1)]
    always, never = (known >= 1 - CONSTANT).all(0).sum(), (known <= CONSTANT).all(0).sum()
    layer = layer if len(layer) <= letters else f"…{layer[1 - letters :]}"
    return f"{layer}: {share.shape[1]}, {always} always open, {never} never"


def _ticks(axes: Axes, classes: int, names: Sequence[str]) -> None:
    """Say at the left edge that rows are classes, name those that fit, and leave out all other ticks."""
    axes.set_xticks([])
    axes.set_ylabel("class", fontsize=TINY, color=MUTED, labelpad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if classes > NAMED:
        axes.set_yticks([])
        return
    words = [name if len(name) <= 12 else f"{name[:11]}…" for name in names] or range(classes)
    axes.set_yticks(range(classes), words, fontsize=min(TINY, 60 * ROW))
    axes.tick_params(axis="y", length=0, pad=2)
