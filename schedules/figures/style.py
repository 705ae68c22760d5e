"""The style of figures: ink, type, and one colour and one marker for every family of blocks, in all studies.

    with drawing():
        axes.plot(cost, error, **point("SepHashed", taught=True))
    human(2_500_000)                        # '2.5M'

Related families share a hue: hashed green to blue-green, ACDC blue, tensor forms orange, purple and gold, low rank
violet. The hues are of the colour-blind-safe sets of Tol and of Okabe and Ito. No two families share a marker.
"""

import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from models.registry import NETWORKS, reference_conv
from schedules.figures import quiet

INK, MUTED, FAINT, PAPER = "#222222", "#6b6b6b", "#d4d4d4", "#ffffff"
HOLLOW = "none"  # the face of a hollow marker; white would hide the marks below
WANTED = ("Arial", "Liberation Sans", "Helvetica", "DejaVu Sans")  # the first three have equal widths


def _complete() -> None:
    """Add the fonts that were installed after matplotlib cached its list of fonts."""
    listed = {font.fname for font in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - listed):
        with suppress(Exception):  # a file that is no font fails in many ways; matplotlib skips it too
            font_manager.fontManager.addfont(path)


with quiet():
    _complete()
FONTS = [name for name in WANTED if name in font_manager.get_font_names()]
SMALL, TINY = 8.0, 7.0  # points
RC = {
    "font.family": "sans-serif", "font.sans-serif": FONTS, "font.size": SMALL, "text.color": INK,
    "text.hinting": "none", "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "swapconv",
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "axes.labelsize": SMALL, "axes.titlesize": SMALL, "axes.unicode_minus": True,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "xtick.major.size": 3, "ytick.major.size": 3,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "figure.dpi": 100, "savefig.dpi": 200,
    "figure.facecolor": PAPER, "axes.facecolor": "none", "path.simplify": True,
}  # fmt: skip
NOT_STYLE = ("backend", "backend_fallback", "interactive")  # the rest of matplotlib's parameters is as it ships


@contextmanager
def drawing() -> Iterator[None]:
    """Draw figures in this style, whatever the user has set; as a context or as a decorator.

    A letter that no font has, as in the name of a user's file, is drawn as a box.
    """
    shipped = {name: value for name, value in matplotlib.rcParamsDefault.items() if name not in NOT_STYLE}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", matplotlib.MatplotlibDeprecationWarning)
        warnings.filterwarnings("ignore", "Glyph .* missing")
        with matplotlib.rc_context(shipped | RC):
            yield


class Look(NamedTuple):
    """A colour as hex digits, a marker of matplotlib's that can be filled, and its size in points."""

    colour: str
    marker: object
    size: float = 6.0


HOURGLASS = [(-1, -1), (1, -1), (-1, 1), (1, 1), (-1, -1)]
LYING_DIAMOND = [(-1, 0), (0, 0.6), (1, 0), (0, -0.6), (-1, 0)]
LYING_HOURGLASS = [(-1, -1), (-1, 1), (1, -1), (1, 1), (-1, -1)]
CROWN = [(-1, -1), (-1, 1), (-0.45, 0), (0, 1), (0.45, 0), (1, 1), (1, -1), (-1, -1)]
BAR = [(-1, -0.45), (1, -0.45), (1, 0.45), (-1, 0.45), (-1, -0.45)]
ANGLE = [(-1, -1), (1, -1), (1, 0), (0, 0), (0, 1), (-1, 1), (-1, -1)]
TEE = [(-1, 1), (1, 1), (1, 0.3), (0.35, 0.3), (0.35, -1), (-0.35, -1), (-0.35, 0.3), (-1, 0.3), (-1, 1)]
PENNANT = [(-1, -1), (-1, 1), (1, 0.4), (-0.4, -0.2), (-0.4, -1), (-1, -1)]
LOOKS = {
    "Conv": Look("#555555", "s", 5.2),
    "Sep": Look("#8c564b", "D", 5.0),
    "Generic": Look("#7b4fb5", "<"),
    "LR": Look("#a97fd6", ">"),
    "Hashed": Look("#117733", "p", 6.4),
    "HashedDecimate": Look("#4fa35b", "h", 6.4),
    "SepHashed": Look("#009e87", "o", 5.8),
    "SepHashedFull": Look("#7a9a01", "P", 6.6),
    "SepHashedDecimate": Look("#0b6e63", "X", 6.4),
    "ACDC": Look("#0077bb", "^"),
    "OriginalACDC": Look("#3fa7e0", "v"),
    "PermutedACDC": Look("#2a4d9c", (3, 1, 0), 8.0),
    "TensorTrain": Look("#e8702a", "d", 6.6),
    "Tucker": Look("#aa3377", (4, 1, 0), 8.4),
    "CP": Look("#b8900a", "*", 8.4),
    "Shuffle": Look("#cc3311", HOURGLASS, 5.6),
    "Butterfly": Look("#5c6bc0", LYING_HOURGLASS, 6.0),
    "Monarch": Look("#8a5a00", CROWN, 6.4),
    "BTT": Look("#546e7a", BAR, 6.4),
    "Kronecker": Look("#00838f", ANGLE, 5.6),
    "SparseVD": Look("#c2410c", TEE, 6.0),
    "GroupVD": Look("#92400e", PENNANT, 6.0),
}
HOUSE = [(-0.8, -1), (0.8, -1), (0.8, 0.2), (0, 1), (-0.8, 0.2), (-0.8, -1)]
STAIRS = [(-1, 1), (-0.3, 1), (-0.3, 0.3), (0.35, 0.3), (0.35, -0.35), (1, -0.35), (1, -1), (-1, -1), (-1, 1)]
GATE = [(-1, -1), (-1, 1), (1, 1), (1, -1), (0.4, -1), (0.4, 0.3), (-0.4, 0.3), (-0.4, -1), (-1, -1)]
ELBOW = [(-1, 1), (-0.2, 1), (-0.2, -0.2), (1, -0.2), (1, -1), (-1, -1), (-1, 1)]
ARCH = [
    (-1, -1),
    (-1, 0.3),
    (-0.5, 0.9),
    (0.5, 0.9),
    (1, 0.3),
    (1, -1),
    (0.45, -1),
    (0.45, 0),
    (-0.45, 0),
    (-0.45, -1),
    (-1, -1),
]
FENCE = [(-1, -1), (-1, 1), (-0.6, 1), (-0.6, 0.25), (0.6, 0.25), (0.6, 1), (1, 1), (1, -1), (0.6, -1), (0.6, -0.25),
         (-0.6, -0.25), (-0.6, -1), (-1, -1)]  # fmt: skip
