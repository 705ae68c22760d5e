"""Which part of a photograph is seen: the random crop of training and the central crop of testing, as pure functions.

    draw = draws(torch.tensor([7]), seed=0, epoch=12)[0]     # of image 7
    crop_box(500, 375, draw), draw.flips                     # (left, top, right, bottom), whether mirrored

The crop of training is that of Szegedy et al. 2014 (1409.4842, section 6) as torchvision's RandomResizedCrop defines
it. Its area is 8 to 100 % of the image's, drawn uniformly; its ratio of width to height is 3/4 to 4/3, with a uniform
logarithm. Where ten draws do not fit into the image, it is the largest central part whose ratio is allowed.
"""

import math
from typing import NamedTuple

from torch import Tensor, arange

from system.hashing import FIELD_BITS, below, hash64, key

TRIES = 10
AREAS, RATIOS = (0.08, 1.0), (3 / 4, 4 / 3)
Box = tuple[int, int, int, int]  # left, top, right, bottom, as Pillow has it


class Draw(NamedTuple):
    """The draws that decide an image's crop, whatever its size.

    `shapes`: TRIES pairs (area, ratio) of 21 bits each. `place`: a hash.
    """

    shapes: list[tuple[int, int]]
    place: int

    @property
    def flips(self) -> bool:
        """Whether the image is mirrored."""
        return below(2, self.place, 2) == 1


def draws(numbers: Tensor, seed: int, epoch: int) -> list[Draw]:
    """Return the draws of the images with these numbers in the dataset (N,)."""
    tries = hash64(numbers[:, None] * TRIES + arange(TRIES), key(seed, epoch, "crop shape"))
    places = hash64(numbers, key(seed, epoch, "crop place and flip")).tolist()
    areas, ratios = (below(1 << FIELD_BITS, tries, field).tolist() for field in (0, 1))
    return [Draw(list(zip(*shapes)), place) for *shapes, place in zip(areas, ratios, places)]


def crop_box(width: int, height: int, draw: Draw) -> Box:
    """Return the crop of training. It is in Python's arithmetic: a vector's result may depend on its length."""
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
    """Return columns and rows after the resize of testing, in which the shorter side is 256/224 of the crop's."""
    shorter = round(side * 256 / 224)
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def central_box(width: int, height: int, side: int) -> Box:
    """Return the crop of testing, of an image that was resized."""
    left, top = round((width - side) / 2), round((height - side) / 2)
    return left, top, left + side, top + side
