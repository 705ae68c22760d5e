"""Batches on the device that trains: whole-batch augmentation of byte tensors, every draw a pure function.

    data = Data(source.read(4), DATASETS["cifar10"], Augmentation(cutout=16), batch_size=128, seed=0, device="cuda")
    for batch in data.train(epoch=12): ...       # batch.x: (128, 3, 32, 32) float, channels-last; batch.y: (128,) int64
    for x, y in data.batches(data.test): ...     # as they are, in order

`batch_size` is that of all processes together: each takes its `Share` of every batch.

The order of an epoch depends on (seed, epoch), an image's crop, flip and cutout on (seed, epoch, image): not on batch
boundaries, on resumes or on anything else that draws. The held-out images of `val_size`, and those that `train_size` takes,
are the same for every seed, so that a student is never validated on what its teacher has seen.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from input.augment import Augmentation
from input.splits import check_sizes
from system.hashing import key, permutation


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


class Feed:
    """What the loop is fed by. `training`, `validation` (None unless held out) and `test` are its splits, which have a length
    and a `head(count)`; `train(epoch, first)` and `batches(split)` are what goes through the network. `facts` are those of the
    whole dataset (facts.py), of whoever loads it."""

    facts: dict = {}
    test_every = 1

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

    def evaluated(self, epoch: int, epochs: int) -> list[tuple[str, Any]]:
        """Return the splits that are evaluated after an epoch, counted from 0: those held out (`val`) and `test`, in every
        `test_every`-th epoch and the last."""
        if (epoch + 1) % self.test_every and epoch + 1 < epochs:
            return []
        return [(name, split) for name, split in (("val", self.validation), ("test", self.test)) if split is not None]

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
    check_sizes(count, val_size, train_size)
    shuffled = permutation(count, key("held out"), device)
    last = count if train_size is None else val_size + train_size
    return shuffled[:val_size].sort().values, shuffled[val_size:last].sort().values
