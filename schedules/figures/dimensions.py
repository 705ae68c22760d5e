"""Draw error as a heat map over the two numbers of a family's name: a row for each d, a column for each share, as TensorTrain_s_d.

    figure = dimensions(pair, study.measure)      # None where no family has runs of several of both
    has_dimensions(pair)

A panel is one family, with a teacher or alone, in one setting. A cell is the mean error of its runs, in figures above the
parameters of the network; it is empty where nothing has finished.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from layers.mixed import MixedName, parse_name
from layers.registry import FAMILIES
from schedules.figures.captions import caption, cut, families, measure_name
from schedules.figures.style import INK, MUTED, PAPER, SMALL, TINY, drawing, human, log_ticks
from schedules.outcomes import Group, Pair
from system.errors import RequestError

WIDEST, NARROWEST = 7.9, 5.8  # inches; with more columns than fit, they are narrower
LEFT, RIGHT, TOP, BOTTOM, DOWN = (
    0.42,
    0.15,
    0.62,
    0.95,
    0.52,
)  # inches; LEFT of each panel, DOWN between two rows of them
CELL, ROW = 0.37, 0.3  # inches
LARGER = 1.9  # times as large are cells at the most, where few of them leave room
BESIDE = 2.2  # inches of the scale of colours beside the panels, where they leave as much room; else it is below
NOTE = 46  # letters of a line below the scale, where it stands beside the panels
NARROW = 0.3  # inches of a column in which parameters do not fit, and figures stand upright
COLOURS = LinearSegmentedColormap.from_list("errors", ["#fdf6e3", "#f2c879", "#d9783f", "#9b2f3d", "#3b1230"])


@dataclass(frozen=True)
class Panel:
    """The groups of one family in one setting, by (second, first number of the conv)."""

    title: str
    family: str
    cells: dict[tuple[float, float], list[Group]]

    @property
    def rows(self) -> list[float]:
        """The second numbers, from the least."""
        return sorted({row for row, _ in self.cells})

    @property
    def columns(self) -> list[float]:
        """The first numbers, from the least."""
        return sorted({column for _, column in self.cells})

    @property
    def groups(self) -> list[Group]:
        """All its groups."""
        return [*chain.from_iterable(self.cells.values())]


def has_dimensions(pair: Pair) -> bool:
    """Return whether there is anything to draw."""
    return bool(panels(pair))


def panels(pair: Pair) -> list[Panel]:
    """Return the panels of a pair, those of a family together, taught before alone.

    A family has one where some of its runs share a share, and some a d.
    """
    found: dict[tuple, dict[tuple[float, float], list[Group]]] = {}
    for group in pair.groups:
        numbers = _numbers(group)
        if numbers is not None:
            family, first, second = numbers
            cells = found.setdefault((family, not group.taught, group.suffix), {})
            cells.setdefault((second, first), []).append(group)
    order = families(pair.groups)
    ranks = {family.partition("_x_")[0]: rank for rank, family in reversed([*enumerate(order)])}
    both = {is_alone for _, is_alone, _ in found}
    made = []
    for family, is_alone, suffix in sorted(found, key=lambda key: (ranks[key[0]], *key)):
        words = [family, *([("taught", "alone")[is_alone]] if len(both) > 1 else []), *filter(None, [suffix])]
        panel = Panel(", ".join(words), family, found[family, is_alone, suffix])
        if min(len(panel.rows), len(panel.columns)) > 1 and len(panel.cells) > max(len(panel.rows), len(panel.columns)):
            made.append(panel)
    return made


def _numbers(group: Group) -> tuple[str, float, float] | None:
    """Return a group's family with the two numbers of its conv; None where it has no two, or more than its conv compresses it."""
    if not group.first.get("conv") or "," in group.family or "allocated" in group.family:
        return None
    try:
        name = parse_name(group.first["conv"])
    except RequestError:  # of another version
        return None
    if isinstance(name, MixedName) or len(name.numbers) != 2:
        return None
    return name.family, *name.numbers


