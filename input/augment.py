"""Whole-batch augmentation of byte tensors. Every draw is a pure function of (seed, epoch, image).

x = augment(images, numbers, Augmentation(cutout=16), seed=0, epoch=12, normalise=data.normalise)
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from system.hashing import below, hash64, key

CROP_MARGIN = 4  # pixels of zero that are added on each side before the crop
PLACES = 2 * CROP_MARGIN + 1  # of a crop, in each direction


@dataclass(frozen=True)
class Augmentation:
    """crop: pad by 4 and crop (1605.07146, section 3); flip: left-right, one in two; cutout: side in pixels.

    cutout_inside: the square never hangs over the edge; reflect: padded by the image's own pixels instead of zeros.
    """

    crop: bool = True
    flip: bool = True
    cutout: int = 16
    cutout_inside: bool = False
    reflect: bool = False


def augment(images: Tensor, numbers: Tensor, augmentation: Augmentation, seed: int, epoch: int, normalise) -> Tensor:
    """Crop, flip, normalise and cut out a batch of bytes (B, H, W, 3); return floats (B, 3, H, W), channels-last.

    Args: numbers: each image's number in the dataset (B,), which with `seed` and `epoch` decides its draws; normalise:
    bytes (B, H, W, 3) to floats of that shape.
    """
    _, height, width, _ = images.shape
    if not (augmentation.crop or augmentation.flip or augmentation.cutout):
        return normalise(images).permute(0, 3, 1, 2)
    return apply(images, draw(numbers, augmentation, height, width, seed, epoch), augmentation, normalise)


def draw(numbers: Tensor, augmentation: Augmentation, height: int, width: int, seed: int, epoch: int) -> Tensor:
    """Return what `apply` needs for images of these numbers (N,), such as all of an epoch: (4, N) int64.

    Of each image: the first row of the crop; its first column, plus 2 · CROP_MARGIN + 1 where it is flipped; row and
    column of the cutout's centre, or of its first pixel where it lies inside.
    """
    bits, centres = (hash64(numbers, key(seed, epoch, what)) for what in ("crop and flip", "cutout"))
    rows, columns = (below(PLACES, bits, field) * augmentation.crop for field in (0, 1))
    columns += PLACES * augmentation.flip * below(2, bits, 2)
    beyond = augmentation.cutout - 1 if augmentation.cutout_inside and augmentation.cutout else 0
    squares = (below(side - beyond, centres, field) for field, side in enumerate((height, width)))
    return torch.stack([rows, columns, *squares])


def apply(images: Tensor, draws: Tensor, augmentation: Augmentation, normalise) -> Tensor:
    """Do with a batch of bytes (B, H, W, 3) what was drawn for it (4, B); return floats (B, 3, H, W), channels-last.

    Cutout (DeVries & Taylor 2017, 1708.04552): a square of zeros after normalisation. It is centred on any pixel, so it
    may hang over the edge, unless it is to lie inside.
    """
    batch, height, width, _ = images.shape
    tables = _tables(height, width, augmentation, images.device)
    if augmentation.crop and not augmentation.reflect:
        images = torch.nn.functional.pad(images, (0, 0, *[CROP_MARGIN] * 4))
    if augmentation.crop or augmentation.flip:
        each = torch.arange(batch, device=images.device)
        images = images[each[:, None, None], tables.rows[draws[0]][:, :, None], tables.columns[draws[1]][:, None]]
    x = normalise(images)
    if augmentation.cutout:
        inside = tables.cut_rows[draws[2]][:, :, None] & tables.cut_columns[draws[3]][:, None]
        x.masked_fill_(inside[..., None], 0.0)
    return x.permute(0, 3, 1, 2)


class _Tables(NamedTuple):
    """What each draw means for the rows or columns of an image: two kernels a batch, where arithmetic would take many."""

    rows: Tensor  # (first rows, H): the rows of the padded image, or those of the image that they reflect
    columns: Tensor  # (first columns, first columns flipped; W)
    cut_rows: Tensor  # (centres or first rows, H): whether the cutout covers it
    cut_columns: Tensor


@lru_cache(8)
def _tables(height: int, width: int, augmentation: Augmentation, device: torch.device) -> _Tables:
    rows, columns, first = torch.arange(height), torch.arange(width), torch.arange(PLACES)[:, None]
    places = [first + rows, torch.cat([first + columns, first + columns.flip(0)])]
    if augmentation.crop and augmentation.reflect:
        places = [_reflected(table - CROP_MARGIN, side) for table, side in zip(places, (height, width))]
    windows = (_windows(side, augmentation.cutout, augmentation.cutout_inside) for side in (height, width))
    return _Tables(*(table.to(device) for table in (*places, *windows)))


def _reflected(places: Tensor, side: int) -> Tensor:
    """Return the places of a row of `side` pixels that places before and behind it reflect; its ends are not repeated."""
    return (side - 1) - ((side - 1) - places.abs()).abs()


def _windows(side: int, length: int, inside: bool) -> Tensor:
    """Return (places, side) bool: for each centre, or with `inside` for each first place, the `length` places of it."""
    places = torch.arange(side)
    first = places - (0 if inside else length // 2)
    offset = places - first[:, None]
    return (offset >= 0) & (offset < length)
