"""How long cosine transforms and 1×1 convolutions take here, and what follows for ACDC: which form, which way.

Choices follow from a few speeds alone. A run takes those of its machine, which are measured once, and keeps them in its
checkpoints: so a run that is resumed chooses as before, whatever was measured since. Elsewhere DEFAULT serves. Counting
(count.py) uses none of this: its figures are the same everywhere.

    adopt(of_machine(torch.device("cpu")))       # what main.py does for a run with ACDC
    form(640)                                    # "staged"
"""

import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from layers.cosine import FORMS, split, transform
from system.errors import MachineFault
from system.files import variable, write_atomically

Speeds = dict[str, list[float]]  # GFLOP/s of each form, at each of SIZES, and of a 1×1 convolution

SIZES = (32, 128, 640)
CONVOLUTION = "convolution"
# One core with AVX2: 2.6 GHz, torch 2.14.
DEFAULT: Speeds = {
    "direct": [13.0, 50.0, 65.0],
    "staged": [3.0, 22.0, 38.0],
    "fft": [0.5, 4.0, 6.0],
    CONVOLUTION: [60.0],
}
VERSION = 1  # of the file
PASSES = 3  # of a training step: forward, forward again in the backward pass, backward
SECONDS, COLUMNS = 0.03, 128  # of a measurement

_current = DEFAULT
_chosen: dict[int, str] = {}  # a form for each size; a compiler warns of functools' caches


def current() -> Speeds:
    """Return the speeds that choices follow from."""
    return _current


def adopt(speeds: Speeds | None) -> None:
    """Choose by these speeds from now on; by DEFAULT where there are none. Call it before anything has been chosen."""
    global _current
    _current = speeds or DEFAULT
    _chosen.clear()


def mult_adds(form: str, n: int) -> float:
    """Return the multiply-adds of a transform of size N for each of its numbers; infinity where the form has no such size."""
    if form == "direct":
        return n
    if form == "fft":
        return 2.5 * math.log2(max(n, 2))
    stages = split(n)
    return stages[0] + 2 * stages[1] if stages else math.inf


def nanoseconds(form: str, n: int) -> float:
    """Return the time of a transform of size N for each of its numbers. Between SIZES, speeds are interpolated over log N."""
    speeds, place = _current[form], math.log(n)
    places = [math.log(size) for size in SIZES]
    above = next((at for at in range(1, len(SIZES) - 1) if place <= places[at]), len(SIZES) - 1)
    share = (place - places[above - 1]) / (places[above] - places[above - 1])
    share = min(max(share, 0.0), 1.0)
    return 2 * mult_adds(form, n) / (speeds[above - 1] ** (1 - share) * speeds[above] ** share)


def form(n: int) -> str:
    """Return the fastest form of a transform of size N."""
    if n not in _chosen:
        _chosen[n] = min(FORMS, key=lambda each: nanoseconds(each, n))
    return _chosen[n]


def applies_factors(n: int, transforms: int, inputs: int, outputs: int, pixels: int) -> bool:
    """Return whether a training step is faster by transforming all pixels than by transforming the unit vectors of `inputs`.

    The latter also convolves the pixels. Args: transforms: of size N, in the product; outputs: channels.
    """
    a_column = PASSES * transforms * n * nanoseconds(form(n), n)
    convolved = PASSES * 2 * inputs * outputs * pixels / _current[CONVOLUTION][0]
    return a_column * pixels <= a_column * inputs + convolved


def of_machine(device: torch.device) -> Speeds:
    """Return the speeds of a device for this number of threads: measured once, then read from a file.

    It lies under $XDG_CACHE_HOME. Where it cannot be written, nothing is measured and DEFAULT is returned, which is the same at
    every call.
    """
    path, key = _file(), _key(device)
    known = _read(path)
    if key in known:
        return known[key]
    try:
        write_atomically(path, lambda file: file.write(_encoded(known)))  # or measuring would be in vain
        known[key] = measure(device)
        write_atomically(path, lambda file: file.write(_encoded(known)))
    except (MachineFault, OSError):
        return DEFAULT
    return known[key]


def _file() -> Path:
    return Path(variable("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "swapconv" / "cosine_speeds.json"


def _key(device: torch.device) -> str:
    """Return what speeds depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads, {device.type}"


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _read(path: Path) -> dict[str, Speeds]:
    """Return what a file holds, without what is damaged."""
    try:
        contents = json.loads(path.read_bytes())
        found = contents["speeds"] if contents["version"] == VERSION else {}
        return {str(key): speeds for key, speeds in found.items() if is_valid(speeds)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _encoded(known: dict[str, Speeds]) -> bytes:
    return json.dumps({"version": VERSION, "speeds": known}, indent=1).encode()


def is_valid(speeds: object) -> bool:
    """Return whether these are speeds: positive, finite, as many as there must be."""
    lengths = {**dict.fromkeys(FORMS, len(SIZES)), CONVOLUTION: 1}
    return (
        isinstance(speeds, dict)
        and {name: len(values) for name, values in speeds.items() if isinstance(values, list)} == lengths
        and all(type(value) is float and 0 < value < math.inf for values in speeds.values() for value in values)
    )


@torch.no_grad()
def measure(device: torch.device) -> Speeds:
    """Measure the speeds of a device, in half a second. They are rounded to two digits."""
    speeds = {each: [_rounded(_speed(each, n, device)) for n in SIZES] for each in FORMS}
    n, pixels = SIZES[-1], 8 * COLUMNS
    x, kernel = torch.ones(1, n, 1, pixels, device=device), torch.ones(n, n, 1, 1, device=device)
    x = x.to(memory_format=torch.channels_last)
    seconds = _fastest(lambda: torch.nn.functional.conv2d(x, kernel), device)
    return speeds | {CONVOLUTION: [_rounded(2 * n * n * pixels / seconds / 1e9)]}


def _speed(form: str, n: int, device: torch.device) -> float:
    """Return the GFLOP/s of a transform and its inverse, with the permutations and diagonals of a factor."""
    cosine, columns = transform(form, n, torch.float32, device), min(n, COLUMNS)
    x, y, spare = (torch.ones(n, columns, device=device) for _ in range(3))
    order, diagonal = torch.arange(n, device=device).flip(0), torch.ones(n, 1, device=device)
    both = cosine.bound(y, x, spare)

    def factor() -> None:
        for apply in both:
            torch.mul(x, diagonal, out=y)
            apply()
            torch.index_select(x, 0, order, out=y)

    return 2 * 2 * mult_adds(form, n) * n * columns / _fastest(factor, device) / 1e9


def _fastest(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest call in SECONDS, after two that warm up: other processes disturb some calls, not all."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    run(), run(), wait()
    least, end = math.inf, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        run(), wait()
        least = min(least, time.perf_counter() - began)
    return least


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")
