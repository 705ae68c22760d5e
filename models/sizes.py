"""Read the size of a network off the shapes of its weights: what the networks' own `read_size` share. Imports no torch.

list(decimals(0.34, 0.36))[:3]               # [0.35, 0.34, 0.345]
"""

import math
from collections.abc import Iterator


def decimals(low: float, high: float) -> Iterator[float]:
    """Yield the numbers low <= x < high of at most 3 decimal places: fewer places first, then multiples of 5 first.

    So 0.35 comes before 0.34, and both before 0.345: the likeliest width comes first.
    """
    for places in range(4):
        step = 10**places
        wholes = range(math.ceil(low * step), math.ceil(high * step))
        rounder_first = sorted(wholes, key=lambda whole: whole % 5 > 0)
        yield from (whole / step for whole in rounder_first if places == 0 or whole % 10)
