"""What may be pruned: the weights of convolutions and Linear layers, and the parameters of structured maps.

prunable(network, "layer3")                    # {"layer3.0.conv1": [Parameter (64, 32, 3, 3)], …}
"""

import re
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

import blocks
from layers.base import Replacement
from system.errors import RequestError, did_you_mean


def prunable(network: nn.Module, where: str = "") -> dict[str, list[nn.Parameter]]:
    """Return the prunable parameters by the dotted name of their layer, in the order of registration.

    Biases and batch-norms are none. Of a replaced convolution they are all but its `biases()`: its map's own, and those of the
    depthwise convolution beside it. Raise RequestError where the regular expression `where` is found in no layer's name.
    """
    layers: dict[str, list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for name, parameter in _weights(network):
        if parameter not in seen:
            seen.add(parameter)
            layers.setdefault(name, []).append(parameter)
    chosen = {name: parameters for name, parameters in layers.items() if re.search(where, name)}
    if not chosen:
        such = f"{did_you_mean(where, layers) or f', such as {next(iter(layers))!r}'}" if layers else ": there are none"
        raise RequestError(f"--prune_where {where!r} matches none of the layers with weights{such}")
    return chosen


def _weights(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield each weight with the name of its layer."""
    structured, outer = blocks.structured_parameters(network), None
    biases: set[nn.Parameter] = set()
    for name, module in network.named_modules():
        if outer is None or not name.startswith(f"{outer}."):
            outer = name if isinstance(module, Replacement) else None
            biases.update(_biases(module))
        for kind, parameter in module.named_parameters(recurse=False):
            if parameter in biases or isinstance(module, _NormBase):
                continue
            if outer is not None:
                yield outer, parameter
            elif parameter in structured or (kind == "weight" and isinstance(module, nn.Conv2d | nn.Linear)):
                yield name, parameter


def _biases(module: nn.Module) -> list[nn.Parameter]:
    """Return what a replacement (or a user's own convolution) names as biases, and of another module its `bias`."""
    if hasattr(module, "biases"):
        return module.biases()
    return [module.bias] if isinstance(getattr(module, "bias", None), nn.Parameter) else []