# How weights become 0 or channels are chosen: of the network's own conv; with another conv, that one's colour is darkened.
# Of two ways the colour is the first's and the marker the second's.
WAYS = {
    "Magnitude": Look("#d6277f", GATE, 5.8),
    "TopK": Look("#e0559b", HOUSE, 6.2),
    "Gradual": Look("#9c1f5f", STAIRS, 6.0),
    "L1": Look("#b04a8a", ELBOW, 5.8),
    "FBS": Look("#0f766e", ARCH, 6.2),
    "Naive": Look("#b45309", FENCE, 6.0),
}
TURNED = {"TensorTrain": LYING_DIAMOND, "Tucker": (4, 1, 45), "CP": (5, 1, 36)}  # of tensor forms with d other than 3
SHADES = {"2": -0.5, "4": -0.28, "5": 0.14, "6": 0.26, "7": 0.38, "8": 0.5, "9": 0.62}  # towards black or white, by d
OWN = ("8", "H", (6, 1, 0), (8, 1, 0))  # of a user's modules
OWN_COLOURS = ("#ee3377", "#d0569a", "#b03060")


def look(family: str) -> Look:
    """Return the look of a family. That of a user's module, or of an unknown family, depends on its name."""
    if family in LOOKS:
        return LOOKS[family]
    if family.endswith(", shrunk"):
        own = look(family.removesuffix(", shrunk"))
        return own._replace(colour=_shade(own.colour, -0.4))
    base, *ways = family.split(", ")
    if len(ways) == 1 and ways[0] in LOOKS:  # it was a layer of its own before it was shrunk
        return LOOKS[ways[0]]
    if ways and not set(ways) - set(WAYS):
        way = WAYS[ways[-1]]._replace(colour=WAYS[ways[0]].colour)
        return way if _is_own(base) else way._replace(colour=_shade(look(base).colour, -0.4))
    if (base := family.removesuffix(" allocated")) != family and (base in LOOKS or base.partition("_x_")[0] in TURNED):
        own = look(base)
        return own._replace(colour=_shade(own.colour, -0.4))
    base, _, dimensions = family.partition("_x_")
    if base in TURNED and dimensions in SHADES:
        size = LOOKS[base].size
        return Look(_shade(LOOKS[base].colour, SHADES[dimensions]), TURNED[base], size)
    chance = zlib.crc32(family.encode())
    return Look(OWN_COLOURS[chance % len(OWN_COLOURS)], OWN[chance // 7 % len(OWN)], 6.4)


def _is_own(conv: str) -> bool:
    """Return whether some network has this conv where nothing is swapped."""
    return conv in {reference_conv(name) for name in (*NETWORKS, None)}


def point(family: str, taught: bool) -> dict:
    """Return keywords for Axes.plot of one point: filled with a teacher, hollow without."""
    colour, marker, size = look(family)
    face = colour if taught else HOLLOW
    return dict(
        linestyle="none", marker=marker, markersize=size, markerfacecolor=face,
        markeredgecolor=PAPER if taught else colour, markeredgewidth=0.5 if taught else 1.1, color=colour,
    )  # fmt: skip


def _shade(colour: str, amount: float) -> str:
    """Return the colour mixed with white (amount > 0) or black (amount < 0)."""
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    target = 255 if amount > 0 else 0
    return "#" + "".join(f"{round(part + abs(amount) * (target - part)):02x}" for part in parts)


def human(value: float) -> str:
    """Return a number with at most three digits: `950`, `100k`, `2.5M`, `5.24G`."""
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def log_ticks(axis: Axis, low: float, high: float, show: Callable[[float], str] = human, most: int = 8) -> None:
    """Set at most `most` ticks at round numbers on a logarithmic axis, and no minor ticks."""
    steps = ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for digits in steps:
        ticks = [value for each in decades for digit in digits if low <= (value := digit * 10.0**each) <= high]
        if len(ticks) <= most:
            break
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter([show(tick) for tick in ticks]))
    axis.set_minor_locator(NullLocator())


def error_scale(axes: Axes, low: float, high: float) -> None:
    """Set the vertical axis of errors in %, logarithmic where they are far apart, to tell small ones apart."""
    if low > 0 and high / low > 4:
        axes.set_yscale("log")
        low, high = low / (high / low) ** 0.07, high * (high / low) ** 0.07
        axes.set_ylim(low, high)
        log_ticks(axes.yaxis, low, high, "{:g}".format, most=9)
        return
    axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))
    margin = 0.08 * (high - low) or 0.1 * high or 1.0
    axes.set_ylim(max(0.0, low - margin) if low >= 0 else low - margin, high + margin)


def rule(axes: Axes) -> None:
    """Draw a grid of thin lines behind everything."""
    axes.grid(True, color=FAINT, linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
