"""Draw what families cost over their settings, for schedules/costs.py.

ranges(rows, reference, "cifar10, WRN-28-10")          # parameters against s, L and g
plane(rows, reference, "cifar10, WRN-28-10")           # mult-adds against parameters
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layers.registry import FAMILIES
from schedules.figures.captions import family_name
from schedules.figures.labels import Label, boxes_of, place, spread
from schedules.figures.style import INK, MUTED, SMALL, TINY, drawing, human, log_ticks, look, point, rule
from schedules.figures.tradeoff import SIZE

SHORT = 14.0  # points of the longest line to a label: among so many points, longer ones would cross
PANELS = {"s": "share s of the numbers", "L": "length L", "g": "g groups, b blocks, r terms"}


def symbol(family: str) -> str:
    """Return the panel of a family's number: s, L, or g for all that channels bound; "" where it has none."""
    numbers = FAMILIES[family.partition("_x_")[0]].numbers if family.partition("_x_")[0] in FAMILIES else ()
    return "" if not numbers else "g" if getattr(numbers[0], "of_channels", False) else numbers[0].symbol


def curves_of(rows: list) -> dict[str, list]:
    """Return the rows of each family, in their order."""
    found: dict[str, list] = {}
    for row in rows:
        found.setdefault(row.family, []).append(row)
    return found


@drawing()
def ranges(rows: list, reference, where: str) -> Figure:
    """Return a figure of the network's parameters against the setting, with a panel for each kind of setting.

    `rows` and `reference` are those of schedules/costs.py; `where` names the dataset and the network.
    """
    figure = Figure((SIZE[0], 4.2))
    widths, left = {"s": (0.27, 0.185), "L": (0.12, 0.165), "g": (0.11, 0.09)}, 0.06
    of_family = {family: each for family, each in curves_of(rows).items() if symbol(family)}
    params = [row.cost.params for each in of_family.values() for row in each] + [reference.cost.params]
    low, high = min(params) / 1.25, max(params) * 1.25
    for kind, title in PANELS.items():
        width, gap = widths[kind]  # the gap holds the names and the next panel's numbers
        axes = figure.add_axes((left, 0.115, width, 0.81))
        left += width + gap
        axes.set_xscale("log"), axes.set_yscale("log"), axes.set_ylim(low, high)
        members = {family: each for family, each in of_family.items() if symbol(family) == kind}
        numbers = [row.number for each in members.values() for row in each]
        axes.set_xlim(min(numbers), max(numbers))
        log_ticks(axes.xaxis, *axes.get_xlim(), "{:g}".format, most=7 if kind == "s" else 4)
        log_ticks(axes.yaxis, low, high)
        rule(axes)
        axes.axhline(reference.cost.params, color=INK, linewidth=0.8, zorder=2, gid="reference")
        for family, each in members.items():
            line = np.array([(row.number, row.cost.params) for row in each])
            axes.plot(*line.T, color=look(family).colour, linewidth=0.9, gid=f"family-{family}", zorder=3)
            axes.plot(
                *line.T, **point(family, True) | dict(markersize=look(family).size * 0.6), zorder=4, clip_on=False
            )
        last = max(numbers)
        _ends(axes, {family: each[-1].cost.params for family, each in members.items() if each[-1].number == last})
        for family, each in members.items():
            if each[-1].number != last:  # no layer can take a larger one
                axes.annotate(family_name(family), (each[-1].number, each[-1].cost.params), (-5, 3), ha="right",
                              textcoords="offset points", fontsize=TINY - 0.5, color=look(family).colour,
                              gid=f"label-{family}")  # fmt: skip
        axes.set_xlabel(title)
    words = f"{reference.conv}, {human(reference.cost.params)}"
    figure.axes[0].annotate(words, (0.015, reference.cost.params), (0, 3), xycoords=("axes fraction", "data"),
                            textcoords="offset points", fontsize=TINY, gid="reference-label")  # fmt: skip
    _heading(figure, "parameters", where)
    return figure


