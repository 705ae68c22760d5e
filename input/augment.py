"""Whole-batch augmentation of byte tensors. Every draw is a pure function of (seed, epoch, image).

x = augment(images, numbers, Augmentation(cutout=16), seed=0, epoch=12, normalise=data.normalise)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from system.hashing import below, hash64, key

CROP_MARGIN = 4  # pixels of zero that are added on each side before the crop


@dataclass(frozen=True)
class Augmentation:
    """crop: zero-pad by 4 and crop (1605.07146, section 3); flip: left-right, one in two; cutout: side in pixels."""

    crop: bool = True
    flip: bool = True
    cutout: int = 16


def augment(images: Tensor, numbers: Tensor, augmentation: Augmentation, seed: int, epoch: int, normalise) -> Tensor:
    """Crop, flip, normalise and cut out a batch of bytes (B, H, W, 3); return floats (B, 3, H, W), channels-last.

    Args: numbers: each image's number in the dataset (B,), which with `seed` and `epoch` decides its draws; normalise:
    bytes (B, H, W, 3) to floats of that shape.

    Cutout (DeVries & Taylor 2017, 1708.04552): a square of zeros after normalisation. It is centred on any pixel, so it
    may hang over the edge.
    """
    _, height, width, _ = images.shape
    rows = torch.arange(height, device=images.device).expand(len(images), -1)
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    bits = hash64(numbers, key(seed, epoch, "crop and flip"))
    if augmentation.flip:
        columns = torch.where(below(2, bits, 2)[:, None] == 1, width - 1 - columns, columns)
    if augmentation.crop:
        images = torch.nn.functional.pad(images, (0, 0, *[CROP_MARGIN] * 4))
        rows = rows + below(2 * CROP_MARGIN + 1, bits, 0)[:, None]
        columns = columns + below(2 * CROP_MARGIN + 1, bits, 1)[:, None]
    if augmentation.crop or augmentation.flip:
        batch = torch.arange(len(images), device=images.device)
        images = images[batch[:, None, None], rows[:, :, None], columns[:, None, :]]
    x = normalise(images)
    if augmentation.cutout:
        bits = hash64(numbers, key(seed, epoch, "cutout"))
        inside_rows = _window(below(height, bits, 0), height, augmentation.cutout)
        inside_columns = _window(below(width, bits, 1), width, augmentation.cutout)
        x = x.masked_fill((inside_rows[:, :, None] & inside_columns[:, None, :])[..., None], 0.0)
    return x.permute(0, 3, 1, 2)


def _window(centres: Tensor, side: int, length: int) -> Tensor:
    """Return (B, side) bool: the `length` places around each centre (B,)."""
    offset = torch.arange(side, device=centres.device) - (centres - length // 2)[:, None]
    return (offset >= 0) & (offset < length)
