"""Draw the brackets of a search: error of images held out against epochs, a panel for each bracket.

    figure = brackets_figure(search, results, winner(results, space.R))

A line is a run, as far as its bracket has trained it: grey where it was left behind after the first round, the darker the
further it came. A dot is its end, a star the winner, a cross at the upper edge a run that failed or diverged.
"""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from record import reader
from record.paths import RUNS
from schedules.comparable import counted, images
from schedules.figures.captions import cut
from schedules.figures.style import FAINT, INK, MUTED, PAPER, SMALL, TINY, drawing, error_scale, log_ticks, look, rule
from schedules.search.rounds import Result, Search, described

COLUMNS = 3
WIDTH, LEFT, RIGHT, GAP = 7.2, 0.42, 0.12, 0.18  # inches
HEIGHT, ABOVE, BELOW, BETWEEN = 1.75, 0.55, 0.62, 0.5
WINNER = look("CP").colour
SHADES = ("#b9c4d6", "#8aa0c0", "#5c7cab", "#2f5996", "#173b70")

Curve = list[tuple[int, float]]


@drawing()
def brackets_figure(search: Search, results: Sequence[Result], best: Result | None) -> Figure:
    """Return the figure of a search that is over. Args: best: its winner, None where it has none."""
    numbers = list(search.rounds)
    columns, rows = min(COLUMNS, len(numbers)), math.ceil(len(numbers) / COLUMNS)
    height = ABOVE + rows * HEIGHT + (rows - 1) * BETWEEN + BELOW
    figure = Figure((WIDTH, height))
    width = (WIDTH - LEFT - RIGHT - (columns - 1) * GAP) / columns
    ends = {s: _ends(results, s) for s in numbers}
    curves = {each.name: _curve(each) for of in ends.values() for each in of}
    errors = [error for curve in curves.values() for _, error in curve] or [0.0, 100.0]
    for place, s in enumerate(numbers):
        row, column = divmod(place, columns)
        bottom = height - ABOVE - (row + 1) * HEIGHT - row * BETWEEN
        axes = figure.add_axes(
            ((LEFT + column * (width + GAP)) / WIDTH, bottom / height, width / WIDTH, HEIGHT / height)
        )
        error_scale(axes, min(errors), max(errors))
        _epochs(axes, search.space.R, sorted({1, *(each.epochs for each in search.rounds[s])}))
        _panel(axes, ends[s], curves, len(search.rounds[s]), best)
        axes.set_title(_title(s, ends[s]), loc="left", fontsize=TINY + 0.5, color=MUTED, pad=3)
        if column:
            axes.set_yticklabels([])
        if place + columns >= len(numbers):
            axes.set_xlabel("epochs", labelpad=1)
    _words(figure, search, results, best)
    return figure


def _ends(results: Sequence[Result], s: int) -> list[Result]:
    """Return the last result of each run of a bracket, by its index."""
    last: dict[int, Result] = {}
    for each in sorted(results, key=lambda each: each.round):
        if each.bracket == s:
            last[each.index] = each
    return [last[index] for index in sorted(last)]


def _curve(end: Result) -> Curve:
    """Return (epoch, error) of a run as far as its last round; epochs count from 1."""
    record = reader.read(RUNS / end.name)
    rows = record.rows if record is not None else []
    found = [(row["epoch"] + 1, row.get("val_top1_error")) for row in rows if row.get("epoch", end.epochs) < end.epochs]
    return [(epoch, error) for epoch, error in found if error is not None and math.isfinite(error)]


def _epochs(axes: Axes, R: int, marks: list[int]) -> None:
    """Set the axis of epochs, logarithmic, with a mark at its beginning and at the end of each round."""
    axes.set_xscale("log")
    axes.set_xlim(0.85, 1.18 * max(R, 2))
    log_ticks(axes.xaxis, 0.85, 1.18 * max(R, 2))
    axes.set_xticks(marks, [str(each) for each in marks])
    rule(axes)


def _panel(axes: Axes, ends: list[Result], curves: dict[str, Curve], rounds: int, best: Result | None) -> None:
    for each in sorted(ends, key=lambda end: (end.round, -end.index)):  # those that came further lie above
        is_best = best is not None and each.name == best.name
        depth = 1.0 if rounds == 1 else each.round / (rounds - 1)
        shade = FAINT if not each.round and rounds > 1 else SHADES[round(depth * (len(SHADES) - 1))]
        colour, curve = WINNER if is_best else shade, curves[each.name]
        order = 6 if is_best else 3 + depth
        if curve:
            axes.plot(
                *zip(*curve), color=colour, linewidth=1.5 if is_best else 0.7, zorder=order, gid=f"run-{each.name}"
            )
            size = 2.2 if each.error is not None else 0.0
            axes.plot(*curve[-1], marker="o", markersize=size, color=colour, linestyle="none", zorder=order)
        if each.error is None:
            edge = curve[-1][0] if curve else each.epochs
            axes.plot(
                edge, 0.97, marker="x", markersize=4, color=INK, transform=axes.get_xaxis_transform(), clip_on=False,
                linestyle="none", zorder=7, gid=f"failed-{each.name}",
            )  # fmt: skip
        if is_best:
            axes.plot(
                *curve[-1], marker="*", markersize=10, color=WINNER, markeredgecolor=PAPER, markeredgewidth=0.6, zorder=8,
                gid="winner",
            )  # fmt: skip


def _title(s: int, ends: list[Result]) -> str:
    failed = sum(each.error is None for each in ends)
    return f"bracket {s}: {len(ends)} run{'s' * (len(ends) != 1)}" + (f", {failed} failed" if failed else "")


def _words(figure: Figure, search: Search, results: Sequence[Result], best: Result | None) -> None:
    """Write the heading and the caption."""
    space, top = search.space, 1 - 0.2 / figure.get_figheight()
    figure.text(0.012, top, "validation top-1 error, %", fontsize=SMALL, fontweight="bold", gid="heading")
    where = f"{space.name}: R {space.R}, eta {space.eta}, seed {space.seed}"
    figure.text(0.988, top, cut(where), fontsize=SMALL, color=MUTED, ha="right", gid="where")
    lines = ["a line is a run; the darker, the more rounds it came through; crosses: runs that failed or diverged"]
    lines[0] += _facts(results)
    if best is not None:
        flags = described(space.flags(best.bracket, best.index))
        lines.append(f"star: the winner {best.name}, {best.error:.2f} %: {flags}")
    figure.text(
        0.012,
        0.06 / figure.get_figheight(),
        "\n".join(each[:170] for each in lines),
        fontsize=TINY,
        color=MUTED,
        gid="caption",
    )


def _facts(results: Sequence[Result]) -> str:
    """Return how long the runs were trained, with how many seeds, and on how many images, as the record of one says it."""
    for each in results:
        record = reader.read(RUNS / each.name)
        if record is None or "dataset" not in record.config:
            continue
        trained, held = images(record.config)[0], record.config.get("val_size")
        counts = f"; {trained:,} training images, {held:,} held out" if trained and held else ""
        return f"; {counted(max(one.epochs for one in results), 'epoch')} at the most, 1 seed a run{counts}"
    return ""
