"""Claim: whole-batch augmentation of byte tensors is several times as fast as torchvision's transforms image by image.

    python benchmarks/augmentation.py [runs]

Both crop with zero-padding 4, flip, normalise and cut out 16 pixels from 10,240 random 32×32 images in batches of 128,
on one CPU thread in one process. Baseline: torchvision.transforms (v1) on PIL images, RandomErasing standing for cutout.
Prints the median images/s of both over the runs (default 5) and the ratio run by run.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from input.arrays import Images
from input.augment import Augmentation
from input.batches import BatchPlan
from input.datasets import DATASETS
from input.memory import Data

IMAGES, BATCH = 10_240, 128


def main(runs: int = 5) -> None:
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    labels = np.zeros(IMAGES, np.int64)
    images, plan = Images(pixels, labels, pixels[:1], labels[:1]), BatchPlan(Augmentation(), BATCH, seed=0)
    data = Data(images, DATASETS["cifar10"], plan)
    pictures = [Image.fromarray(image) for image in pixels]
    by_image = transforms.Compose([
        transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize(DATASETS["cifar10"].mean, DATASETS["cifar10"].std),
        transforms.RandomErasing(p=1, scale=(0.25, 0.25), ratio=(1, 1)),
    ])  # fmt: skip

    def ours(epoch: int) -> None:
        for _ in data.train(epoch):
            pass

    def theirs(epoch: int) -> None:
        for start in range(0, IMAGES, BATCH):
            torch.stack([by_image(picture) for picture in pictures[start : start + BATCH]])

    speeds = []
    for run in range(runs):
        speeds.append([])
        for way in (ours, theirs):
            began = time.perf_counter()
            way(run)
            speeds[-1].append(IMAGES / (time.perf_counter() - began))
    ours_speed, theirs_speed = (statistics.median(column) for column in zip(*speeds))
    ratio = statistics.median(a / b for a, b in speeds)
    print(
        f"whole batches {ours_speed:,.0f} images/s, torchvision by image {theirs_speed:,.0f}, ratio {ratio:.1f} (median of {runs})"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
