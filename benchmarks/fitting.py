"""How long `--init_from` takes with every family, and how near it comes.

    python benchmarks/fitting.py [--network WRN-28-10] [--convs ACDC,CP_0.5] [--json FILE]

The 3×3 kernels of a WRN-16-1 (or WRN-28-10) in turn, as drawn plus a part of low rank. Baselines in the same run: `Generic_0.3`, whose
time is what the others are given in, and for the error `Sep`, below which no family with a depthwise convolution comes. CPU
seconds of all threads, and of the clock.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from tabulate import tabulate

from cli import options
from layers.init import materialise
from models.build import build
from weights import approximation

CONVS = [
    "Sep", "Generic_0.3", "LR_0.3", "SepHashed_0.3", "SepHashedDecimate", "TensorTrain_0.8", "Tucker_0.5", "CP_0.5",
    "Shuffle_4", "ACDC", "Butterfly", "Monarch_4", "BTT_2", "Kronecker_4",
]  # fmt: skip
HEADERS = ["conv", "layers", "mean error", "times Sep's", "CPU, s", "times Generic_0.3", "clock, s"]


def network(name: str, conv: str) -> torch.nn.Module:
    _, depth, width = name.split("-")
    config = options.counting(["cifar10", "--wrn_depth", depth, "--wrn_width", width, "--conv", conv])
    return materialise(build(config), seed=0)


@torch.no_grad()
def source(name: str) -> torch.nn.Module:
    """Return a network whose kernels are correlated as trained ones are."""
    made, generator = network(name, "Conv"), torch.Generator().manual_seed(0)
    for kernel in (each for each in made.parameters() if each.ndim == 4):
        rows, rank = kernel.shape[0], max(1, kernel.shape[0] // 8)
        left, right = (torch.randn(*size, generator=generator) for size in ((rows, rank), (rank, kernel[0].numel())))
        part = (left @ right).view_as(kernel)
        kernel.add_(part * (kernel.norm() / part.norm()))
    return made


def measure(conv: str, name: str, trained: torch.nn.Module) -> list:
    student = network(name, conv)
    cpu, clock = time.process_time(), time.perf_counter()
    rows = approximation.approximate_network(student, trained)
    spent = time.process_time() - cpu, time.perf_counter() - clock
    return [conv, len(rows), fmean(row.relative_error for row in rows), *spent]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="WRN-16-1", choices=["WRN-16-1", "WRN-28-10"])
    parser.add_argument("--convs", default=",".join(CONVS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    trained = source(given.network)
    found = {
        conv: measure(conv, given.network, trained)
        for conv in dict.fromkeys(["Sep", "Generic_0.3", *given.convs.split(",")])
    }
    rows = [
        [conv, layers, error, error / found["Sep"][2], cpu, cpu / found["Generic_0.3"][3], clock]
        for conv, layers, error, cpu, clock in found.values()
    ]
    print(tabulate(rows, HEADERS, floatfmt=".3f"))
    if given.json:
        given.json.write_text(json.dumps({"network": given.network, "rows": [dict(zip(HEADERS, row)) for row in rows]}))


if __name__ == "__main__":
    main()
