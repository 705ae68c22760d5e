"""What gates cost in training, and what they save for one image at a time: dense, masked, and with closed channels left out.

    python benchmarks/gating.py [--gate FBS] [--images 40] [--threads 1] [--json FILE] [NETWORK ...]
    python benchmarks/gating.py --training [--batch 64] [--repeats 7] [NETWORK ...]

Networks with random weights on random images, on a CPU in fp32; CPU seconds, each image through all networks in turn, medians; `skip/dense`
is the median of the ratios of each image. Gates are drawn so that images differ in what they open. The dense network has its batch-norms
unfused, as everywhere here; one that leaves channels out has them in its kernels, so at density 1 that alone makes a difference. Below
the density that is printed last (linear between those measured) skipping takes less time than the dense network.
`--training`: a step (forward, backward, SGD) with gates at density 0.5 against the same without.
"""

import argparse
import copy
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.table import show
from cli import options
from gates.skip import skip
from input.datasets import side_of
from layers.init import materialise
from models.build import build
from system import memory
from training.device import to_device

NETWORKS = (
    "cifar10 --network MCifarNet",
    "cifar10 --wrn_depth 16 --wrn_width 2",
    "cifar10 --network ResNet9",
    "cifar10 --network MobileNetV1",
    "imagenet --network MobileNetV1",
    "imagenet --network SqueezeNet",
)
DENSITIES = (1.0, 0.75, 0.5, 0.25)
WARM = 3


def network_of(command: str, gate: str | None = None) -> tuple[nn.Module, int]:
    """Return a network with random weights, with gates that tell images apart, and the side of its images."""
    config = options.counting(command.split() + (["--gate", gate] if gate else []))
    network = materialise(build(config), 0)
    generator = torch.Generator().manual_seed(1)
    for each in network.gates.values() if gate else ():
        each.weight.data.normal_(0, each.weight.shape[1] ** -0.5, generator=generator)
        each.bias.data.fill_(1.0)
    return to_device(network, torch.device("cpu")).eval(), side_of(config)


def images(side: int, count: int, batch: int = 1) -> list[Tensor]:
    """Return random batches."""
    generator = torch.Generator().manual_seed(2)
    made = (torch.randn(batch, 3, side, side, generator=generator) for _ in range(count))
    return [each.to(memory_format=torch.channels_last) for each in made]


@torch.inference_mode()
def latencies(command: str, kind: str, count: int) -> list[dict]:
    """Time one network at every density, by turns with the dense one, image by image."""
    dense, side = network_of(command)
    networks = {"dense": dense}
    for density in DENSITIES:
        gated, _ = network_of(command, f"{kind}_{density}")
        with torch.inference_mode(False):
            networks[density, "skip"] = skip(copy.deepcopy(gated), side)
        networks[density, "mask"] = gated
    times: dict = {name: [] for name in networks}
    for x in images(side, count + WARM):
        for name, network in networks.items():
            began = time.process_time()
            network(x)
            times[name].append(1000 * (time.process_time() - began))
    times = {name: each[WARM:] for name, each in times.items()}

    def ratio(name) -> float:
        return median(one / other for one, other in zip(times[name], times["dense"]))

    return [
        {
            "network": command, "density": density, "dense ms": median(times["dense"]),
            "masked ms": median(times[density, "mask"]), "skip ms": median(times[density, "skip"]),
            "masked/dense": ratio((density, "mask")), "skip/dense": ratio((density, "skip")),
        }
        for density in DENSITIES
    ]  # fmt: skip


def pays_below(rows: list[dict]) -> str:
    """Return the density below which skipping takes less time than the dense network, in words."""
    points = sorted((row["density"], row["skip/dense"]) for row in rows)
    if points[0][1] >= 1:
        return f"not at {points[0][0]:g} and above"
    for (low, before), (high, after) in zip(points, points[1:]):
        if after >= 1:
            return f"below {low + (high - low) * (1 - before) / (after - before):.2f}"
    return "at every density"


def steps(command: str, kind: str, batch: int, repeats: int) -> dict:
    """Time a training step with gates at density 0.5 by turns with one without."""
    (dense, side), (gated, _) = network_of(command), network_of(command, f"{kind}_0.5")
    x, y = images(side, 1, batch)[0], torch.arange(batch) % 10
    pairs = []
    for _ in range(repeats + 1):
        pairs.append([_step(each, x, y) for each in (dense, gated)])
    plain, masked = (median(column) for column in zip(*pairs[1:]))
    return {
        "network": command, "gate": f"{kind}_0.5", "batch": batch, "step ms": plain, "gated ms": masked,
        "gated/plain": median(other / one for one, other in pairs[1:]),
    }  # fmt: skip


def _step(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the CPU ms of a step; the learning rate is too small to change what is measured."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-9, momentum=0.9)
    began = time.process_time()
    optimizer.zero_grad()
    loss = F.cross_entropy(network(x).logits, y)
    if hasattr(network, "gates"):
        loss = loss + sum(each.auxiliary_losses()["gate"] for each in network.gates.values())
    loss.backward()
    optimizer.step()
    return 1000 * (time.process_time() - began)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--gate", default="FBS", choices=["FBS", "Naive"])
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="command lines of count.py")
    request = parser.parse_args(arguments)
    memory.keep_freed()  # as main.py does
    torch.set_num_threads(request.threads)
    if request.training:
        rows = [steps(each, request.gate, request.batch, request.repeats) for each in request.networks]
        show(rows, request.json, ".3g", repeats=request.repeats)
        return
    each_rows = [latencies(each, request.gate, request.images) for each in request.networks]
    show(sum(each_rows, []), request.json, ".3g", images=request.images, gate=request.gate)
    for rows in each_rows:
        print(f"{rows[0]['network']}: skipping pays {pays_below(rows)}")


if __name__ == "__main__":
    main()