def _ends(axes: Axes, ends: dict[str, float]) -> None:
    """Write the families' names to the right of their curves."""
    height = axes.get_position().height * axes.figure.get_figheight() * 72
    at = [axes.transAxes.inverted().transform(axes.transData.transform((1, end)))[1] * height for end in ends.values()]
    for family, start, end in zip(ends, at, spread(at, TINY * 1.15)):
        axes.annotate("", (1, start / height), (11, end - start), xycoords="axes fraction", textcoords="offset points",
                      arrowprops=dict(arrowstyle="-", color=look(family).colour, linewidth=0.4, shrinkA=0, shrinkB=3),
                      annotation_clip=False)  # fmt: skip
        axes.annotate(family_name(family), (1, start / height), (12, end - start), xycoords="axes fraction",
                      textcoords="offset points", va="center", fontsize=TINY - 0.5, color=look(family).colour,
                      gid=f"label-{family}", annotation_clip=False)  # fmt: skip


@drawing()
def plane(rows: list, reference, where: str) -> Figure:
    """Return a figure of exact mult-adds against parameters, a curve for each family.

    The first and the last setting of a family have labels where there is room.
    """
    figure = Figure((SIZE[0], 5.2))
    axes = figure.add_axes((0.068, 0.105, 0.725, 0.825))
    costs = np.array([(row.cost.params, row.cost.mult_adds_exact) for row in rows])
    room = (costs.max(0) / costs.min(0)) ** 0.06
    low, high = costs.min(0) / room, costs.max(0) * room
    axes.set_xscale("log"), axes.set_yscale("log"), axes.set_xlim(low[0], high[0]), axes.set_ylim(low[1], high[1])
    log_ticks(axes.xaxis, low[0], high[0]), log_ticks(axes.yaxis, low[1], high[1])
    rule(axes)
    lines, labels, handles = [], [], []
    for family, each in curves_of(rows).items():
        line = np.array([(row.cost.params, row.cost.mult_adds_exact) for row in each])
        lines.append(line)
        if family not in FAMILIES and "_x_" not in family:
            whole = [(reference.cost.params, reference.cost.mult_adds_exact), *line]
            axes.plot(*zip(*whole), color=MUTED, linestyle=(0, (4, 2.5)), linewidth=1.0, zorder=2, gid="control")
            axes.plot(*line.T, "s", color=MUTED, markersize=2.6, zorder=2.5, gid="widths")
            labels += [Label(row.conv, row.conv.partition("--")[2], at, MUTED) for at, row in zip(line, each)]
            continue
        style = point(family, True) | dict(markersize=look(family).size * 0.75)
        if family == reference.family:
            style |= dict(color=INK, markerfacecolor=INK, markersize=8.5)
        axes.plot(*line.T, color=look(family).colour, linewidth=0.8, alpha=0.8, zorder=3, gid=f"family-{family}")
        above = 0.5 if family == reference.family else 0  # others may cost the same
        axes.plot(*line.T, zorder=4 + above, gid=f"points-{family}", clip_on=False, **style)
        handles.append(Line2D([], [], label=family_name(family), **style))
        for row in {each[0].conv: each[0], each[-1].conv: each[-1]}.values():
            at = (row.cost.params, row.cost.mult_adds_exact)
            colour = INK if row is reference else look(family).colour
            labels.append(Label(row.conv, row.conv, at, colour, weight="bold" if row is reference else "normal"))
    labels.sort(key=lambda label: (label.weight != "bold", label.colour == MUTED))
    place(axes, labels, boxes_of(axes, costs, 2.4), lines, size=TINY - 0.5, farthest=SHORT)
    axes.set_xlabel("parameters")
    if any(line.get_gid() == "control" for line in axes.lines):
        style = dict(color=MUTED, linestyle=(0, (4, 2.5)), linewidth=1.0)
        handles.append(Line2D([], [], label=f"{reference.conv}, narrower", **style))
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.80, 0.945), frameon=False, fontsize=TINY,
                  handlelength=1.9, labelspacing=0.4, handletextpad=0.5, borderpad=0)  # fmt: skip
    _heading(figure, "exact mult-adds per image", where)
    return figure


def _heading(figure: Figure, what: str, where: str) -> None:
    top = figure.axes[0].get_position().y1 + 0.03
    figure.text(0.012, top, what, fontsize=SMALL, fontweight="bold", gid="heading")
    figure.text(0.988, top, where, fontsize=SMALL, color=MUTED, ha="right")
