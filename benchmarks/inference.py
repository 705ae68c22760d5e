"""How long inference takes with every family, against the plain separable (Hashed: the plain dense) convolution.

    python benchmarks/inference.py [--repeats 7] [--threads 1] [--json FILE]

WRN-16-2 on 32×32 pixels, batch 1 and 128, on a CPU in fp32: CPU seconds of one call under torch.inference_mode. Each
family is timed in turn with its baseline (`Sep`; for the dense forms `Conv`), and ratios are medians of those pairs.
`first` is the first call after a parameter changed, which forms all matrices.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from benchmarks.building import CONVS
from benchmarks.table import show
from cli import options
from layers.init import materialise
from models.build import build
from system import memory
from training.device import to_device

BATCHES = 1, 128
DENSE = ("Conv", "Hashed", "HashedDecimate")


def baseline_of(conv: str) -> str:
    """Return the family that a family is held against."""
    return "Conv" if conv.split("_")[0] in DENSE else "Sep"


def network_of(conv: str):
    """Return WRN-16-2 for inference."""
    config = options.counting(["cifar10", "--wrn_depth", "16", "--wrn_width", "2", "--conv", conv])
    return to_device(materialise(build(config), 0), torch.device("cpu")).eval()


@torch.inference_mode()
def seconds(network, x: torch.Tensor, calls: int) -> float:
    """Return the CPU seconds of one of `calls` calls."""
    began = time.process_time()
    for _ in range(calls):
        network(x)
    return (time.process_time() - began) / calls


def measure(conv: str, batch: int, repeats: int) -> dict:
    """Time a family in turn with its baseline."""
    network, baseline = network_of(conv), network_of(baseline_of(conv))
    x = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    calls = max(1, 32 // batch)
    first = seconds(network, x, 1)
    for each in (network, baseline):
        seconds(each, x, calls)
    pairs = [(seconds(network, x, calls), seconds(baseline, x, calls)) for _ in range(repeats)]
    return {
        "conv": conv,
        "batch": batch,
        "baseline": baseline_of(conv),
        "first_seconds": first,
        "seconds": median(spent for spent, _ in pairs),
        "baseline_seconds": median(other for _, other in pairs),
        "ratio": median(spent / other for spent, other in pairs),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("convs", nargs="*", default=["Sep", *(conv for conv in CONVS if conv != "Sep")])
    request = parser.parse_args(arguments)
    memory.keep_freed()  # as main.py does
    torch.set_num_threads(request.threads)
    rows = [measure(conv, batch, request.repeats) for batch in BATCHES for conv in request.convs]
    show(rows, request.json, ".4f", repeats=request.repeats)


if __name__ == "__main__":
    main()
