"""How fast small images become batches: whole-batch augmentation of bytes against torchvision's transforms image by image.

    python benchmarks/augmentation.py [--repeats 5] [--json FILE]

Both crop with zero-padding 4, flip, normalise and cut out 16 pixels from 10,240 random 32×32 images in batches of 128.
Ours runs on one thread of the process that trains. Baselines: torchvision.transforms (v1) on PIL images, RandomErasing standing for
cutout, in this process on one thread, and in a DataLoader with 2 workers that stay from epoch to epoch. An epoch of each in
turn after one that warms up; images/s by the clock, since workers are processes of their own: medians, ratios by turn.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.table import show
from input.arrays import Images
from input.augment import Augmentation
from input.batches import BatchPlan
from input.datasets import DATASETS
from input.memory import Data
from system import memory

IMAGES, BATCH = 10_240, 128
BY_IMAGE = transforms.Compose([
    transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
    transforms.Normalize(DATASETS["cifar10"].mean, DATASETS["cifar10"].std),
    transforms.RandomErasing(p=1, scale=(0.25, 0.25), ratio=(1, 1)),
])  # fmt: skip


class Pictures(torch.utils.data.Dataset):
    """Pixels as PIL images, transformed one by one."""

    def __init__(self, pixels: np.ndarray):
        self.pictures = [Image.fromarray(image) for image in pixels]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> torch.Tensor:
        return BY_IMAGE(self.pictures[number])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    memory.keep_freed()  # as main.py does
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    labels = np.zeros(IMAGES, np.int64)
    images, plan = Images(pixels, labels, pixels[:1], labels[:1]), BatchPlan(Augmentation(), BATCH, seed=0)
    data, pictures = Data(images, DATASETS["cifar10"], plan), Pictures(pixels)
    loader = DataLoader(pictures, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    ways = {
        "whole batches": lambda epoch: data.train(epoch),
        "torchvision": lambda epoch: DataLoader(pictures, BATCH, shuffle=True),
        "torchvision, 2 workers": lambda epoch: loader,
    }
    turns = []
    for epoch in range(1 + given.repeats):
        turns.append({})
        for name, way in ways.items():
            began = time.perf_counter()
            for _ in way(epoch):
                pass
            turns[-1][name] = IMAGES / (time.perf_counter() - began)
    ours, turns = "whole batches", turns[1:]
    rows = [
        {
            "way": name,
            "images/s": median(turn[name] for turn in turns),
            "ours over it": median(turn[ours] / turn[name] for turn in turns),
        }
        for name in ways
    ]
    show(rows, given.json, floatfmt=",.1f", repeats=given.repeats)


if __name__ == "__main__":
    main()
