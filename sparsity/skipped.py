"""What a network with dead filters costs if they are skipped.

active_mult_adds(network, config)                # exact multiply-adds per image
of_trained(step.model, config)                   # the same of one that is being trained; None where that cannot be told
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from counting.costs import costs_of
from counting.measure import count
from input.datasets import side_of
from layers.init import materialise
from models.build import build
from models.widths import is_depthwise
from sparsity.constants import unchanged
from sparsity.twin import twin_of
from system.errors import RequestError, first_line


def active_mult_adds(network: nn.Module, config: Mapping, batch: int = 128) -> float:
    """Return the exact multiply-adds per image of what images change: filters and inputs that are the same for all are skipped.

    A filter counts where it reads with a weight that is not 0 what images change, and there it counts for these inputs alone, a
    depthwise one where its channel is such. So zeros within a filter that stays count. A structured map counts whole.
    Raise RequestError where a layer equals no convolution, its multiply-adds are not known, or the network of a library does
    not run in double precision.
    """
    side, twin = side_of(config), twin_of(network)
    whole = {layer.name.removesuffix(".block"): layer.exact_of_batch for layer in costs_of(config, batch).layers}
    try:
        same = unchanged(twin.network, side)
    except (RuntimeError, TypeError, ValueError) as error:  # as operations raise that libraries call with other numbers
        if not getattr(network, "foreign", False):
            raise
        raise RequestError(f"{config['network']} does not run in double precision: {first_line(error)}")
    modules, total = dict(twin.network.named_modules()), 0.0
    shares = {name: _active_share(modules[name], same[name]) for name in same}
    for layer in count(twin.network.to("meta"), side, batch).layers:
        if layer.input is None:
            raise RequestError(f"no formula states the multiply-adds of {layer.name}")
        is_whole = layer.name in twin.whole
        total += whole[layer.name] if is_whole else layer.exact_of_batch * shares.get(layer.name, 1.0)
    return total / batch


def of_trained(model: nn.Module, config: Mapping) -> float | None:
    """Return `active_mult_adds` of a network that is being trained, wherever it is and whatever wraps its layers.

    Nothing of it changes, and no common generator is drawn from. None where they cannot be told, as with gates, and for a --module,
    whose file would have to be run again.
    """
    if config.get("module") or config.get("gate"):
        return None
    with torch.random.fork_rng(devices=[]):
        network = materialise(build(config), config["seed"])
        network.load_state_dict(model.state_dict())
        try:
            return active_mult_adds(network, config)
        except RequestError:
            return None


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
