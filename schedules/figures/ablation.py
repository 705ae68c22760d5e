"""Draw the gain of compression-ratio scaled weight decay (CRS): groups that differ in it alone, a row for each setting.

    found = rows(pair)                            # [(label, {0.0: group without, 1.0: group with}), …]
    figure = ablation(pair, study.measure)        # None where nothing was trained both ways

The strength of CRS is `crs_factor`, or 0 with `nocrswd`.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from record.identity import asked
from schedules.comparable import setup
from schedules.figures.captions import caption, cut, measure_name
from schedules.figures.style import FAINT, HOLLOW, INK, MUTED, PAPER, SMALL, TINY, drawing, log_ticks, look
from schedules.figures.tradeoff import SIZE
from schedules.labelling import shown_conv
from schedules.outcomes import Group, Pair

Row = tuple[str, dict[float, Group]]


def strength(group: Group) -> float:
    """Return the factor of the compression ratio; 0 is without CRS, with equal decay for all parameters."""
    factor = group.first.get("crs_factor")
    return 0.0 if group.first.get("nocrswd") is True else float(1.0 if factor is None else factor)


def rows(pair: Pair) -> list[Row]:
    """Return the settings that were trained with several strengths, with their groups, the largest gain first."""
    by_setting: dict[tuple, dict[float, Group]] = {}
    for group in pair.groups:
        run = group.first
        rest = setup(run, without=("nocrswd", "crs_factor"))
        key = (group.family, asked(run), run.get("module"), group.taught, str(rest))
        by_setting.setdefault(key, {})[strength(group)] = group
    found = []
    for arms in by_setting.values():
        if len(arms) > 1:
            group = arms[max(arms)]
            base = shown_conv(group.first)
            found.append((base, dict(sorted(arms.items()))))
    return sorted(found, key=lambda row: _gain(row[1]))


@drawing()
def ablation(pair: Pair, measure: str) -> Figure | None:
    """Return the figure of one pair, errors from left to right and the largest gain on top; None without any row."""
    found = rows(pair)
    if not found:
        return None
    height = 1.25 + 0.27 * len(found)
    figure = Figure((SIZE[0], height))
    axes = figure.add_axes((0.27, 0.72 / height, 0.56, 0.27 * len(found) / height))
    ends = [
        group.error + sign * (group.std or 0) for _, arms in found for group in arms.values() for sign in (-1, 0, 1)
    ]
    _scale(axes, max(min(ends), 0.01), max(ends))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(True, axis="x", color=FAINT, linewidth=0.4, alpha=0.6)
    axes.spines["left"].set_visible(False)
    taught = {group.taught for _, arms in found for group in arms.values()}
    for place, (words, arms) in enumerate(found):
        group = arms[max(arms)]
        words += "" if len(taught) == 1 else ", taught" if group.taught else ", alone"
        extra = _different(found, place)
        _row(axes, place, words + extra, arms)
    axes.set_yticks([])
    axes.set_xlabel(f"{measure_name(measure)}, %")
    figure.text(0.012, 1 - 0.2 / height, "Weight decay scaled by the compression ratio (CRS), or not", fontsize=SMALL,
                fontweight="bold", va="center", gid="heading")  # fmt: skip
    figure.text(0.988, 1 - 0.2 / height, cut(pair.title), fontsize=SMALL, color=MUTED, ha="right", va="center")
    _legend(figure, height, {each for _, arms in found for each in arms})
    drawn = [group for _, arms in found for group in arms.values()]
    bars = any(group.std for group in drawn)
    caption(figure, pair, drawn, ", bars of one standard deviation" if bars else "")
    return figure


def _gain(arms: dict[float, Group]) -> float:
    """Return the error with the strongest scaling less that with the weakest, below 0 where CRS helps."""
    return arms[max(arms)].error - arms[min(arms)].error


def _different(found: list[Row], place: int) -> str:
    """Return the words that tell a row from others of the same name: at most two of its settings."""
    words, arms = found[place]
    group = arms[max(arms)]
    mine = setup(group.first, without=("nocrswd", "crs_factor"))
    twins = [arms[max(arms)] for at, (other, arms) in enumerate(found) if other == words and at != place]
    others = [setup(twin.first, without=("nocrswd", "crs_factor")) for twin in twins if twin.taught == group.taught]
    fields = [name for name in mine if any(str(other[name]) != str(mine[name]) for other in others)]
    return "".join(f", {name} {mine[name]}" for name in fields[:2])


def _scale(axes: Axes, low: float, high: float) -> None:
    """Set the horizontal axis as style.error_scale sets a vertical one."""
    if high / low > 4:
        axes.set_xscale("log")
        axes.set_xlim(low / (high / low) ** 0.06, high * (high / low) ** 0.06)
        log_ticks(axes.xaxis, *axes.get_xlim(), "{:g}".format)
    else:
        margin = 0.06 * (high - low) or 0.1 * high
        axes.set_xlim(low - margin, high + margin)


def _style(family: str, factor: float) -> dict:
    """Return the marker: hollow and grey without CRS, else in the family's colour, and smaller for factors but 1."""
    if factor == 0:
        return dict(marker="o", markersize=5.5, markerfacecolor=HOLLOW, markeredgecolor=MUTED, color=MUTED)
    colour = look(family).colour
    size = 6.5 if factor == 1 else 4.5
    return dict(marker="o", markersize=size, markerfacecolor=colour, markeredgecolor=PAPER, color=colour)


def _row(axes: Axes, place: int, words: str, arms: dict[float, Group]) -> None:
    errors = [group.error for group in arms.values()]
    family = next(iter(arms.values())).family
    axes.plot([min(errors), max(errors)], [place, place], color=look(family).colour, linewidth=2.2, alpha=0.35, zorder=2,
              gid=f"pair-{place}")  # fmt: skip
    for factor, group in arms.items():
        style = _style(group.family, factor)
        if group.std:
            ends = [group.error - group.std, group.error + group.std]
            axes.plot(ends, [place, place], color=style["color"], linewidth=0.8, zorder=2.5)
        axes.plot(
            group.error, place, linestyle="none", zorder=4 if factor else 4.2, gid=f"point-{group.number}", **style
        )
        if factor not in (0, 1):
            axes.annotate(f"×{factor:g}", (group.error, place), (0, 4.5), textcoords="offset points", ha="center",
                          fontsize=TINY - 1.5, color=style["color"])  # fmt: skip
    left = dict(xycoords=("axes fraction", "data"), textcoords="offset points", va="center", fontsize=TINY)
    axes.annotate(words, (0, place), (-8, 0), ha="right", color=INK, gid=f"row-{place}", **left)
    gain = _gain(arms)
    axes.annotate(f"{gain:+.2f} points".replace("-", "−"), (1, place), (8, 0), color=INK if gain < 0 else MUTED, **left)


def _legend(figure: Figure, height: float, factors: set[float]) -> None:
    shown = [(0.0, "without CRS"), (1.0, "with CRS")] + [(0.5, "with another factor")] * bool(factors - {0.0, 1.0})
    handles = []
    for factor, words in shown:
        style = _style("Conv", factor) if factor == 0 else _style("Conv", factor) | dict(markerfacecolor=INK)
        handles.append(Line2D([], [], linestyle="none", label=words, **style))
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(0.255, 1 - 0.41 / height), ncols=len(handles), frameon=False,
        fontsize=TINY, handletextpad=0.1, columnspacing=1.2, borderpad=0,
    )  # fmt: skip
