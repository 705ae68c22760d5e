"""What ACDC costs next to a separable convolution, and next to ACDC with a real FFT for each transform and all states kept.

    python benchmarks/acdc.py [network layer memory transforms] [--repeats 5] [--json FILE]

network: a training step of WRN-16-2 (forward, backward), batches of 32 and 128, ACDC_12 over Sep; layer: forward and backward
of 640→640, k = 3, 16 images of 8×8, over the modules nn.Conv2d (depthwise, 1×1) in NCHW; memory: a step of WRN-28-10 with
ACDC_64, 8 images: time over Sep, and peak memory of a process with two steps, over Sep's; transforms: nanoseconds of each form
for each number. CPU seconds of OMP_NUM_THREADS (default 1) threads, medians of ratios to the baseline, measured in turn.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import nn

from cli import options
from layers import cosine_costs
from layers.acdc import ACDC
from layers.cosine import FORMS, transform
from layers.init import materialise
from models.build import build

DEEP = ["--wrn_depth", "28", "--wrn_width", "10"]


class Dct(torch.autograd.Function):
    """Rows times C or C⁻¹ by a real FFT (Makhoul 1980)."""

    @staticmethod
    def forward(ctx, x, inverse):
        ctx.inverse = inverse
        made = transform("fft", x.shape[-1], x.dtype, x.device)
        out, columns = torch.empty_like(x.t()), x.t().contiguous()
        if inverse:
            made.synthesise(columns[made.outputs], out, out)
            return out[made.inputs.argsort()].t()
        made.analyse(columns[made.inputs], out, out)
        return out[made.outputs.argsort()].t()

    @staticmethod
    def backward(ctx, gradient):
        return Dct.apply(gradient, not ctx.inverse), None


def kept(module: ACDC, x: torch.Tensor) -> torch.Tensor:
    """`map_rows`, factor by factor, by FFT, with all states kept for the backward pass."""
    n = module.square.size
    riffle, x = torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2)]), module.square.expand(x)
    for a, d in zip(module.a, module.d):
        x = Dct.apply(Dct.apply(x * a, False)[:, riffle] * d, True)[:, riffle]
    return module.square.reduce(x)


def network(conv: str, flags: list[str], keeps: bool = False) -> nn.Module:
    made = materialise(build(options.counting(["cifar10", *flags, "--conv", conv])), 0)
    for module in made.modules():
        if keeps and isinstance(module, ACDC):
            module.map_rows = lambda x, module=module: kept(module, x)
    return made.to(memory_format=torch.channels_last)


def stepper(model: nn.Module, shape: tuple[int, ...]) -> Callable[[], float]:
    """Return what takes a step and returns its CPU seconds."""
    x = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_(len(model(torch.randn(1, *shape[1:]))) == 1)

    def step() -> float:
        began = time.process_time()
        out = model(x)
        loss = out.square().mean() if isinstance(out, torch.Tensor) else F.cross_entropy(out.logits, target)
        loss.backward()
        return time.process_time() - began

    target = torch.arange(shape[0]) % 10
    step()
    return step


def compare(what: str, steps: dict[str, Callable[[], float]], repeats: int) -> list[dict]:
    """Return a row for each step: its median seconds, and median ratio to the first, measured in turn."""
    rounds = [{name: step() for name, step in steps.items()} for _ in range(repeats)]
    base = next(iter(steps))
    return [
        {
            "what": what, "conv": name, "seconds": median(each[name] for each in rounds), "baseline": base,
            "ratio": median(each[name] / each[base] for each in rounds), "n": repeats,
        }
        for name in steps
    ]  # fmt: skip


def networks(repeats: int) -> list[dict]:
    flags, rows = ["--wrn_depth", "16", "--wrn_width", "2"], []
    for batch in (32, 128):
        shape = (batch, 3, 32, 32)
        steps = {conv: stepper(network(conv, flags), shape) for conv in ("Sep", "ACDC_12", "PermutedACDC_12")}
        steps["ACDC_12, FFT, states kept"] = stepper(network("ACDC_12", flags, keeps=True), shape)
        rows += compare(f"WRN-16-2 step, batch {batch}", steps, repeats)
    return rows


def layers(repeats: int) -> list[dict]:
    from blocks import block
    from layers.spec import ConvSpec

    plain = nn.Sequential(nn.Conv2d(640, 640, 3, padding=1, groups=640, bias=False), nn.Conv2d(640, 640, 1, bias=False))
    spec, shape = ConvSpec(640, 640, 3, padding=1), (16, 640, 8, 8)
    steps = {"plain Sep": stepper_nchw(plain, shape)}
    for conv in ("Sep", "ACDC_12"):
        made = block(conv, spec, name="a").to(memory_format=torch.channels_last)
        steps[conv] = stepper_layer(made, torch.randn(shape).to(memory_format=torch.channels_last))
    return compare("640→640, k 3, batch 16, 8×8, forward and backward", steps, repeats)


def stepper_nchw(model: nn.Module, shape: tuple[int, ...]) -> Callable[[], float]:
    return stepper_layer(model, torch.randn(shape))


def stepper_layer(model: nn.Module, x: torch.Tensor) -> Callable[[], float]:
    x.requires_grad_()

    def step() -> float:
        began = time.process_time()
        out = model(x)
        out.backward(out.detach())
        return time.process_time() - began

    step()
    return step


def memory(repeats: int) -> list[dict]:
    """Return the peak of a process for each family, less what it has before the network is built; and the time of steps."""
    shape = (8, 3, 32, 32)
    rows = compare("WRN-28-10 step, batch 8", {c: stepper(network(c, DEEP), shape) for c in ("Sep", "ACDC_64")}, repeats)
    peaks = {conv: int(subprocess.check_output([sys.executable, __file__, "peak", conv])) for conv in ("Sep", "ACDC_64")}
    rows += [
        {"what": "WRN-28-10 step, batch 8: peak MB", "conv": c, "megabytes": peak / 1e6, "baseline": "Sep", "ratio": peak / peaks["Sep"], "n": 1}
        for c, peak in peaks.items()
    ]  # fmt: skip
    return rows