@drawing()
def dimensions(pair: Pair, measure: str) -> Figure | None:
    """Return the figure of one pair, all panels in one scale of colours; None where there is nothing to draw."""
    shown = panels(pair)
    if not shown:
        return None
    cell, row = _sizes(shown)
    groups = [group for panel in shown for group in panel.groups]
    scale = _scale([group.error for group in groups])
    lines = _lines(shown, cell)
    heights = [max(len(panel.rows) for panel in line) * row for line in lines]
    used = max(sum(LEFT + len(panel.columns) * cell + RIGHT for panel in line) for line in lines)
    is_beside = len(lines) == 1 and used + BESIDE <= WIDEST
    wide, below = max(used + BESIDE, NARROWEST) if is_beside else WIDEST, BOTTOM - 0.33 * is_beside
    height = TOP + below + sum(heights) + DOWN * (len(lines) - 1)
    figure, top = Figure((wide, height)), height - TOP
    for line, highest in zip(lines, heights):
        x = LEFT
        for panel in line:
            high, across = len(panel.rows) * row, len(panel.columns) * cell
            axes = figure.add_axes((x / wide, (top - high) / height, across / wide, high / height))
            axes.set_gid(f"panel-{shown.index(panel)}")
            _panel(axes, panel, scale, cell)
            x += across + LEFT + RIGHT
        top -= highest + DOWN
    figure.text(0.1 / wide, 1 - 0.2 / height, f"{measure_name(measure)}, %", fontsize=SMALL, fontweight="bold",
                va="center", gid="heading")  # fmt: skip
    figure.text(
        1 - RIGHT / wide, 1 - 0.2 / height, cut(pair.title), fontsize=SMALL, color=MUTED, ha="right", va="center"
    )
    notes = ["in each cell its error above its parameters" if cell > NARROW else "in each cell its error"]
    notes += [f"{guide.label}: {guide.error:.2f} %" for guide in pair.guides]
    left, bottom = (used + 0.05, height - TOP - 0.11) if is_beside else (LEFT, 0.58)
    _bar(figure, scale, (left / wide, bottom / height, 1.8 / wide, 0.09 / height))
    at = (left, bottom - 0.3) if is_beside else (LEFT + 2.0, 0.62)
    notes = [line for note in notes for line in textwrap.wrap(note, NOTE)] if is_beside else notes
    figure.text(
        at[0] / wide, at[1] / height, ("\n" if is_beside else "; ").join(notes), fontsize=TINY, color=MUTED,
        va="top" if is_beside else "center", gid="note",
    )  # fmt: skip
    caption(figure, pair, groups)
    return figure


def _sizes(shown: Sequence[Panel]) -> tuple[float, float]:
    """Return the width and height of a cell in inches: few cells are larger, many narrower than usual."""
    columns = sum(len(panel.columns) for panel in shown)
    roomy = (WIDEST - BESIDE - len(shown) * (LEFT + RIGHT)) / columns
    narrow = (WIDEST - LEFT - RIGHT) / max(len(panel.columns) for panel in shown)
    cell = min(max(CELL, min(roomy, LARGER * CELL)), narrow)
    return cell, ROW * max(1.0, cell / CELL)


def _lines(shown: Sequence[Panel], cell: float) -> list[list[Panel]]:
    """Return the panels in lines, as many of them side by side as fit."""
    lines, left = [[]], WIDEST
    for panel in shown:
        wide = LEFT + len(panel.columns) * cell + RIGHT
        if lines[-1] and wide > left + 1e-9:
            lines.append([])
            left = WIDEST
        lines[-1].append(panel)
        left -= wide
    return lines


def _scale(errors: Sequence[float]) -> Normalize:
    """Return the scale of colours, logarithmic where errors are far apart, to tell small ones apart."""
    low, high = min(errors), max(errors)
    if low > 0 and high / low > 4:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + 1)


def _panel(axes: Axes, panel: Panel, scale: Normalize, cell: float) -> None:
    """Draw a panel, the least row on top."""
    rows, columns = panel.rows, panel.columns
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(rows), 0)
    for (row, column), groups in panel.cells.items():
        error, x, y = fmean(group.error for group in groups), columns.index(column), rows.index(row)
        colour = COLOURS(scale(error))
        gid = f"point-{groups[0].number}"
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor=PAPER, linewidth=0.8, gid=gid))
        ink = INK if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 0.55 else PAPER
        words = dict(ha="center", va="center", color=ink)
        figures = f"{error:.1f}" if error >= 10 else f"{error:.2f}"
        if cell <= NARROW:
            axes.text(
                x + 0.5, y + 0.5, figures, fontsize=TINY - 1.5, rotation=90, gid=f"label-{groups[0].number}", **words
            )
            continue
        letters = TINY * min(1.4, max(1.0, cell / CELL))
        axes.text(x + 0.5, y + 0.36, figures, fontsize=letters, gid=f"label-{groups[0].number}", **words)
        axes.text(x + 0.5, y + 0.77, human(groups[0].cost["params"]), fontsize=letters - 2, **words)
    first, second = (number.symbol for number in FAMILIES[panel.family].numbers)
    axes.set_xticks([at + 0.5 for at in range(len(columns))], [f"{each:g}" for each in columns],
                    fontsize=TINY, rotation=0 if cell > NARROW else 90)  # fmt: skip
    axes.set_yticks([at + 0.5 for at in range(len(rows))], [f"{second} = {each:g}" for each in rows], fontsize=TINY)
    axes.tick_params(length=0, pad=2)
    if cell > NARROW:
        axes.annotate(f"{first} =", (0, 0), (-2, -2), xycoords="axes fraction", textcoords="offset points", ha="right",
                      va="top", fontsize=TINY)  # fmt: skip
    axes.set_title(panel.title + f"; across: {first}" * (cell <= NARROW), fontsize=TINY, loc="left", pad=3, color=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _bar(figure: Figure, scale: Normalize, box: tuple[float, float, float, float]) -> None:
    bar = figure.add_axes(box)
    figure.colorbar(ScalarMappable(scale, COLOURS), bar, orientation="horizontal").outline.set_linewidth(0.4)
    if isinstance(scale, LogNorm):
        log_ticks(bar.xaxis, scale.vmin, scale.vmax, "{:g}".format, most=5)
    bar.tick_params(labelsize=TINY, length=2, pad=1)
