"""How long a gated network takes for one image: with its closed channels left out, and with all computed and masked.

print(skipped(network, data, precision))       # "one by one, closed channels left out: Error@1 …, 2.31 ms an image …"
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import chain, islice
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distributed.process_group import ALONE, Ranks
from gates.skip import skip
from input.batches import Feed, Split
from training.loop import evaluate

TIMED = 200  # images, at the most, that are timed
WARM = 3  # of them before the clock runs


class Skipped(NamedTuple):
    """Errors in % of a network that leaves closed channels out, and the median ms of one image: left out, and masked instead."""

    top1_error: float
    top5_error: float
    milliseconds: float
    masked_milliseconds: float
    images: int
    threads: int

    def __str__(self) -> str:
        ratio = self.milliseconds / self.masked_milliseconds
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return (
            f"one by one, closed channels left out: Error@1 {self.top1_error:.2f} Error@5 {self.top5_error:.2f}\n"
            f"{self.milliseconds:.3g} ms an image, {self.masked_milliseconds:.3g} where they are masked instead: "
            f"{ratio:.2f} of it (median of {self.images} images, by turns, {threads})"
        )


class OneByOne:
    """A feed whose batches are of one image."""

    def __init__(self, data: Feed):
        self.data, self.device = data, data.device

    def batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each image of this process's share with its label."""
        for x, y in self.data.batches(split):
            yield from zip(x.split(1), y.split(1)) if len(y) else ()


@torch.no_grad()
def skipped(
    masked: nn.Module, data: Feed, precision: Callable[[], AbstractContextManager], ranks: Ranks = ALONE
) -> Skipped:
    """Test a copy of a gated network that leaves closed channels out on all test images, and time both on the first ones."""
    skipping, images = skip(copy.deepcopy(masked), data.side), OneByOne(data)
    found = evaluate(skipping, images, data.test, precision, ranks=ranks)
    times = list(islice(_times((skipping, masked.eval()), images.batches(data.test), precision), TIMED))
    own, other = (1000 * median(column) for column in zip(*times)) if times else (math.nan, math.nan)
    return Skipped(found["top1_error"], found["top5_error"], own, other, len(times), torch.get_num_threads())


def _times(networks: tuple[nn.Module, ...], images: Iterator, precision: Callable) -> Iterator[tuple[float, ...]]:
    """Yield the seconds that each network takes for an image, by turns."""
    first = list(islice(images, WARM))
    for x, _ in first:
        for network in networks:
            _seconds(network, x, precision)
    for x, _ in chain(first, images):
        yield tuple(_seconds(network, x, precision) for network in networks)


def _seconds(network: nn.Module, x: Tensor, precision: Callable) -> float:
    began = time.perf_counter()
    with precision():
        logits = network(x).logits
    if logits.is_cuda:
        torch.cuda.synchronize(logits.device)
    return time.perf_counter() - began
