"""What ACDC costs next to a separable convolution, and next to ACDC with a real FFT for each transform and all states kept.

    python benchmarks/acdc.py [network layer memory transforms] [--repeats 5] [--json FILE]

network: a training step of WRN-16-2 (forward, backward), batches of 32 and 128, ACDC_12 over Sep; layer: forward and backward
of 640→640, k = 3, 16 images of 8×8, over the modules nn.Conv2d (depthwise, 1×1) in NCHW; memory: a step of WRN-28-10 with
ACDC_64, 8 images: time over Sep, and peak memory of a process with two steps, over Sep's; transforms: nanoseconds of each form
for each number. CPU seconds of OMP_NUM_THREADS (default 1) threads, medians of ratios to the baseline, measured in turn.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.table import show
from blocks import block
from cli import options
from layers import cosine_costs
from layers.acdc import ACDC
from layers.cosine import FORMS, transform
from layers.factor_matrices import riffle
from layers.init import materialise
from layers.spec import ConvSpec
from models.build import build
from system import memory

SIZES = (16, 32, 64, 128, 160, 254, 256, 320, 640, 1280)
DEEP = ["--wrn_depth", "28", "--wrn_width", "10"]


class Dct(torch.autograd.Function):
    """Rows times C or C⁻¹ by a real FFT (Makhoul 1980)."""

    @staticmethod
    def forward(ctx, x, inverse):
        ctx.inverse = inverse
        made = transform("fft", x.shape[-1], x.dtype, x.device)
        out, columns = torch.empty_like(x.t()), x.t().contiguous()
        if inverse:
            made.bound(columns[made.outputs], out, out)[1]()
            return out[made.inputs.argsort()].t()
        made.bound(columns[made.inputs], out, out)[0]()
        return out[made.outputs.argsort()].t()

    @staticmethod
    def backward(ctx, gradient):
        return Dct.apply(gradient, not ctx.inverse), None


def kept(module: ACDC, x: torch.Tensor) -> torch.Tensor:
    """Map columns factor by factor, by FFT, with all states kept for the backward pass."""
    order, x = torch.tensor(riffle(module.square.size)), module.square.expand(x.t())
    for a, d in zip(module.a, module.d):
        x = Dct.apply(Dct.apply(x * a, False)[:, order] * d, True)[:, order]
    return module.square.reduce(x).t()


def network(conv: str, flags: list[str], keeps: bool = False) -> nn.Module:
    made = materialise(build(options.counting(["cifar10", *flags, "--conv", conv])), 0)
    for module in made.modules():
        if keeps and isinstance(module, ACDC):
            module.matrix = lambda module=module: kept(module, torch.eye(module.in_channels))
    return made.to(memory_format=torch.channels_last)


def stepper(model: nn.Module, x: torch.Tensor) -> Callable[[], float]:
    """Return what takes a step, forward and backward, and returns its CPU seconds. A layer's input has a gradient too."""
    is_layer, target = x.shape[1] > 3, torch.arange(len(x)) % 10
    x.requires_grad_(is_layer)

    def step() -> float:
        began = time.process_time()
        out = model(x)
        out.backward(out.detach()) if is_layer else F.cross_entropy(out.logits, target).backward()
        return time.process_time() - began

    step()
    return step


def compare(what: str, steps: dict[str, Callable[[], float]], repeats: int) -> list[dict]:
    """Return a row for each step: its median seconds, and its median ratio to the first, measured in turn."""
    rounds = [{name: step() for name, step in steps.items()} for _ in range(repeats)]
    base = next(iter(steps))
    return [
        {
            "what": what, "of": name, "median": median(each[name] for each in rounds), "unit": "s", "baseline": base,
            "ratio": median(each[name] / each[base] for each in rounds), "n": repeats,
        }
        for name in steps
    ]  # fmt: skip


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape).to(memory_format=torch.channels_last)


def of_network(repeats: int) -> list[dict]:
    flags, rows = ["--wrn_depth", "16", "--wrn_width", "2"], []
    for batch in (32, 128):
        models = {conv: network(conv, flags) for conv in ("Sep", "ACDC_12", "OriginalACDC_12", "PermutedACDC_12")}
        models["ACDC_12, FFT, states kept"] = network("ACDC_12", flags, keeps=True)
        steps = {name: stepper(model, images(batch, 3, 32, 32)) for name, model in models.items()}
        rows += compare(f"WRN-16-2 step, batch {batch}", steps, repeats)
    return rows


def of_layer(repeats: int) -> list[dict]:
    plain = nn.Sequential(nn.Conv2d(640, 640, 3, padding=1, groups=640, bias=False), nn.Conv2d(640, 640, 1, bias=False))
    steps = {"plain Sep": stepper(plain, torch.randn(16, 640, 8, 8))}
    for conv in ("Sep", "ACDC_12"):
        made = block(conv, ConvSpec(640, 640, 3, padding=1), name="a").to(memory_format=torch.channels_last)
        steps[conv] = stepper(made, images(16, 640, 8, 8))
    return compare("640→640, k 3, batch 16, 8×8", steps, repeats)


def of_memory(repeats: int) -> list[dict]:
    convs = ("Sep", "ACDC_64")
    rows = compare(
        "WRN-28-10 step, batch 8", {c: stepper(network(c, DEEP), images(8, 3, 32, 32)) for c in convs}, repeats
    )
    peaks = {c: [peak_of(c) for _ in range(3)] for c in convs}
    least = median(peaks["Sep"])
    return rows + [
        {
            "what": "WRN-28-10 two steps, batch 8, peak", "of": c, "median": median(peaks[c]), "unit": "MB",
            "baseline": "Sep", "ratio": median(peaks[c]) / least, "n": 3,
        }
        for c in convs
    ]  # fmt: skip


def peak_of(conv: str) -> float:
    """Return the MB that a process of its own needs at most for two steps, the network included."""
    return float(subprocess.check_output([sys.executable, __file__, "peak", conv]))


def peak(conv: str) -> None:
    before = high_water()
    stepper(network(conv, DEEP), images(8, 3, 32, 32))()
    print(high_water() - before)


def high_water() -> float:
    """Return the most MB that this process has had; getrusage would tell its parent's where that had more."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1.024e-3


def of_transforms(repeats: int) -> list[dict]:
    """Nanoseconds a number of a transform, by the calibration of this machine."""
    cosine_costs.adopt(cosine_costs.measure(torch.device("cpu")))
    times = [(n, form, cosine_costs.nanoseconds(form, n)) for n in SIZES for form in FORMS]
    rows = [
        {
            "what": f"a number of a transform of {n}", "of": form, "median": time, "unit": "ns", "baseline": "fft",
            "ratio": time / cosine_costs.nanoseconds("fft", n), "n": 1,
        }
        for n, form, time in times
    ]  # fmt: skip
    cosine_costs.adopt(None)
    return rows


MEASURED = {"network": of_network, "layer": of_layer, "memory": of_memory, "transforms": of_transforms}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=list(MEASURED), metavar="|".join(MEASURED))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    rows = [row for part in given.parts for row in MEASURED[part](given.repeats)]
    show(rows, given.json, ".3g", repeats=given.repeats)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    memory.keep_freed()  # as main.py does
    peak(sys.argv[2]) if sys.argv[1:2] == ["peak"] else main()
