"""Batches on the device that trains: the plan of them, and the feed that gives them to the training loop.

    plan = BatchPlan(Augmentation(cutout=16), batch_size=128, seed=0, device="cuda")
    data = Data(source.read(4), DATASETS["cifar10"], plan)
    for batch in data.train(epoch=12): ...       # batch.x: (128, 3, 32, 32) float, channels-last; batch.y: (128,) int64
    for x, y in data.batches(data.test): ...     # normalised, in order, not augmented

The order of an epoch depends on (seed, epoch), an image's crop, flip and cutout on (seed, epoch, image). Neither
depends on the batch size, on a resume or on any other draw. The images that `val_size` holds out and those that
`train_size` takes are the same for every seed, so that a student is never validated on images that its teacher was
trained on.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from input.augment import Augmentation
from input.splits import check_sizes, is_tested
from system.hashing import key, permutation


class Share(NamedTuple):
    """The part of every batch that this process takes: every `of`-th image, from number `rank` on."""

    rank: int = 0
    of: int = 1

    def take(self, batch):
        """Return this process's part of an array, a tensor, a list or a range."""
        return batch[self.rank :: self.of]


WHOLE = Share()  # of a process that trains alone


class Batch(NamedTuple):
    """A process's share of a training batch: images `x` (n, 3, S, S) and labels `y` (n,).

    `images`: how many of the n count; 0 where the share is empty and one image that does not count takes its place.
    `of`: the images in the batch of all processes. `numbers` (n,): those of the images in their dataset, which stay on
    the CPU where images are decoded there.
    """

    x: Tensor
    y: Tensor
    images: int
    of: int
    numbers: Tensor | None = None


@dataclass(frozen=True)
class BatchPlan:
    """How images become batches.

    `batch_size`: images in a batch of all processes together, of which each takes its `share`. `val_size`: training
    images that are held out. `train_size`: images to train on; None: all that are not held out.
    """

    augmentation: Augmentation
    batch_size: int
    seed: int
    device: torch.device | str = "cpu"
    share: Share = WHOLE
    val_size: int = 0
    train_size: int | None = None


class Split(Protocol):
    """Some images of a dataset. `numbers` (N,) are theirs in the dataset."""

    numbers: Any

    def __len__(self) -> int: ...

    def head(self, count: int) -> "Split":
        """Return the first `count` images, or all where there are fewer."""


class Feed(ABC):
    """What the training loop takes its batches from: memory.Data or photos.loader.Photos.

    `training`, `validation` (None unless held out) and `test` are splits. `facts` are those of the whole dataset
    (input/facts.py), which the caller that loads it sets. `test_every` is the number of epochs from one evaluation to the
    next. `reestimate_bn` is the number of training batches from which the last test takes batch-norm's statistics anew,
    beside the plain one; 0: there is no such test.
    """

    training: Split
    validation: Split | None
    test: Split
    facts: dict = {}
    test_every: int = 1
    reestimate_bn: int = 0

    def __init__(self, side: int, mean: Sequence[float], std: Sequence[float], plan: BatchPlan):
        self.side, self.device, self.share = side, torch.device(plan.device), plan.share
        self.augmentation, self.batch_size, self.seed = plan.augmentation, plan.batch_size, plan.seed
        self.scale = (1 / (255 * torch.tensor(std))).float().to(plan.device)
        self.shift = -(torch.tensor(mean) / torch.tensor(std)).float().to(plan.device)

    @abstractmethod
    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield shuffled, augmented, normalised batches of the training split, from batch number `first` on."""

    def full_batches(self, epoch: int = 0) -> Iterator[Batch]:
        """Yield batches of epochs from `epoch` on, without end; the last one of an epoch only if it is the only one."""
        for following in count(epoch):
            yield from islice(self.train(following), max(1, len(self.training) // self.batch_size))

    @abstractmethod
    def batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's share (maybe empty) of the batches of a split, in order, normalised, not augmented."""

    def steps(self, split: Split) -> int:
        """Return the number of batches in a pass over a split; the last one may be smaller."""
        return -(-len(split) // self.batch_size)

    def evaluated(self, epoch: int, epochs: int) -> list[tuple[str, Split]]:
        """Return the named splits that are evaluated after an epoch, counted from 0.

        These are "val" (where images are held out) and "test" after every `test_every`-th epoch and after the last one,
        else none. Where `test_every` is 0 they are "val" alone after every epoch: no test image is looked at.
        """
        held_out = [] if self.validation is None else [("val", self.validation)]
        if self.test_every == 0:
            return held_out
        if not is_tested(epoch + 1, epochs, self.test_every):
            return []
        return [*held_out, ("test", self.test)]

    def normalise(self, images: Tensor) -> Tensor:
        """Return floats of about mean 0 and deviation 1 per channel, from bytes (B, H, W, 3)."""
        x, (width, channels) = images.float().contiguous(), images.shape[2:]
        lines = x.view(*x.shape[:2], width * channels)  # long ones are several times as fast as three numbers at a time
        torch.addcmul(self.shift.repeat(width), lines, self.scale.repeat(width), out=lines)
        return x


def choose(
    count: int, val_size: int, train_size: int | None = None, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Return the numbers of `val_size` images to hold out and of `train_size` to train on, each in rising order.

    Args: count: images in the training set; train_size: None means all that are not held out. Both are taken from one
    fixed order, so a smaller size takes a part of what a larger one takes. Raises RequestError where there are not so
    many images.
    """
    check_sizes(count, val_size, train_size)
    shuffled = permutation(count, key("held out"), device)
    last = count if train_size is None else val_size + train_size
    return shuffled[:val_size].sort().values, shuffled[val_size:last].sort().values
