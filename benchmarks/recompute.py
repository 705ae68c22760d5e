"""What --checkpoint_activations spares and costs.

    python benchmarks/recompute.py [steps]

Baseline: the same network without it. A training step of 8 images on one CPU thread: MB kept for the backward pass, and
time, in turn with the baseline, median of `steps` (default 3).
"""

import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from tabulate import tabulate

from cli import options
from input.datasets import side_of
from layers.init import materialise
from models.build import build
from training.recompute import recompute

NETWORKS = {
    "WRN-40-2": ["cifar10"],
    "DARTS": ["cifar10", "--network", "DARTS"],
    "MobileNetV2": ["imagenet", "--network", "MobileNetV2"],
}


def step(network, x) -> tuple[float, float]:
    """Seconds, and MB of distinct tensors that are kept (parameters aside)."""
    kept, own = {}, {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    began = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(x).logits.sum()
    megabytes = sum(kept.values()) / 1e6
    loss.backward()
    return time.perf_counter() - began, megabytes


def main(steps: int = 3) -> None:
    torch.set_num_threads(1)
    rows = []
    for name, flags in NETWORKS.items():
        config = options.counting(flags)
        plain, spared = (materialise(build(config), 0) for _ in range(2))
        recompute(spared)
        side = side_of(config)
        x = torch.randn(8, 3, side, side)
        pairs = [(step(plain, x), step(spared, x)) for _ in range(steps)]
        ratio = median(after[0] / before[0] for before, after in pairs)
        rows.append([name, pairs[0][0][1], pairs[0][1][1], pairs[0][1][1] / pairs[0][0][1], ratio])
    print(tabulate(rows, ["network", "MB kept", "MB with it", "ratio", "time, ratio"], floatfmt=".2f"))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
