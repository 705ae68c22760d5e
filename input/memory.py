"""A dataset in the memory of the device that trains.

plan = BatchPlan(Augmentation(cutout=16), batch_size=128, seed=0, device="cuda")
data = Data(source.read(4), DATASETS["cifar10"], plan)
for batch in data.train(epoch=12): ...       # batch.x: (128, 3, 32, 32) float, channels-last; batch.y: (128,) int64
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from input.arrays import Images
from input.augment import apply, draw
from input.batches import Batch, BatchPlan, Feed, choose
from input.datasets import Dataset
from system.hashing import key, permutation


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, 3) uint8, labels (N,) int64 and each image's number in the dataset (N,) int64, on one device."""

    images: Tensor
    labels: Tensor
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, count: int) -> "Split":
        """Return the first `count` images, or all where there are fewer."""
        return Split(self.images[:count], self.labels[:count], self.numbers[:count])


class Data(Feed):
    """The batches of a dataset that lies in the memory of a device."""

    def __init__(self, images: Images, dataset: Dataset, plan: BatchPlan):
        mean, std = dataset.mean, dataset.std
        if mean is None:
            mean, std = images.train.mean((0, 1, 2)) / 255, images.train.std((0, 1, 2)) / 255
        super().__init__(dataset.side, mean, std, plan)
        everything = _split(images.train, images.train_labels, self.device)
        held_out, kept = choose(len(everything), plan.val_size, plan.train_size, self.device)
        self.training = _pick(everything, kept) if len(kept) < len(everything) else everything
        self.validation = _pick(everything, held_out) if plan.val_size else None
        self.test = _split(images.test, images.test_labels, self.device)

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield shuffled, augmented, normalised batches of the training split, from batch number `first` on."""
        split, plan = self.training, self.augmentation
        _, height, width, _ = split.images.shape
        order = permutation(len(split), key(self.seed, epoch, "order"), split.labels.device)
        labels, numbers = split.labels[order], split.numbers[order]
        draws = draw(numbers, plan, height, width, self.seed, epoch)
        for start in range(first * self.batch_size, len(split), self.batch_size):
            whole = range(start, min(start + self.batch_size, len(split)))
            own = self.share.take(whole)
            taken = own or whole[:1]
            places = slice(taken.start, taken.stop, taken.step)
            x = apply(split.images.index_select(0, order[places]), draws[:, places], plan, self.normalise)
            yield Batch(x, labels[places], len(own), len(whole), numbers[places])

    def batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's share (maybe empty) of the batches of a split, in order, normalised, not augmented."""
        for whole in zip(split.images.split(self.batch_size), split.labels.split(self.batch_size)):
            images, labels = map(self.share.take, whole)
            yield self.normalise(images).permute(0, 3, 1, 2), labels


def _split(images: np.ndarray, labels: np.ndarray, device: torch.device) -> Split:
    images, labels = (torch.from_numpy(array).to(device) for array in (images, labels))
    return Split(images, labels, torch.arange(len(labels), device=device))


def _pick(split: Split, indices: Tensor) -> Split:
    return Split(split.images[indices], split.labels[indices], split.numbers[indices])
