"""What --cache_teacher saves of a student's training step, and what it keeps.

    OMP_NUM_THREADS=1 python benchmarks/teacher_cache.py [--repeats 5] [--convs Conv,SepHashed_0.1] [--json FILE]

A step of a WRN-16-2 with SGD on 128 images of 32×32, taught by a WRN-16-2 of Conv (attention transfer and distillation): `cached`
against the same step that asks the teacher, timed in turn with it. `labels` is the step without a teacher, the least that there
is. CPU seconds of this process (on a GPU seconds), ratios are medians of --repeats after one that warms up.
"""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks.table import show
from benchmarks.training import DEVICE, in_turn, network_of, ratio
from distill import Criterion, Distill, Supervised
from input.arrays import Images
from input.augment import Augmentation
from input.batches import BatchPlan
from input.datasets import DATASETS
from input.memory import Data
from system import memory
from training.metrics import Meter
from training.optim import sgd
from training.step import TrainStep
from training.teacher_cache import fill, reserve

IMAGES, SIZE = 128, (16, 2)


def data() -> Data:
    """Return a batch of random images."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    images, plan = Images(pixels, np.arange(IMAGES) % 10, pixels, np.arange(IMAGES) % 10), Augmentation(False, False, 0)
    return Data(images, DATASETS["cifar10"], BatchPlan(plan, IMAGES, seed=0, device=DEVICE))


def stepper(conv: str, criterion: Criterion, feed: Data, cached: bool = False):
    """Return a function that takes one whole training step, as the loop does."""
    network = network_of(conv, *SIZE)[1].train()
    step, meter = TrainStep(network, criterion, sgd(network, [], 1e-3, 0.9, 5e-4, 1.0)), Meter()
    if cached:
        criterion.cache = reserve(criterion, feed, nullcontext)
        fill(step, feed)
    batch = next(feed.train(0))

    def run() -> None:
        meter.add(step(batch))
        meter.waiting.clear()

    return run


def measure(convs: list[str], repeats: int) -> list[dict]:
    """Return of each family the seconds of a step and its ratios."""
    rows, feed = [], data()
    for conv in convs:
        asked, kept = (Distill(network_of("Conv", *SIZE)[1], 0.5, 1000.0, 4.0) for _ in range(2))
        runs = {
            "asked": stepper(conv, asked, feed),
            "cached": stepper(conv, kept, feed, cached=True),
            "labels": stepper(conv, Supervised(), feed),
        }
        spent = in_turn(runs, repeats)
        row = {"conv": conv, "asked s": median(spent["asked"]), "cached s": median(spent["cached"])}
        row |= {f"cached / {name}": ratio(spent["cached"], spent[name]) for name in ("asked", "labels")}
        rows.append(row | {"bytes an image": kept.cache.kept.bytes() // IMAGES})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--convs", default="Conv,SepHashed_0.1,ACDC_12")
    parser.add_argument("--json")
    given = parser.parse_args()
    memory.keep_freed()  # as main.py does
    rows = measure(given.convs.split(","), given.repeats)
    show(rows, given.json, device=str(DEVICE), repeats=given.repeats)


if __name__ == "__main__":
    main()
