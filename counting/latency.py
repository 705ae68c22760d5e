"""How long networks take to test images on this machine, side by side.

milliseconds([dense, small], side=32, images=1)          # [1.93, 0.84], medians
"""

import time
from collections.abc import Sequence
from statistics import median

import torch
from torch import nn

MOST, LEAST, SECONDS = 30, 5, 3.0  # rounds, and the time after which there are no more


@torch.no_grad()
def milliseconds(networks: Sequence[nn.Module], side: int, images: int) -> list[float]:
    """Return the median time of a forward pass of each network for so many random images, measured in turns.

    The networks are on one device and in evaluation mode.
    """
    device = next(networks[0].parameters()).device
    x = torch.randn(images, 3, side, side, device=device)
    times: list[list[float]] = [[] for _ in networks]
    for network in networks:
        network(x)
    began = time.perf_counter()
    while len(times[0]) < LEAST or (len(times[0]) < MOST and time.perf_counter() - began < SECONDS):
        for network, measured in zip(networks, times):
            _wait(device)
            start = time.perf_counter()
            network(x)
            _wait(device)
            measured.append(time.perf_counter() - start)
    return [1000 * median(measured) for measured in times]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
