"""How long a training step takes with every family, next to its exact mult-adds.

    python benchmarks/steps.py [steps]

WRN-16-4, 64 images of 32×32, forward and backward, on one CPU thread or the GPU. Baseline: `Conv`, timed in turn with
each family. Median of `steps` (default 5) after one that warms up.
"""

import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from tabulate import tabulate

from benchmarks.building import CONVS
from cli import options
from counting import costs
from layers.init import materialise
from models.build import build

BATCH = 64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def stepper(conv: str):
    """Return the exact mult-adds an image, and a function that takes one step and returns its seconds."""
    config = options.counting(["cifar10", "--wrn_depth", "16", "--wrn_width", "4", "--conv", conv])
    network = materialise(build(config), 0).to(DEVICE, memory_format=torch.channels_last)
    x = torch.randn(BATCH, 3, 32, 32, device=DEVICE).to(memory_format=torch.channels_last)
    y = torch.arange(BATCH, device=DEVICE) % 10

    def step() -> float:
        began = time.perf_counter()
        F.cross_entropy(network(x).logits, y).backward()
        torch.cuda.synchronize() if DEVICE == "cuda" else None
        return time.perf_counter() - began

    step()
    return costs.summary(config, BATCH)["mult_adds_exact"], step


def main(steps: int = 5) -> None:
    torch.set_num_threads(1)
    rows = []
    dense_cost, dense = stepper("Conv")
    for conv in CONVS:
        cost, step = stepper(conv)
        pairs = [(step(), dense()) for _ in range(steps)]
        ratio = median(spent / baseline for spent, baseline in pairs)
        rows.append([conv, cost / dense_cost, median(spent for spent, _ in pairs), ratio])
    print(tabulate(rows, ["conv", "mult-adds, times Conv", "step, s", "times Conv"], floatfmt=".3f"))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
