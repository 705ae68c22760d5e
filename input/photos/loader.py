"""Batches of photographs on the device that trains, decoded as they are needed: the counterpart of memory.Data.

    plan = BatchPlan(Augmentation(cutout=0), batch_size=256, seed=0)
    photos = Photos(photographs, DATASETS["imagenet"], plan, workers=8)
    for batch in photos.train(epoch=12): ...     # batch.x: (256, 3, 224, 224) float; batch.y: (256,) int64
    for x, y in photos.batches(photos.test): ...

Worker processes read, decode, crop and flip (workers.py) and hand over bytes; the device normalises and cuts out. The
order of an epoch is a pure function of (seed, epoch), an image's draws of (seed, epoch, image): neither depends on the
number of workers, on a resume or on the batch size. A damaged image is left out, with one warning.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from input.augment import augment
from input.batches import Batch, BatchPlan, Feed, choose
from input.datasets import Dataset
from input.image_files import shown
from input.photos.index import Photographs, PhotoIndex
from input.photos.workers import Decoded, Decoder, Pool, Task
from system.errors import MachineFault

FEW, SMALL_PART = 10, 0.001  # damaged images that a split may have: this many or this part of it, whichever is more


@dataclass(frozen=True)
class Split:
    """Photographs of the index "train" or "val" by number (N,) int64; `title` names them in messages."""

    title: str
    index: str
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def head(self, count: int) -> "Split":
        """Return the first `count` photographs, or all where there are fewer."""
        return replace(self, numbers=self.numbers[:count])


class Photos(Feed):
    """The batches of photographs that are decoded as they are needed.

    Args: side: rows and columns that images are cropped to; workers: processes that decode, 0: this one. `damaged`
    holds the reason for each image that was left out, by its name; `left_out` the number of them, by the split's title.
    """

    def __init__(
        self, photographs: Photographs, dataset: Dataset, plan: BatchPlan, side: int = 224, workers: int = 0
    ):  # fmt: skip
        super().__init__(side, dataset.mean, dataset.std, plan)
        self.photographs, count = photographs, len(photographs.train)
        held_out, kept = (numbers.numpy() for numbers in choose(count, plan.val_size, plan.train_size))
        self.kept = np.zeros(count, bool)
        self.kept[kept] = True
        self.training = Split("training", "train", kept)
        self.validation = Split("held-out", "train", held_out) if plan.val_size else None
        self.test = Split("test", "val", np.arange(len(photographs.val)))
        self.damaged: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()
        decoder = Decoder(photographs, side, plan.augmentation.crop, plan.augmentation.flip)
        self.pool = Pool(decoder, workers, pin=self.device.type == "cuda")

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield shuffled, augmented, normalised batches of the training split, from batch number `first` on."""
        split, order = self.training, self.photographs.train.order(self.seed, epoch).numpy()
        whole = self._batches(order[self.kept[order]])[first:]
        own = [self.share.take(numbers) for numbers in whole]
        tasks = [Task(split.index, some if len(some) else all[:1], self.seed, epoch) for some, all in zip(own, whole)]
        remaining = replace(self.augmentation, crop=False, flip=False)  # the workers have cropped and flipped
        for some, all, decoded in zip(own, whole, self.pool.run(tasks)):
            count = len(decoded.labels) if len(some) else 0
            if len(some):
                self._report(split, decoded)
            if not len(decoded.labels):
                decoded = self._blank()
            images, labels, numbers = self._move(decoded)
            x = augment(images, numbers, remaining, self.seed, epoch, self.normalise)
            yield Batch(x, labels, count, len(all), decoded.numbers)

    def batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's share (maybe empty) of the batches of a split, in order, normalised, not augmented."""
        tasks = [Task(split.index, self.share.take(numbers)) for numbers in self._batches(split.numbers)]
        for decoded in self.pool.run(tasks):
            self._report(split, decoded)
            images, labels, _ = self._move(decoded)
            yield self.normalise(images).permute(0, 3, 1, 2), labels

    def _batches(self, numbers: np.ndarray) -> list[np.ndarray]:
        return [numbers[start : start + self.batch_size] for start in range(0, len(numbers), self.batch_size)]

    def _move(self, decoded: Decoded) -> Sequence[Tensor]:
        """Return images, labels and numbers on the device; a copy from pinned memory to a GPU does not wait for it."""
        return [tensor.to(self.device, non_blocking=True) for tensor in decoded[:3]]

    def _blank(self) -> Decoded:
        """Return one black image, which takes the place of a batch of which no image is left."""
        images = torch.zeros(1, self.side, self.side, 3, dtype=torch.uint8)
        return Decoded(images, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), [])

    def _report(self, split: Split, decoded: Decoded) -> None:
        """Warn once of each damaged image. Raise MachineFault where there are too many of them."""
        index: PhotoIndex = getattr(self.photographs, split.index)
        for number, why in decoded.damaged:
            name = index.name(number)
            if name in self.damaged:
                continue
            self.damaged[name] = why
            self.left_out[split.title] += 1
            print(f"warning: damaged image left out: {shown(name)}: {why}", file=sys.stderr)
            limit = max(FEW, int(SMALL_PART * len(split)))
            if self.left_out[split.title] > limit:
                raise MachineFault(
                    f"{self.left_out[split.title]} {split.title} images are damaged, more than {limit}, the last one is "
                    f"{shown(name)}: {why}; replace or remove them"
                )
