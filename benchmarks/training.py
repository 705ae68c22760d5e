"""How long a training step takes with every family, how many operators it runs, and how its time grows.

    OMP_NUM_THREADS=1 python benchmarks/training.py [steps | operators | growth ...] [--repeats 5] [--convs Sep,ACDC] [--json FILE]

`steps`: WRN-16-2 (or --network DEPTH-WIDTH), batches of 32 and 128, a whole step with SGD. Baselines, timed in turn with each family: `Sep`,
`Conv`, and plain modules in NCHW, where nn.Conv2d stands for each Hashed and Conv block, and a depthwise and a 1×1 nn.Conv2d
for every other. Of `Conv`, the share of the multiply-adds a second of a large matrix product, timed in the same turns.
`operators`: of a step of WRN-28-10, by torch.profiler: those that compute, without views and allocations. `growth`: step time over
batch, width and depth. CPU seconds of this process (on a GPU seconds), each the median of --repeats after one that warms up.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from tabulate import tabulate
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.building import CONVS
from cli import options
from counting import costs
from distill import Supervised
from input.batches import Batch
from layers.ahead import maps_of
from layers.base import Block
from layers.init import materialise
from models.build import build
from system import memory
from training.device import to_device
from training.metrics import Meter
from training.optim import sgd
from training.step import TrainStep

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DENSE = ("Conv", "Hashed")  # families whose plain form is one convolution
SIDE = 2048  # of the matrices of the product
IDLE = (
    "empty",
    "as_strided",
    "view",
    "reshape",
    "resize_",
    "detach",
    "slice",
    "select",
    "expand",
    "permute",
    "alias",
    "unfold",
)


def network_of(conv: str, depth: int, width: float, plain: bool = False) -> tuple[dict, nn.Module]:
    """Return the request and the network on the device, as main.py has it or of plain modules in NCHW."""
    flags = ["--wrn_depth", str(depth), "--wrn_width", str(width)]
    config = options.counting(["cifar10", "--conv", "Conv" if plain else conv, *flags])
    network = materialise(build(config), 0)
    if not plain:
        return config, to_device(network, DEVICE)
    for name, block in [(name, module) for name, module in network.named_modules() if isinstance(module, Block)]:
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, _plain(block.spec, conv.startswith(DENSE)))
    return config, network.to(DEVICE)


def _plain(spec, dense: bool) -> nn.Module:
    i, o, k = spec.in_channels, spec.out_channels, spec.kernel_size
    place = (spec.stride, spec.padding, spec.dilation)
    if dense or k == 1:
        return nn.Conv2d(i, o, k, *place, bias=spec.bias)
    return nn.Sequential(nn.Conv2d(i, i, k, *place, groups=i, bias=False), nn.Conv2d(i, o, 1, bias=spec.bias))


def stepper(network: nn.Module, images: int) -> Callable[[], None]:
    """Return a function that takes one whole training step, as the loop does."""
    network.train()
    step, meter = TrainStep(network, Supervised(), sgd(network, [], 1e-3, 0.9, 5e-4, 1.0)), Meter()
    step.maps = maps_of(network) if DEVICE.type == "cpu" else []  # as main.py does
    x = torch.randn(images, 3, 32, 32, device=DEVICE).to(memory_format=torch.channels_last)
    batch = Batch(x, torch.arange(images, device=DEVICE) % 10, images, images)

    def run() -> None:
        meter.add(step(batch))
        meter.waiting.clear()

    return run


def seconds(run: Callable[[], None]) -> float:
    """Return the CPU seconds of a call; on a GPU seconds until it is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - began
    began = time.process_time()
    run()
    return time.process_time() - began


