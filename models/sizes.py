"""Widths of networks, and how they are read off the shapes of weights (the networks' `read_size`). Imports no torch.

multiplied(64, 0.75)                         # 48
list(decimals(0.34, 0.36))[:3]               # [0.35, 0.34, 0.345]
"""

import math
from collections.abc import Iterator

from system.errors import RequestError


def multiplied(channels: int, multiplier: float) -> int:
    """Return int(multiplier · channels). Raise RequestError, about --width_mult, where that leaves none or is too large.

    A network asks for its narrowest layer.
    """
    if not 1 / channels <= multiplier <= 100:
        raise RequestError(f"--width_mult {multiplier:g}: at least 1/{channels} and at most 100 is allowed here")
    return int(multiplier * channels)


def decimals(low: float, high: float) -> Iterator[float]:
    """Yield the numbers low <= x < high of at most 3 decimal places: fewer places first, then multiples of 5 first.

    So 0.35 comes before 0.34, and both before 0.345: the likeliest width comes first.
    """
    for places in range(4):
        step = 10**places
        wholes = range(math.ceil(low * step), math.ceil(high * step))
        rounder_first = sorted(wholes, key=lambda whole: whole % 5 > 0)
        yield from (whole / step for whole in rounder_first if places == 0 or whole % 10)
