"""How much faster a network is without its dead filters, and how much smaller.

    python benchmarks/shrunk.py [--share 0.7] [--repeats 7] [--threads 1] [--json FILE] [NETWORK ...]

Networks with random weights, of which a share of the filters of each convolution but the stem is set to 0; in the sums of
residual networks that leaves all channels but those within the blocks. Milliseconds of CPU time of a forward pass of 32 images
(of one at 224×224), dense and shrunk in turns, medians; parameters and exact mult-adds.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import nn

from benchmarks.table import show
from cli import options
from counting.costs import summary
from input.datasets import side_of
from layers.init import materialise
from models.build import build
from sparsity.shrunk import shrink
from system import memory
from training.device import to_device

NETWORKS = (
    "cifar10 --wrn_depth 16 --wrn_width 2",
    "cifar10 --network CifarResNet50 --width_mult 0.25",
    "cifar10 --network VGG16",
    "cifar10 --network MobileNetV1",
    "imagenet --network MobileNetV2",
    "cifar10 --network DARTS",
    "cifar10 --network torchvision:resnet18",
)
IMAGES = {32: 32, 224: 1}


@torch.no_grad()
def with_dead(network: nn.Module, share: float) -> nn.Module:
    """Set a share of the filters of the convolutions to 0, but for the stem, depthwise ones and the classifier."""
    generator = torch.Generator().manual_seed(0)
    for name, module in network.named_modules():
        kernel = getattr(module, "dense", getattr(module, "weight", None))
        if not isinstance(kernel, nn.Parameter) or kernel.dim() < 2 or kernel.shape[1] in (1, 3):
            continue
        if not (isinstance(module, nn.Linear) or name.startswith(("classifier", "auxiliary"))):
            kernel[torch.rand(len(kernel), generator=generator) < share] = 0
    return network.eval()


@torch.inference_mode()
def milliseconds(network: nn.Module, x: torch.Tensor) -> float:
    """Return the CPU time of a pass."""
    began = time.process_time()
    network(x)
    return 1000 * (time.process_time() - began)


def measure(command: str, share: float, repeats: int) -> dict:
    """Shrink a network and time it against what it was."""
    config = options.counting(command.split())
    network = with_dead(materialise(build(config), 0), share)
    began = time.process_time()
    found = shrink(network, config)
    took = time.process_time() - began
    side = side_of(config)
    x = torch.randn(IMAGES[side], 3, side, side).to(memory_format=torch.channels_last)
    pair = [to_device(each, torch.device("cpu")).eval() for each in (network, found.network)]
    for each in pair:
        milliseconds(each, x)
    times = [[milliseconds(each, x) for each in pair] for _ in range(repeats)]
    before, after = (median(column) for column in zip(*times))
    costs = [summary(each) for each in (config, found.config)]
    return {
        "network": command, "images": len(x), "dense ms": before, "shrunk ms": after,
        "ratio": median(small / dense for dense, small in times),
        "params ratio": costs[1]["params"] / costs[0]["params"],
        "mult-adds ratio": costs[1]["mult_adds_exact"] / costs[0]["mult_adds_exact"],
        "difference": found.difference, "to shrink s": took,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.7)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="command lines of count.py")
    request = parser.parse_args(arguments)
    memory.keep_freed()  # as main.py does
    torch.set_num_threads(request.threads)
    rows = [measure(each, request.share, request.repeats) for each in request.networks]
    show(rows, request.json, ".3g", repeats=request.repeats, share=request.share)


if __name__ == "__main__":
    main()
