"""How long one layer takes to train with every family, against plain modules, and how many operators a step calls.

    python benchmarks/layers.py [--repeats 7] [--threads 1] [--operators] [--json FILE]

A layer of 640 → 640 channels, k = 3, 16 images of 8×8, forward and backward, on a CPU in fp32: CPU seconds. The
baseline is a plain depthwise and 1×1 nn.Conv2d in channels-last (`Conv` and the hashed kernels: a plain nn.Conv2d), timed
in turn with each family; ratios are medians of the pairs. `--operators` also counts the ATen operators of a training
step of WRN-28-10 (batch 2), as torch.profiler sees them: on a GPU about as many kernels are launched.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.building import CONVS, NETWORKS
from benchmarks.inference import DENSE
from benchmarks.table import show
from blocks import block
from cli import options
from layers.init import materialise
from layers.spec import ConvSpec
from models.build import build
from system import memory
from training.device import to_device

CHANNELS, IMAGES, SIDE = 640, 16, 8
CPU = torch.device("cpu")


def stepper(module: nn.Module) -> Callable[[], float]:
    """Return a function that takes one step, forward and backward, and returns its CPU seconds."""
    module = to_device(module, CPU)
    shape = (IMAGES, CHANNELS, SIDE, SIDE)
    x, gradient = (torch.randn(shape).to(memory_format=torch.channels_last) for _ in range(2))
    x.requires_grad_()

    def step() -> float:
        module.zero_grad()
        began = time.process_time()
        module(x).backward(gradient)
        return time.process_time() - began

    step(), step()
    return step


def plain(dense: bool) -> nn.Module:
    """Return the layer of plain modules."""
    if dense:
        return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
    depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False))


def operators(conv: str) -> int:
    """Return how many ATen operators a training step of WRN-28-10 calls."""
    config = options.counting([*NETWORKS["WRN-28-10"], "--conv", conv])
    network = to_device(materialise(build(config), 0), CPU)
    x, y = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last), torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        network(x)  # hashes and permutations are found once
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        F.cross_entropy(network(x).logits, y).backward()
    return sum(event.count for event in seen.key_averages() if event.key.startswith("aten::"))


def measure(conv: str, repeats: int, count: bool) -> dict:
    """Time a family in turn with its baseline."""
    dense = conv.split("_")[0] in DENSE
    ours = stepper(block(conv, ConvSpec(CHANNELS, CHANNELS, 3, padding=1), name="a"))
    baseline = stepper(plain(dense))
    pairs = [(ours(), baseline()) for _ in range(repeats)]
    row = {
        "conv": conv,
        "baseline": "plain Conv2d" if dense else "plain depthwise + 1×1",
        "seconds": median(spent for spent, _ in pairs),
        "baseline_seconds": median(other for _, other in pairs),
        "ratio": median(spent / other for spent, other in pairs),
    }
    return row | ({"operators": operators(conv)} if count else {})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--operators", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("convs", nargs="*", default=CONVS)
    request = parser.parse_args(arguments)
    memory.keep_freed()  # as main.py does
    torch.set_num_threads(request.threads)
    rows = [measure(conv, request.repeats, request.operators) for conv in request.convs]
    show(rows, request.json, ".4f", repeats=request.repeats)


if __name__ == "__main__":
    main()
