"""How long networks take to test images on this machine, side by side.

    timings([dense, small], side=32, images=1)               # [Timing(1.93, 0.05), Timing(0.84, 0.02)], ms, in turns
    latencies([network], 32, [1, 128], partial(to_device, device=device))     # as built and dense, by the keys of a record

The clock, which waits for a GPU, and the statistics are those of torch.utils.benchmark. Its Timer measures one thing after
another; here each round times every network once, so that whatever else the machine does meets them all alike.
"""

import copy
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import NamedTuple

import torch
from torch import nn

from layers.base import Block
from layers.cosine_costs import processor
from models.dense import densify, replacements
from system.errors import RequestError

MOST, LEAST, SECONDS = 200, 5, 2.0  # rounds, and the time for each network after which there are no more
WARM = 2  # calls before the clock runs: the first forms the matrices that are kept
ON = "latency_on"  # key: where the times of a record were measured
TIME = re.compile(r"latency_ms_([0-9]+)")  # the keys of a network's own times, by the number of images


class Timing(NamedTuple):
    """The median and the spread, which is the interquartile range, of a forward pass, in milliseconds."""

    median: float
    spread: float


def _benchmark() -> ModuleType:
    """Return torch.utils.benchmark, whose import loads what compiles extensions, and warns of a CUDA that nothing here needs."""
    log = logging.getLogger("torch.utils.cpp_extension")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        import torch.utils.benchmark as benchmark
    finally:
        log.setLevel(before)
    return benchmark


@torch.inference_mode()
def timings(
    networks: Sequence[nn.Module],
    side: int,
    images: int,
    precision: Callable[[], AbstractContextManager] = nullcontext,
) -> list[Timing]:
    """Return how long a forward pass of each network takes for so many random RGB images, measured in turns.

    The networks are on one device and in evaluation mode; the images lie there channels-last, as those of a test.
    """
    benchmark, device = _benchmark(), next(networks[0].parameters()).device
    x = torch.randn(images, 3, side, side, device=device).to(memory_format=torch.channels_last)
    times: list[list[float]] = [[] for _ in networks]
    with precision():
        for network in networks:
            for _ in range(WARM):
                network(x)
        began, longest = benchmark.timer(), SECONDS * len(networks)
        while len(times[0]) < LEAST or (len(times[0]) < MOST and benchmark.timer() - began < longest):
            for network, measured in zip(networks, times):
                start = benchmark.timer()
                network(x)
                measured.append(benchmark.timer() - start)
    spec = benchmark.TaskSpec("network(x)", "", num_threads=torch.get_num_threads())
    found = [benchmark.Measurement(1, measured, spec) for measured in times]
    return [Timing(1000 * each.median, 1000 * each.iqr) for each in found]


def latencies(
    networks: Sequence[nn.Module],
    side: int,
    sizes: Sequence[int],
    ready: Callable[[nn.Module], nn.Module],
    precision: Callable[[], AbstractContextManager] = nullcontext,
) -> list[dict]:
    """Return the times of each network, as built and dense, for batches of these sizes: all in turns, a size at a time.

    Args: networks: on the CPU, which are left as they are; ready: puts a network on its device, as before a test;
    precision: the context of a forward pass. The keys are `latency_ms_128` and `latency_spread_ms_128`,
    `latency_dense_ms_128` and `latency_dense_spread_ms_128` (None where a layer equals no convolution), and `latency_on`.
    """
    built = [ready(copy.deepcopy(network)).eval() for network in networks]
    dense = [_dense(of, own, ready) for of, own in zip(networks, built)]
    timed = list(dict.fromkeys(each for each in (*built, *dense) if each is not None))
    found: list[dict] = [{} for _ in networks]
    for size in sizes:
        times = dict(zip(timed, timings(timed, side, size, precision)))
        for row, own, other in zip(found, built, dense):
            for prefix, timing in (("latency", times[own]), ("latency_dense", times.get(other, Timing(None, None)))):
                row |= {f"{prefix}_ms_{size}": timing.median, f"{prefix}_spread_ms_{size}": timing.spread}
    where = machine(next(built[0].parameters()).device)
    return [{**row, ON: where} for row in found]


def _dense(network: nn.Module, built: nn.Module, ready: Callable[[nn.Module], nn.Module]) -> nn.Module | None:
    """Return the dense form of a network: `built` where nothing is replaced, None where a layer equals no convolution."""
    if any(getattr(module, "of_user", False) and not isinstance(module, Block) for module in network.modules()):
        return None
    if not replacements(network):
        return built
    network = copy.deepcopy(network)
    try:
        densify(network)
    except RequestError:
        return None
    return ready(network).eval()


def machine(device: torch.device) -> str:
    """Return on what is measured: the GPU, or the processor and torch's threads, and torch's version."""
    threads = torch.get_num_threads()
    own = f"{processor()}, {threads} thread{'s' * (threads > 1)}"
    return f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else own}, torch {torch.__version__}"


def sizes_of(row: Mapping) -> list[int]:
    """Return the batch sizes for which a record says how long its network takes, rising."""
    return sorted(int(found[1]) for key in row if (found := TIME.fullmatch(key)))


def text(row: Mapping) -> list[str]:
    """Return the times of a record, a line for each batch size, and where they were measured; nothing without times."""
    lines = []
    for size in sizes_of(row):
        own, dense = (_shown(row, prefix, size) for prefix in ("latency", "latency_dense"))
        lines.append(f"Latency, {size:,} image{'s' * (size > 1)}: {own}; dense {dense}")
    about = f"Measured on {row.get(ON)}: medians, and in brackets the interquartile range"
    masked = "; closed channels are computed and masked" if row.get("gates") or row.get("gate") else ""
    return [*lines, about + masked] if lines else []


def _shown(row: Mapping, prefix: str, size: int) -> str:
    median, spread = row.get(f"{prefix}_ms_{size}"), row.get(f"{prefix}_spread_ms_{size}")
    return "–" if median is None else f"{_rounded(median)} ms ({_rounded(spread)})"


def _rounded(milliseconds: float) -> str:
    return f"{milliseconds:.3g}" if milliseconds < 100 else f"{milliseconds:,.0f}"
