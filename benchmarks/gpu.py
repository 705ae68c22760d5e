"""What training steps of a WideResNet reach on a GPU, and where their time goes.

    python benchmarks/gpu.py [--network 28-10] [--batch 128] [--convs Conv,SepHashed_0.1] [--compile Conv] [--json FILE]

Of every family: images a second of plain modules (fp32, NCHW, eager: nn.Conv2d, or a depthwise and a 1×1 one), and of main.py's
own in fp32, tf32 and bf16, and in bf16 compiled. `ceiling`: the multiply-adds of a step (forward, and twice as many backward)
a second, as a share of those of a bf16 product of 8192 × 8192 in the same run. `kernels`: launched in a step; `busy`: the share of
a step in which any runs. Last the kernels that take the most time. Medians of --repeats turns of --steps steps.
"""

import argparse
import sys
import time
from collections import Counter
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile

from benchmarks.table import show
from benchmarks.training import DEVICE, network_of
from counting import costs
from distill import Supervised
from input.batches import Batch
from training.device import compile_for
from training.metrics import Meter
from training.optim import sgd
from training.step import TrainStep

SIDE = 8192  # of the matrices of the product
BF16 = partial(torch.autocast, DEVICE.type, torch.bfloat16)
FORMS = {"plain": "fp32", "fp32": "fp32", "tf32": "tf32", "bf16": "bf16", "compiled": "bf16"}


def seconds(run, steps: int, repeats: int) -> float:
    """Return the median seconds of one of `steps` calls, after as many that warm up."""
    spent = []
    for _ in range(1 + repeats):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            run()
        torch.cuda.synchronize()
        spent.append((time.perf_counter() - began) / steps)
    return median(spent[1:])


def ceiling() -> float:
    """Return the multiply-adds a second of a bf16 product."""
    a, b = (torch.randn(SIDE, SIDE, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    return SIDE**3 / seconds(lambda: torch.mm(a, b), 10, 5)


def step_of(conv: str, form: str, network: str, images: int):
    """Return the request, and a function that takes one whole training step, as the loop does."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = FORMS[form] == "tf32"
    depth, _, width = network.partition("-")
    config, net = network_of(conv, int(depth), float(width), plain=form == "plain")
    if form == "compiled":
        compile_for(net, 32, mode="reduce-overhead", dynamic=False)
    precision = BF16 if FORMS[form] == "bf16" else nullcontext
    step = TrainStep(net.train(), Supervised(), sgd(net, [], 1e-3, 0.9, 5e-4, 1.0), precision=precision)
    x = torch.randn(images, 3, 32, 32, device=DEVICE)
    x = x if form == "plain" else x.to(memory_format=torch.channels_last)
    batch, meter = Batch(x, torch.arange(images, device=DEVICE) % 10, images, images), Meter()

    def run() -> None:
        meter.add(step(batch))
        meter.waiting.clear()

    return config, run


def kernels_of(run, steps: int = 3) -> tuple[float, float, Counter]:
    """Return of a step the kernels that were launched, their seconds, and their seconds by name."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        for _ in range(steps):
            run()
        torch.cuda.synchronize()
    on_gpu = (each for each in profiled.events() if each.device_type == torch.autograd.DeviceType.CUDA)
    ran = [event for event in on_gpu if not getattr(event, "is_user_annotation", False)]
    by_name = Counter()
    for event in ran:
        by_name[event.name[:90]] += event.time_range.elapsed_us() / 1e6 / steps
    return len(ran) / steps, sum(by_name.values()), by_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="28-10", help="depth and width of the WideResNet")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--convs", default="Conv,Sep,SepHashed_0.1,ACDC_12,TensorTrain_0.1,Hashed_0.1")
    parser.add_argument("--compile", default="", help="those that are compiled, too (a minute each)")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    most, rows, time_goes = ceiling(), [], []
    print(f"{torch.cuda.get_device_name()}: {2e-12 * most:.0f} TFLOP/s in a bf16 product", flush=True)
    for conv in given.convs.split(","):
        row = {"conv": conv}
        for form in FORMS:
            if form == "compiled" and conv not in given.compile.split(","):
                continue
            config, run = step_of(conv, form, given.network, given.batch)
            spent = seconds(run, given.steps, given.repeats)
            row[form], last = given.batch / spent, form
        work = 3 * costs.summary(config, given.batch)["mult_adds_exact"] * given.batch
        number, busy, by_name = kernels_of(run)
        row |= {"× plain": row[last] / row["plain"], "ceiling": work / spent / most}
        row |= {"kernels": number, "busy": busy / spent, "MB": torch.cuda.max_memory_allocated() / 1e6}
        time_goes += [[conv, name, f"{share / busy:.0%}"] for name, share in by_name.most_common(6)]
        rows.append(row)
        print(tabulate([row], headers="keys", floatfmt=".2f"), flush=True)
        del run
        torch.cuda.empty_cache(), torch.cuda.reset_peak_memory_stats()
    print(tabulate(time_goes, tablefmt="plain"))
    show(rows, given.json, floatfmt=".2f", gpu=torch.cuda.get_device_name(), network=given.network, batch=given.batch)


if __name__ == "__main__":
    main()
