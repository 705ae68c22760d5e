"""One image as the tests of a run see it: cut and resized, its channels normalised.

presented = of(config)                       # of the configuration of a run
presented(Image.open("cat.png")).shape       # (3, 32, 32), on the CPU
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from input import datasets, places
from input.photos.crops import central_box, resized_size
from input.photos.decoding import resize
from system.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Presented:
    """How an image is presented to a network.

    `side`: rows and columns of what the network is given. `mean`, `std`: per channel, of pixels in 0..1. `is_photograph`: whether
    the shorter side becomes 256/224 of `side` before the middle is cut out, as for ImageNet; else the middle square is resized.
    """

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    is_photograph: bool = False

    def __call__(self, image: Image | np.ndarray | Tensor) -> Tensor:
        """Return an image as (3, side, side) float32.

        Args: image: of Pillow, or its bytes, (H, W, 3) or (H, W) uint8. Raise RequestError for anything else.
        """
        pixels = self._cut(_pixels(image))
        return (pixels.float() * self.scale + self.shift).permute(2, 0, 1).contiguous()

    @property
    def scale(self) -> Tensor:
        """What bytes are multiplied by, (3,)."""
        return (1 / (255 * torch.tensor(self.std))).float()

    @property
    def shift(self) -> Tensor:
        """What is added then, (3,)."""
        return -(torch.tensor(self.mean) / torch.tensor(self.std)).float()

    def said(self) -> str:
        """Return in words what becomes of an image before it is normalised."""
        if self.is_photograph:
            shorter, _ = resized_size(self.side, self.side, self.side)
            return f"its shorter side is resized to {shorter} (bilinear, antialiased), and the middle {self.side}×{self.side} is cut out"
        return f"its middle square is cut out, and resized to {self.side}×{self.side} (bilinear, antialiased)"

    def _cut(self, pixels: np.ndarray) -> Tensor:
        height, width, _ = pixels.shape
        if self.is_photograph:
            columns, rows = resized_size(width, height, self.side)
            left, top, right, bottom = central_box(columns, rows, self.side)
            return resize(pixels, columns, rows)[top:bottom, left:right]
        if (width, height) != (self.side, self.side):
            from PIL import Image

            cut = min(width, height)
            left, top = (width - cut) // 2, (height - cut) // 2
            square = Image.fromarray(pixels).crop((left, top, left + cut, top + cut))
            pixels = np.array(square.resize((self.side, self.side), Image.Resampling.BILINEAR))
        return torch.from_numpy(pixels)


def _pixels(image: Image | np.ndarray | Tensor) -> np.ndarray:
    """Return an image as (H, W, 3) uint8."""
    if hasattr(image, "convert"):
        return np.array(image.convert("RGB"))
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        is_one = f"{pixels.dtype} of shape {pixels.shape}" if pixels.dtype != object else type(image).__name__
        raise RequestError(f"an image of Pillow is wanted, or its bytes, uint8 (H, W, 3) or (H, W): this is {is_one}")
    return np.array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def of(config: Mapping) -> Presented:
    """Return how the tests of a run of this configuration present an image. Raise RequestError where nobody knows.

    Of digits, mean and deviation are those of the training images, which scikit-learn ships.
    """
    dataset, side = datasets.of(config), datasets.side_of(config)
    mean = config.get("data_mean") or dataset.mean
    std = config.get("data_std") or dataset.std_of.get(config["network"], dataset.std)
    if mean is None and datasets.is_own(config["dataset"]):
        raise RequestError(f"the configuration does not say the mean of the images of {config['dataset']}")
    presented = Presented(side, mean or (), std or (), config["dataset"] == "imagenet")
    if mean is None:
        train = places.find(config["dataset"], Path()).read(1, keep=False).train
        mean, std = (values / 255 for values in (train.mean((0, 1, 2)), train.std((0, 1, 2))))
    return replace(presented, mean=tuple(map(float, mean)), std=tuple(map(float, std)))
