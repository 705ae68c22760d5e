"""Which channels a class opens: the mean of each gate over the test images of each class.

means = opened(network, data, precision)       # {"conv1.0": (classes, o)}, each from 0, never open, to 1, always
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from input.batches import Feed


@torch.no_grad()
def opened(
    network: nn.Module, data: Feed, precision: Callable[[], AbstractContextManager], classes: int
) -> dict[str, Tensor]:
    """Return for each gated convolution the share of a class's test images that open a channel (classes, o), in float64.

    The network is on the device of the data. Of a class without test images the shares are not a number.
    """
    network.eval()
    gates = network.gates.by_name()
    sums = {
        name: torch.zeros(classes, gate.out_channels, dtype=torch.float64, device=data.device)
        for name, gate in gates.items()
    }
    images = torch.zeros(classes, dtype=torch.float64, device=data.device)
    for x, y in data.batches(data.test):
        with precision():
            network(x)
        images += torch.bincount(y, minlength=classes)
        for name, gate in gates.items():
            sums[name].index_add_(0, y, gate.mask.double())
    return {name: (each / images[:, None]).cpu() for name, each in sums.items()}
