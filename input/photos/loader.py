"""Batches of photographs on the device that trains: data.Data's counterpart for images that are decoded as they are needed.

    photos = Photos(photographs, DATASETS["imagenet"], Augmentation(cutout=0), batch_size=256, seed=0, workers=8)
    for batch in photos.train(epoch=12): ...        # batch.x: (256, 3, 224, 224) float, channels-last; batch.y: (256,) int64
    for x, y in photos.batches(photos.test): ...

Worker processes read, decode, crop and flip (workers.py) and hand over bytes; the device normalises and cuts out. The order
of an epoch is a pure function of (seed, epoch), an image's draws of (seed, epoch, image), so nothing depends on the workers, on
resumes or on batch boundaries. Damaged images are left out, and told once each.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from input.augment import Augmentation, augment
from input.batches import WHOLE, Batch, Feed, Share, choose
from input.datasets import Dataset
from input.image_files import shown
from input.photos.index import Photographs, PhotoIndex
from input.photos.workers import Decoded, Pool, Task
from system.errors import MachineFault

FEW, SMALL_PART = 10, 0.001  # damaged images that a split may have: so many, or such a part of it if that is more


@dataclass(frozen=True)
class Split:
    """Photographs by number (N,) int64: of the index "train" or "val". `title` is what a person calls them."""

    title: str
    index: str
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def head(self, count: int) -> "Split":
        """The first `count` of them, or all."""
        return replace(self, numbers=self.numbers[:count])


class Photos(Feed):
    """Photographs that are decoded as they are needed; `damaged` says of what was left out, why."""

    def __init__(
        self, photographs: Photographs, dataset: Dataset, augmentation: Augmentation, batch_size: int, seed: int,
        device: torch.device | str = "cpu", val_size: int = 0, share: Share = WHOLE, side: int = 224, workers: int = 0,
        train_size: int | None = None,
    ):  # fmt: skip
        super().__init__(side, dataset.mean, dataset.std, augmentation, batch_size, seed, device, share)
        self.photographs, count = photographs, len(photographs.train)
        held_out, kept = (numbers.numpy() for numbers in choose(count, val_size, train_size))
        self.kept = np.zeros(count, bool)
        self.kept[kept] = True
        self.training = Split("training", "train", kept)
        self.validation = Split("held-out", "train", held_out) if val_size else None
        self.test = Split("test", "val", np.arange(len(photographs.val)))
        self.damaged: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()
        pin = self.device.type == "cuda"
        self.pool = Pool(photographs, side, workers, augmentation.crop, augmentation.flip, pin)

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Shuffled, augmented, normalised batches of the training split, from number `first` on."""
        split, order = self.training, self.photographs.train.order(self.seed, epoch).numpy()
        whole = self._batches(order[self.kept[order]])[first:]
        own = [self.share.take(numbers) for numbers in whole]
        tasks = [Task(split.index, some if len(some) else all[:1], self.seed, epoch) for some, all in zip(own, whole)]
        later = replace(self.augmentation, crop=False, flip=False)  # than in the workers
        for some, all, decoded in zip(own, whole, self.pool.run(tasks)):
            count = len(decoded.labels) if len(some) else 0
            if len(some):
                self._tell(split, decoded)
            if not len(decoded.labels):
                decoded = self._stand_in()
            images, labels, numbers = self._move(decoded)
            x = augment(images, numbers, later, self.seed, epoch, self.normalise)
            yield Batch(x, labels, count, len(all))

    def batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of the normalised batches of a split, in order, not augmented; a share may be empty."""
        tasks = [Task(split.index, self.share.take(numbers)) for numbers in self._batches(split.numbers)]
        for decoded in self.pool.run(tasks):
            self._tell(split, decoded)
            images, labels, _ = self._move(decoded)
            yield self.normalise(images).permute(0, 3, 1, 2), labels

    def _batches(self, numbers: np.ndarray) -> list[np.ndarray]:
        return [numbers[start : start + self.batch_size] for start in range(0, len(numbers), self.batch_size)]

    def _move(self, decoded: Decoded) -> Sequence[Tensor]:
        """To the device; from pinned memory to a GPU nobody waits for it, since steps are only enqueued there."""
        return [tensor.to(self.device, non_blocking=True) for tensor in decoded[:3]]

    def _stand_in(self) -> Decoded:
        """In place of a batch of which nothing is left."""
        images = torch.zeros(1, self.side, self.side, 3, dtype=torch.uint8)
        return Decoded(images, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), [])

    def _tell(self, split: Split, decoded: Decoded) -> None:
        """Names what is damaged, once. MachineFault where it is more than a few."""
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
