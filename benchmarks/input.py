"""Claim: input/photos/ feeds ImageNet's photographs at least 1.5 times as fast as torchvision's references with as many workers.

    python benchmarks/input.py FOLDER [workers] [runs] [repeats]

FOLDER holds JPEG files as train/<class>/x.JPEG. Both sides train on FOLDER/train taken `repeats` times (default 20), so that an
epoch is long enough to measure, in batches of 64 at 224×224 on the CPU, with `workers` (default 2) processes of one thread,
which stay from epoch to epoch. Baseline: ImageFolder, RandomResizedCrop, flip, PILToTensor, ConvertImageDtype, Normalize and
DataLoader. Runs alternate after one epoch of each that warms up; prints the median images/s of `runs` (default 5) and the
median of the ratios run by run. The files are in the page cache: this measures decoding, not disks.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from input.augment import Augmentation
from input.batches import BatchPlan
from input.datasets import DATASETS
from input.image_files import Passed
from input.photos.index import Packed, Photographs
from input.photos.loader import Photos
from input.photos.scan import Found
from input.photos.tree import Tree, read_tree
from system import memory

BATCH, SIDE = 64, 224


def main(folder: str, workers: int = 2, runs: int = 5, repeats: int = 20) -> None:
    torch.set_num_threads(1)
    memory.keep_freed()  # as main.py does
    imagenet, root = DATASETS["imagenet"], Path(folder) / "train"
    once = read_tree(root, keep=False)
    names = [once.names[number] for number in range(len(once))]
    counts = np.bincount(once.labels)
    repeated = [name for group in np.split(names, np.cumsum(counts)[:-1]) for name in [*map(str, group)] * repeats]
    sizes = np.zeros(len(repeated), np.int64)  # nobody asks
    found = Found(once.classes, counts * repeats, Packed.of(repeated), sizes, Passed())
    index = Tree(root, found, once.classes, once.labelling)
    plan = BatchPlan(Augmentation(cutout=0), BATCH, seed=0)
    photos = Photos(Photographs(index, once), imagenet, plan, side=SIDE, workers=workers)
    transform = transforms.Compose([
        transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float), transforms.Normalize(imagenet.mean, imagenet.std),
    ])  # fmt: skip
    reference = DataLoader(
        ConcatDataset([ImageFolder(root, transform)] * repeats), BATCH, shuffle=True, num_workers=workers,
        persistent_workers=True,
    )  # fmt: skip

    def ours(epoch: int) -> int:
        return sum(batch.images for batch in photos.train(epoch))

    def theirs(epoch: int) -> int:
        return sum(len(labels) for _, labels in reference)

    speeds = []
    for run in range(runs + 1):
        speeds.append([])
        for way in (ours, theirs):
            began = time.perf_counter()
            images = way(run)
            speeds[-1].append(images / (time.perf_counter() - began))
    speeds = speeds[1:]
    ours_speed, theirs_speed = (statistics.median(column) for column in zip(*speeds))
    ratios = sorted(a / b for a, b in speeds)
    print(
        f"photos/ {ours_speed:,.0f} images/s, torchvision's references {theirs_speed:,.0f}, ratio "
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}; median of {runs}, {workers} workers)"
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