def in_turn(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Time all in turn, so that what else the machine does falls on all alike."""
    for run in runs.values():
        run()
    turns = [{name: seconds(run) for name, run in runs.items()} for _ in range(repeats)]
    return {name: [turn[name] for turn in turns] for name in runs}


def ratio(spent: list[float], baseline: list[float]) -> float:
    return median(a / b for a, b in zip(spent, baseline))


def steps(convs: list[str], repeats: int, network: str) -> list[dict]:
    """Return of each batch size and family its seconds, and its ratios to the baselines."""
    rows = []
    depth, width = int(network.partition("-")[0]), float(network.partition("-")[2])
    a, b = torch.randn(SIDE, SIDE, device=DEVICE), torch.randn(SIDE, SIDE, device=DEVICE)
    for images in (32, 128):
        config, dense = network_of("Conv", depth, width)
        baselines = {
            "Conv": stepper(dense, images),
            "Sep": stepper(network_of("Sep", depth, width)[1], images),
            "product": lambda: torch.mm(a, b),
        }
        plain = {kind: stepper(network_of(kind, depth, width, plain=True)[1], images) for kind in ("Conv", "Sep")}
        forward = costs.summary(config, images)["mult_adds_exact"] * images
        for conv in convs:
            own = {"own": stepper(network_of(conv, depth, width)[1], images)} if conv not in baselines else {}
            kind = "Conv" if conv.startswith(DENSE) else "Sep"
            spent = in_turn({**own, **baselines, "plain": plain[kind]}, repeats)
            of = spent["own" if own else conv]
            row = {"batch": images, "conv": conv, "seconds": median(of), "Sep": ratio(of, spent["Sep"])}
            row |= {"Conv": ratio(of, spent["Conv"]), "plain": ratio(spent["plain"], of)}
            if conv == "Conv":  # forward, and twice as much backward
                row["ceiling"] = median(3 * forward / s / (SIDE**3 / p) for s, p in zip(of, spent["product"]))
            rows.append(row)
            print(f"{images} {conv}", file=sys.stderr, flush=True)
    return rows


def operators(convs: list[str], repeats: int, network: str) -> list[dict]:
    """Return how many operators that compute are in a step of WRN-28-10: on a GPU each is a kernel or a few."""
    rows = []
    for conv in convs:
        run = stepper(network_of(conv, 28, 10)[1], 2)
        run()
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            run()
        rows.append({"conv": conv, "operators": computing(profiled.events())})
        print(conv, file=sys.stderr, flush=True)
    return rows


def computing(events) -> int:
    """Count the operators that no other operator has called, or that call none that computes."""

    def computes(event) -> bool:
        return event.name.startswith("aten::") and not any(idle in event.name for idle in IDLE)

    def called(event):
        return (each for child in event.cpu_children for each in (child, *called(child)))

    return sum(computes(event) and not any(map(computes, called(event))) for event in events)


def growth(convs: list[str], repeats: int, network: str) -> list[dict]:
    """Return the time of a step over batch, width and depth, each as a ratio to a step of WRN-16-2 on 32 images."""
    rows, sizes = (
        [],
        [(16, 2, 8), (16, 2, 16), (16, 2, 64), (16, 1, 32), (16, 4, 32), (10, 2, 32), (22, 2, 32), (28, 2, 32)],
    )
    for conv in convs:
        config, built = network_of(conv, 16, 2)
        base, cost = stepper(built, 32), costs.summary(config, 32)["mult_adds_exact"] * 32
        for depth, width, images in sizes:
            config, built = network_of(conv, depth, width)
            spent = in_turn({"own": stepper(built, images), "base": base}, repeats)
            work = costs.summary(config, images)["mult_adds_exact"] * images / cost
            row = {"conv": conv, "depth": depth, "width": width, "batch": images, "mult-adds": work}
            rows.append(row | {"seconds": median(spent["own"]), "time": ratio(spent["own"], spent["base"])})
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = {"steps": steps, "operators": operators, "growth": growth}
    parser.add_argument("tables", nargs="*", choices=[*tables], default=["steps"], metavar="TABLE")
    parser.add_argument("--convs", default=None, help="of these families alone, separated by commas")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--network", default="16-2", help="depth and width of the WideResNet of `steps`")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    memory.keep_freed()  # as main.py does
    found = {"torch": torch.__version__, "device": str(DEVICE), "machine": platform.machine(), "threads": given.threads}
    found["repeats"] = given.repeats
    for name in given.tables:
        convs = (
            given.convs.split(",") if given.convs else CONVS if name != "growth" else ["Conv", "Sep", "SepHashed_0.1"]
        )
        found[name] = tables[name](convs, given.repeats, given.network)
        print(tabulate(found[name], headers="keys", floatfmt=".3f"), end="\n\n")
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
