"""Draw how networks become sparse: the share of their weights that are not 0, and the training loss, epoch by epoch.

    figure = traces(pair)                         # None where no epoch says what is active

Thin vertical lines mark the moments of pruning; Gradual prunes between two of them.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from schedules.figures.captions import caption, heading
from schedules.figures.curves import epoch_axis, mark_ends
from schedules.figures.style import MUTED, drawing, log_ticks, look, rule
from schedules.figures.tradeoff import SIZE
from schedules.outcomes import Group, Pair
from schedules.table import finite

UPPER, LOWER = (0.06, 0.585, 0.725, 0.345), (0.06, 0.163, 0.725, 0.345)  # left, bottom, width, height as shares
LETTERS = 32  # of a label beside the panels
LEAST = 1e-6  # share of weights below which a line ends at the lower edge


@drawing()
def traces(pair: Pair) -> Figure | None:
    """Return the figure of one pair; None where there is nothing to draw."""
    shares = {group.number: _line(group, "active_fraction", LEAST) for group in pair.groups}
    groups = [group for group in pair.groups if len(shares[group.number])]
    if not groups:
        return None
    losses = {group.number: _line(group, "train_loss") for group in groups}
    figure = Figure(SIZE)
    upper, lower = figure.add_axes(UPPER), figure.add_axes(LOWER)
    for axes, lines in ((upper, shares), (lower, losses)):
        shown = [lines[group.number] for group in groups if len(lines[group.number])]
        if not shown:
            continue
        epoch_axis(axes, shown, 8)
        _scale(axes, np.concatenate(shown)[:, 1])
        rule(axes)
        for group in groups:
            colour = look(group.family).colour
            axes.plot(*lines[group.number].T, color=colour, linewidth=0.9, zorder=3, gid=f"trace-{group.number}")
        axes.set_xlim(left=min(axes.get_xlim()[0], *moments(groups)) if moments(groups) else None)
        for moment in sorted(moments(groups)):
            axes.axvline(moment, color=MUTED, linewidth=0.6, linestyle=(0, (1, 2)), zorder=2, gid=f"pruned-{moment:g}")
        named = [group for group in groups if len(lines[group.number])]
        mark_ends(axes, named, lines, words=_words)
    upper.set_xticklabels([])
    lower.set_xlabel("epoch", labelpad=1)
    heading(figure, upper, "share of the weights that are not 0", pair.title)
    heading(figure, lower, "training loss", "")
    caption(figure, pair, groups, more="; dotted: pruning begins or ends" if moments(groups) else "")
    return figure


def moments(groups: list[Group]) -> set[float]:
    """Return the epochs after which the groups' runs are pruned, and those after which Gradual has reached its share."""
    found = (group.first.get(flag) for group in groups for flag in ("prune_at", "prune_until"))
    return {epoch for epoch in found if finite(epoch)}


def _words(group: Group, short: bool) -> str:
    """Return what fits beside a line: the group's label, and whether it was taught."""
    words = group.label if len(group.label) <= LETTERS else f"{group.label[: LETTERS - 1]}…"
    return f"{words}, taught" if group.taught else words


def _line(group: Group, measure: str, least: float = -np.inf) -> np.ndarray:
    """Return the measure's curve, (epochs, 2); (0, 2) where no epoch has it."""
    curve = group.curve(measure)
    return np.array([(epoch, max(value, least)) for epoch, value in curve]) if curve else np.empty((0, 2))


def _scale(axes: Axes, values: np.ndarray) -> None:
    low, high = values.min(), values.max()
    if low > 0 and high / low > 4:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.25, high * 1.25)
        log_ticks(axes.yaxis, *axes.get_ylim(), "{:g}".format, most=6)
    else:
        margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)
