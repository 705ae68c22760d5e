"""Whole-batch augmentation of byte tensors. Every draw is a pure function of (seed, epoch, image).

x = augment(images, numbers, Augmentation(cutout=16), seed=0, epoch=12, normalise=data.normalise)
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from system.hashing import below, hash64, key

CROP_MARGIN = 4  # pixels of zero that are added on each side before the crop
CHANNELS = 3
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
    images, (batch, height, width, _) = images.contiguous(), images.shape
    each, columns = torch.arange(batch, device=images.device), draws[1]
    if augmentation.crop:
        pad = _reflected if augmentation.reflect else _padded
        images = _cropped(pad(images), each, draws[0], columns % PLACES, height, width)
    if augmentation.flip:
        both = torch.stack([images, images.flip(2)], 1).flatten(0, 1)
        images = both.index_select(0, 2 * each + (columns >= PLACES))
    x = normalise(images)
    if augmentation.cutout:
        rows, columns = _covered(height, width, augmentation, images.device)
        lines = x.view(batch, height, width * CHANNELS)
        inside = rows.index_select(0, draws[2])[:, :, None] * columns.index_select(0, draws[3])[:, None]
        lines.addcmul_(lines, inside, value=-1)
    return x.permute(0, 3, 1, 2)


def _padded(images: Tensor) -> Tensor:
    return torch.nn.functional.pad(images, (0, 0, *[CROP_MARGIN] * 4))


def _reflected(images: Tensor) -> Tensor:
    """Pad images by their own pixels; those at the edge are not repeated."""
    for dimension in (1, 2):
        side = images.shape[dimension]
        places = torch.arange(-CROP_MARGIN, side + CROP_MARGIN, device=images.device)
        images = images.index_select(dimension, (side - 1) - ((side - 1) - places.abs()).abs())
    return images


def _cropped(padded: Tensor, each: Tensor, rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
    """Return of each image (B, H', W', C) the part that begins at its row and column, (B, H, W, C).

    A line of W·C bytes is copied as a whole. It is a row of a view in which rows begin at every pixel and overlap: one row
    copied takes as long as three single bytes by their indices.
    """
    batch, tall, wide, depth = padded.shape
    pixels = batch * tall * wide
    lines = padded.as_strided((max(0, pixels - width + 1), width * depth), (depth, 1))
    first = (each * tall + rows) * wide + columns
    starts = first[:, None] + wide * torch.arange(height, device=padded.device)
    return lines.index_select(0, starts.flatten()).view(batch, height, width, depth)


@lru_cache(8)
def _covered(height: int, width: int, augmentation: Augmentation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return for each centre, or first place, of a cutout 1 where it covers a row, (H, H), or an entry of a line, (W, W·C)."""
    rows, columns = (_windows(side, augmentation.cutout, augmentation.cutout_inside) for side in (height, width))
    return rows.float().to(device), columns.float().repeat_interleave(CHANNELS, 1).to(device)


def _windows(side: int, length: int, inside: bool) -> Tensor:
    """Return (places, side) bool: for each centre, or with `inside` for each first place, the `length` places of it."""
    places = torch.arange(side)
    first = places - (0 if inside else length // 2)
    offset = places - first[:, None]
    return (offset >= 0) & (offset < length)
