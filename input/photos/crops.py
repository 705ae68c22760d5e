"""Which part of a photograph is seen: the crops of training, drawn by pure functions, and the central one of testing.

    draw = draws(torch.tensor([7]), seed=0, epoch=12)[0]     # of image 7
    crop_box(500, 375, draw), draw.flips                     # (left, top, right, bottom), whether mirrored

The crop of training is that of Szegedy et al. 2014 (1409.4842, section 6) as torchvision's RandomResizedCrop defines it: an
area of 8 to 100 % of the image's, evenly drawn, a ratio of width to height of 3/4 to 4/3, its logarithm evenly drawn; ten tries
to fit that in, else the largest central part whose ratio is allowed.
"""

import math
from typing import NamedTuple

from torch import Tensor, arange

from system.hashing import FIELD_BITS, below, hash64, key

TRIES = 10
AREAS, RATIOS = (0.08, 1.0), (3 / 4, 4 / 3)
Box = tuple[int, int, int, int]  # left, top, right, bottom, as Pillow has it


class Draw(NamedTuple):
    """What decides an image's crop whatever its size: `shapes` are TRIES pairs (area, ratio) of 21 bits; `place` is a hash."""

    shapes: list[tuple[int, int]]
    place: int

    @property
    def flips(self) -> bool:
        return below(2, self.place, 2) == 1


def draws(numbers: Tensor, seed: int, epoch: int) -> list[Draw]:
    """Of images with these numbers in the dataset (N,)."""
    tries = hash64(numbers[:, None] * TRIES + arange(TRIES), key(seed, epoch, "crop shape"))
    places = hash64(numbers, key(seed, epoch, "crop place and flip")).tolist()
    areas, ratios = (below(1 << FIELD_BITS, tries, field).tolist() for field in (0, 1))
    return [Draw(list(zip(*shapes)), place) for *shapes, place in zip(areas, ratios, places)]


def crop_box(width: int, height: int, draw: Draw) -> Box:
    """The crop of training. Python's own arithmetic: that of a vector may depend on its length."""
    low, high = map(math.log, RATIOS)
    for area, ratio in draw.shapes:
        pixels = width * height * (AREAS[0] + (AREAS[1] - AREAS[0]) * area / (1 << FIELD_BITS))
        ratio = math.exp(low + (high - low) * ratio / (1 << FIELD_BITS))
        columns, rows = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            left, top = below(width - columns + 1, draw.place, 0), below(height - rows + 1, draw.place, 1)
            return left, top, left + columns, top + rows
    columns = min(width, round(height * RATIOS[1]))
    rows = min(height, round(width / RATIOS[0]))
    return _central(width, height, columns, rows)


def _central(width: int, height: int, columns: int, rows: int) -> Box:
    left, top = (width - columns) // 2, (height - rows) // 2
    return left, top, left + columns, top + rows


def resized_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Columns and rows after testing's resize: the shorter of them is 256/224 of the side of the crop."""
    shorter = round(side * 256 / 224)
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def central_box(width: int, height: int, side: int) -> Box:
    """Testing's crop of what was resized."""
    left, top = round((width - side) / 2), round((height - side) / 2)
    return left, top, left + side, top + side
