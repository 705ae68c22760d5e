"""A network with ordinary convolutions in the places of its replacements: every block as the dense kernel that it equals.

densify(network)                             # in place; outputs are the same but for rounding
replacements(network)                        # {"groups.0.0.conv1": SepHashed…, …}
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from blocks import BlockAsLinear, spec_of
from layers.base import Block, Replacement
from layers.dense import Conv
from layers.spec import ConvSpec
from system.errors import RequestError


def inner(module: nn.Module) -> nn.Module:
    """Return the replacement that stands in the place of a Linear, else the module."""
    return module.block if isinstance(module, BlockAsLinear) else module


def replacements(network: nn.Module) -> dict[str, Replacement]:
    """Return what has replaced the layers of a network by their dotted names, none that is within another."""
    found: dict[str, Replacement] = {}
    for name, module in network.named_modules():
        if isinstance(inner(module), Replacement) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = inner(module)
    return found


@torch.no_grad()
def densify(network: nn.Module, kind: type[Replacement] = Replacement) -> list[str]:
    """Replace, in place, every replacement of a kind by the ordinary convolution or Linear that it equals in evaluation.

    Hooks, as those of gates and taps, stay. Return the dotted names. Raise RequestError for a layer that equals none.
    """
    found = {name: block for name, block in replacements(network).items() if isinstance(block, kind)}
    for name, block in found.items():
        if not isinstance(block, Block):
            raise RequestError(
                f"{name} is a {type(block).__name__}, which equals no convolution: it has no dense kernel"
            )
    for name, block in found.items():
        put(network, name, convolution(block.spec, block.weight(), block.effective_bias()))
    return list(found)


def add_biases(network: nn.Module, names: str) -> None:
    """Give the named convolutions and Linear layers of a network with nothing swapped a bias, in place, where they have none.

    Of a depthwise convolution and a 1×1 that are one layer, the 1×1 gets it; a swap keeps it. Args: names: dotted, with blanks between
    them. Raise RequestError for a name of anything else.
    """
    for name in names.split():
        try:
            module = network.get_submodule(name)
        except AttributeError:
            module = None
        if isinstance(module, nn.Sequential) and spec_of(module):
            module = module[-1]
        if isinstance(module, Conv):
            module.spec = replace(module.spec, bias=True)
        if not isinstance(module, nn.Conv2d | nn.Linear | Conv):
            raise RequestError(f"the network has no convolution {name!r} that could have a bias")
        if module.bias is None:
            kernel = module.kernel if isinstance(module, Conv) else module.weight
            module.bias = nn.Parameter(kernel.new_zeros(len(kernel)))


def put(network: nn.Module, name: str, plain: nn.Module) -> None:
    """Put plain layers, which keep its hooks and its mode, in the place of a replacement wherever it stands.

    A 1×1 convolution becomes a Linear where the replacement stood for one.
    """
    old = network.get_submodule(name)
    if isinstance(old, BlockAsLinear):
        plain = linear(plain.weight[:, :, 0, 0], plain.bias)
    plain._forward_hooks.update(old._forward_hooks)
    plain._forward_pre_hooks.update(old._forward_pre_hooks)
    for place in [each for each, module in network.named_modules(remove_duplicate=False) if module is old]:
        network.set_submodule(place, plain.train(old.training))


@torch.no_grad()
def convolution(spec: ConvSpec, weight: Tensor, bias: Tensor | None, groups: int = 1) -> nn.Conv2d:
    """Return an ordinary convolution of a kernel (o, i/groups, k, k) and a bias (o,), whatever channels the spec has."""
    conv = nn.Conv2d(
        weight.shape[1] * groups, len(weight), spec.kernel_size, spec.stride, spec.padding, spec.dilation, groups, False,
        dtype=weight.dtype, device=weight.device,
    )  # fmt: skip
    conv.weight.copy_(weight)
    if bias is not None:
        conv.bias = nn.Parameter(bias.clone())
    return conv


@torch.no_grad()
def linear(matrix: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a Linear of a matrix (o, i) and a bias (o,)."""
    made = nn.Linear(matrix.shape[1], len(matrix), bias is not None, dtype=matrix.dtype, device=matrix.device)
    made.weight.copy_(matrix)
    if bias is not None:
        made.bias.copy_(bias)
    return made
