"""Features of rows and columns among what the modules of a foreign network return, as maps (B, C, H, W).

    layout = layout_of(torch.Size([2, 197, 768]), images=2)      # of tokens: 14×14 behind a class token
    as_map(x, layout)                                            # (2, 768, 14, 14)

A feature is (B, C, H, W), with channels last (B, H, W, C), or tokens (B, T, C) of a square grid, of which the first few
may be of no place (a class token, registers).
"""

from enum import Enum
from math import isqrt
from typing import NamedTuple

from torch import Size, Tensor

MOST_EXTRA = 5  # tokens of no place: a class token and four registers (2309.16588)


class Kind(Enum):
    """In which order a feature has its dimensions."""

    MAP = "B, C, H, W"
    CHANNELS_LAST = "B, H, W, C"
    TOKENS = "B, T, C"


class Layout(NamedTuple):
    """The order of a feature's dimensions, its rows (and columns), and how many tokens before them are of no place."""

    kind: Kind
    side: int
    extra: int = 0


def layout_of(shape: Size, images: int) -> Layout | None:
    """Return the layout of what a module returns for so many square images; None where it has no rows and columns.

    Where channels, rows and columns are equally many the channels are taken to be first.
    """
    if len(shape) not in (3, 4) or shape[0] != images:
        return None
    if len(shape) == 4:
        if shape[2] == shape[3]:
            return Layout(Kind.MAP, shape[2])
        return Layout(Kind.CHANNELS_LAST, shape[1]) if shape[1] == shape[2] else None
    side = isqrt(shape[1])
    extra = shape[1] - side * side
    return Layout(Kind.TOKENS, side, extra) if extra <= MOST_EXTRA else None


def as_map(feature: Tensor, layout: Layout) -> Tensor:
    """Return a feature as (B, C, H, W), a view of it."""
    match layout.kind:
        case Kind.MAP:
            return feature
        case Kind.CHANNELS_LAST:
            return feature.permute(0, 3, 1, 2)
    return feature[:, layout.extra :].transpose(1, 2).unflatten(2, (layout.side, layout.side))
