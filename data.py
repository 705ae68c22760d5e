"""Batches on the device that trains: whole-batch augmentation of byte tensors, every draw a pure function.

    data = Data(source.read(4), DATASETS["cifar10"], Augmentation(cutout=16), batch_size=128, seed=0, device="cuda")
    for batch in data.train(epoch=12): ...       # batch.x: (128, 3, 32, 32) float, channels-last; batch.y: (128,) int64
    for x, y in data.batches(data.test): ...     # as they are, in order

`batch_size` is that of all processes together: each takes its `Share` of every batch.

The order of an epoch depends on (seed, epoch), an image's crop, flip and cutout on (seed, epoch, image): not on batch
boundaries, on resumes or on anything else that draws. The held-out images of `val_size`, and those that `train_size` takes,
are the same for every seed, so that a student is never validated on what its teacher has seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from datasets import Dataset, Images
from errors import RequestError
from hashing import below, hash64, key, permutation

CROP_MARGIN = 4  # pixels of zero around a 32×32 image, before a crop of its own size


class Share(NamedTuple):
    """The part of every batch that this process takes: each `of`-th image from number `rank` on."""

    rank: int = 0
    of: int = 1

    def take(self, batch):
        return batch[self.rank :: self.of]


WHOLE = Share()  # of a process that trains alone


class Batch(NamedTuple):
    """A process's share of a training batch: images (n, 3, S, S) and labels (n,); how many of them count (0 where its share
    is empty and a stand-in takes its place); how many images the batch of all processes has."""

    x: Tensor
    y: Tensor
    images: int
    of: int


@dataclass(frozen=True)
class Augmentation:
    """crop: zero-pad by 4 and crop (1605.07146, section 3); flip: left-right, one in two; cutout: side in pixels."""

    crop: bool = True
    flip: bool = True
    cutout: int = 16


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, 3) uint8, labels (N,) int64 and each image's number in the dataset (N,) int64, on one device."""

    images: Tensor
    labels: Tensor
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, count: int) -> "Split":
        """The first `count` of them, or all."""
        return Split(self.images[:count], self.labels[:count], self.numbers[:count])


class Feed:
    """What the loop is fed by. `training`, `validation` (None unless held out) and `test` are its splits, which have a length
    and a `head(count)`; `train(epoch, first)` and `batches(split)` are what goes through the network. `facts` are those of the
    whole dataset (facts.py), of whoever loads it."""

    facts: dict = {}

    def __init__(
        self, side: int, mean, std, augmentation: Augmentation, batch_size: int, seed: int, device: torch.device | str, share: Share
    ):  # fmt: skip
        self.side, self.device, self.share = side, torch.device(device), share
        self.augmentation, self.batch_size, self.seed = augmentation, batch_size, seed
        self.scale = (1 / (255 * torch.tensor(std))).float().to(device)
        self.shift = -(torch.tensor(mean) / torch.tensor(std)).float().to(device)

    def steps(self, split) -> int:
        """Batches that a pass over a split takes; the last one may be smaller."""
        return -(-len(split) // self.batch_size)

    def normalise(self, images: Tensor) -> Tensor:
        """Bytes (B, H, W, 3) to floats of about mean 0 and deviation 1, per channel."""
        x = images.float()
        return torch.addcmul(self.shift, x, self.scale, out=x)  # in place: on a CPU new memory costs as much as the sum


def choose(
    count: int, val_size: int, train_size: int | None = None, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """The numbers of the images that are held out and of those to train on (None: all others), each in rising order.

    Both are taken from one fixed order, so fewer images are some of more. RequestError where there are not so many.
    """
    if val_size >= count:
        raise RequestError(f"--val_size {val_size}: there are {count} training images, some must remain")
    if train_size is not None and train_size > count - val_size:
        held_out = f", of which --val_size holds out {val_size:,}" if val_size else ""
        raise RequestError(
            f"--train_size {train_size}: there are {count:,} training images{held_out}: at most {count - val_size}"
        )
    shuffled = permutation(count, key("held out"), device)
    last = count if train_size is None else val_size + train_size
    return shuffled[:val_size].sort().values, shuffled[val_size:last].sort().values


class Data(Feed):
    """A dataset in the memory of a device."""

    def __init__(
        self, images: Images, dataset: Dataset, augmentation: Augmentation, batch_size: int, seed: int,
        device: torch.device | str = "cpu", val_size: int = 0, share: Share = WHOLE, train_size: int | None = None,
    ):  # fmt: skip
        mean, std = dataset.mean, dataset.std
        if mean is None:
            mean, std = images.train.mean((0, 1, 2)) / 255, images.train.std((0, 1, 2)) / 255
        super().__init__(dataset.side, mean, std, augmentation, batch_size, seed, device, share)
        everything = _split(images.train, images.train_labels, device)
        held_out, kept = choose(len(everything), val_size, train_size, device)
        self.training = _pick(everything, kept) if len(kept) < len(everything) else everything
        self.validation = _pick(everything, held_out) if val_size else None
        self.test = _split(images.test, images.test_labels, device)

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Shuffled, augmented, normalised batches of the training split, from number `first` on."""
        split = self.training
        order = permutation(len(split), key(self.seed, epoch, "order"), split.labels.device)
        for whole in order.split(self.batch_size)[first:]:
            own = self.share.take(whole)
            indices = own if len(own) else whole[:1]
            x = augment(
                split.images[indices], split.numbers[indices], self.augmentation, self.seed, epoch, self.normalise
            )
            yield Batch(x, split.labels[indices], len(own), len(whole))

    def batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of the normalised batches of a split, in order, not augmented; a share may be empty."""
        for whole in zip(split.images.split(self.batch_size), split.labels.split(self.batch_size)):
            images, labels = map(self.share.take, whole)
            yield self.normalise(images).permute(0, 3, 1, 2), labels


def _split(images, labels, device) -> Split:
    images, labels = (torch.from_numpy(array).to(device) for array in (images, labels))
    return Split(images, labels, torch.arange(len(labels), device=device))


def _pick(split: Split, indices: Tensor) -> Split:
    return Split(split.images[indices], split.labels[indices], split.numbers[indices])


def augment(images: Tensor, numbers: Tensor, augmentation: Augmentation, seed: int, epoch: int, normalise) -> Tensor:
    """A batch of bytes (B, H, W, 3), cropped, flipped, normalised and cut out, as floats (B, 3, H, W), channels-last.

    Args: numbers: each image's number in the dataset (B,), which with `seed` and `epoch` decides its draws.
    Cutout (DeVries & Taylor 2017, 1708.04552): a square of zeros after normalisation, centred on any pixel, so it may
    hang over the edge.
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
    """(B, side) bool: the `length` places around each centre (B,)."""
    offset = torch.arange(side, device=centres.device) - (centres - length // 2)[:, None]
    return (offset >= 0) & (offset < length)
