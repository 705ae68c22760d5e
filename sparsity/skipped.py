"""What a network with dead filters costs if they are skipped.

active_mult_adds(network, config)            # exact multiply-adds per image
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import nn

from counting.costs import costs_of
from counting.measure import count
from input.datasets import side_of
from models.widths import is_depthwise
from sparsity.constants import unchanged
from sparsity.twin import twin_of


def active_mult_adds(network: nn.Module, config: Mapping, batch: int = 128) -> float:
    """Return the exact multiply-adds per image of what images change: filters and inputs that are the same for all are skipped.

    A filter counts where it reads with a weight that is not 0 what images change, and there it counts for these inputs alone, a
    depthwise one where its channel is such. So zeros within a filter that stays count. A structured map counts whole.
    Raise RequestError where a layer equals no convolution.
    """
    side, twin = side_of(config), twin_of(network)
    whole = {layer.name.removesuffix(".block"): layer.exact_of_batch for layer in costs_of(config, batch).layers}
    same, modules, total = unchanged(twin.network, side), dict(twin.network.named_modules()), 0.0
    for layer in count(copy.deepcopy(twin.network).to("meta"), side, batch).layers:
        if layer.name in twin.whole:
            total += whole[layer.name]
        elif layer.name in same:
            total += layer.exact_of_batch * _active_share(modules[layer.name], same[layer.name])
        else:
            total += layer.exact_of_batch
    return total / batch


def _active_share(layer: nn.Conv2d | nn.Linear, unchanged_inputs: list[int]) -> float:
    """Return the share of a layer's products that depend on the image."""
    weight = (layer.weight.detach() != 0).flatten(2) if layer.weight.dim() > 2 else layer.weight.detach() != 0
    used = weight.any(2) if weight.dim() > 2 else weight  # (outputs, inputs of a group)
    if isinstance(layer, nn.Conv2d) and is_depthwise(layer):
        used = used[:, 0]
        used[unchanged_inputs] = False
        return used.float().mean().item()
    if getattr(layer, "groups", 1) == 1:
        used[:, unchanged_inputs] = False
        inputs = used.shape[1] - len(unchanged_inputs)
        return used.any(1).sum().item() * inputs / used.numel()
    return used.any(1).float().mean().item()
