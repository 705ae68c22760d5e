"""Which is faster: a structured network as it is, or with every block as the dense kernel that it equals.

    python benchmarks/latency.py [--batches 1,128] [--threads 1] [--json FILE] [CONV ...]

WRN-16-2 on 32×32 pixels with its initial weights, batch-norm's statistics taken of random images so that values pass through it
as after training. `difference` is the largest between the two outputs over the largest output; a network that differs by more than
1e-4 ends the benchmark. Milliseconds are medians, measured in turns with Conv as counting/latency.py does, ± their interquartile
range; `structured` is the time as it is over the dense one.
"""

import argparse
import copy
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import nn

from benchmarks.building import CONVS
from benchmarks.table import show
from cli import options
from counting.latency import timings
from layers.init import materialise
from models.build import build
from models.dense import densify
from system import memory
from training.device import to_device

LARGEST = 1e-4


def network_of(conv: str) -> nn.Module:
    """Return WRN-16-2 for inference, with statistics of random images."""
    config = options.counting(["cifar10", "--wrn_depth", "16", "--wrn_width", "2", "--conv", conv])
    network = materialise(build(config), 0).train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(32, 3, 32, 32))
    return network.eval()


@torch.inference_mode()
def difference(one: nn.Module, other: nn.Module) -> float:
    """Return the largest difference of two networks' outputs for random images, over the largest output."""
    x = torch.randn(16, 3, 32, 32)
    own, theirs = one(x).logits, other(x).logits
    return ((own - theirs).abs().max() / own.abs().max()).item()


def measure(conv: str, batches: list[int]) -> list[dict]:
    """Return a row for each batch size."""
    torch.manual_seed(0)
    network, plain = network_of(conv), network_of("Conv")
    dense = copy.deepcopy(network)
    densify(dense)
    apart = difference(network, dense)
    if not apart <= LARGEST:
        raise SystemExit(f"{conv}: as it is and dense differ by {apart:.1e}, more than {LARGEST:g}")
    ready = partial(to_device, device=torch.device("cpu"))
    rows = []
    for images in batches:
        own, other, conv_time = timings([ready(each).eval() for each in (network, dense, plain)], 32, images)
        rows.append({
            "conv": conv, "images": images, "difference": apart, "ms": own.median, "±": own.spread, "dense ms": other.median,
            "± dense": other.spread, "structured": own.median / other.median, "Conv ms": conv_time.median,
        })  # fmt: skip
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", default="1,128")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("convs", nargs="*", default=[conv for conv in CONVS if conv != "Conv"])
    request = parser.parse_args(arguments)
    memory.keep_freed()  # as main.py does
    torch.set_num_threads(request.threads)
    batches = [int(each) for each in request.batches.split(",")]
    rows = [row for conv in request.convs for row in measure(conv, batches)]
    show(sorted(rows, key=lambda row: row["images"]), request.json, ".3g", batches=batches)


if __name__ == "__main__":
    main()
