"""Layers cut to the channels that stay, and what is left of a trained network put into the network that is built so small.

cut(twin.network, plan.removed)                        # in place
widths = widths_of(twin.network, plain)                # for the configuration of the small one
load(small, twin.network, trained)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from layers.dense import Conv
from models.dense import inner, replacements
from models.widths import is_depthwise, keep, width_of
from sparsity.channels import Channel
from sparsity.twin import is_separable_pair, is_whole


@torch.no_grad()
def cut(network: nn.Module, channels: Iterable[Channel]) -> None:
    """Take channels out of the plain layers that write, pass and read them, in place."""
    outputs: dict[str, set[int]] = defaultdict(set)
    inputs: dict[str, set[int]] = defaultdict(set)
    for channel in channels:
        for name, number in (*channel.writers, *channel.passed):
            outputs[name].add(number)
        for name, number in channel.readers:
            inputs[name].add(number)
    for name in outputs.keys() | inputs.keys():
        _cut(network.get_submodule(name), outputs[name], inputs[name])


def _cut(module: nn.Module, outputs: set[int], inputs: set[int]) -> None:
    size = width_of(module)
    stay = [[number for number in range(of) if number not in gone] for of, gone in zip(size, (outputs, inputs))]
    keep(module, *stay)


def widths_of(network: nn.Module, plain: nn.Module) -> dict[str, tuple[int | None, ...]]:
    """Return in which widths a network with nothing swapped, `plain`, differs from a cut one, for models/widths.py."""
    modules, found = dict(network.named_modules()), {}
    for name, module in plain.named_modules():
        size = width_of(module)
        if size is not None:
            there = _width_in(modules, name, module)
            if any(new is not None and new != old for new, old in zip(there, size)):
                found[name] = tuple(None if new == old else new for new, old in zip(there, size))
    return found


def _width_in(modules: dict[str, nn.Module], name: str, module: nn.Module) -> tuple[int, ...]:
    """Return the width of a layer of the network with nothing swapped in another one, where others may stand in its place."""
    there = modules.get(name)
    if there is not None and (size := width_of(there)) is not None:
        return size
    if isinstance(there, nn.Sequential):  # a separable pair in place of a convolution
        return width_of(there[1])[0], width_of(there[0])[1]
    outputs, inputs = width_of(modules[name.rpartition(".")[0]])  # a convolution in place of a separable pair
    return (inputs, inputs) if is_depthwise(module) else (outputs, inputs)


@torch.no_grad()
def load(small: nn.Module, cut_twin: nn.Module, trained: nn.Module) -> None:
    """Give the small network the weights of the cut twin, and layers that stay whole those of the trained network."""
    theirs, whole, state = cut_twin.state_dict(), trained.state_dict(), small.state_dict()
    for name, block in replacements(small).items():
        place = f"{name}.block" if inner(small.get_submodule(name)) is not small.get_submodule(name) else name
        for key in block.state_dict():
            theirs[f"{place}.{key}"] = whole[f"{place}.{key}"] if is_whole(block) else theirs[_source(block, name, key)]
    for key, tensor in state.items():
        found = whole[key] if key == "substitution_seed" else theirs[key]
        state[key] = found.reshape(tensor.shape).to(tensor.dtype)
    small.load_state_dict(state)


def _source(block: nn.Module, name: str, key: str) -> str:
    """Return the name in the twin of a tensor of a block that is not whole."""
    if isinstance(block, Conv):
        return f"{name}.{'weight' if key == 'kernel' else key}"
    pair = is_separable_pair(block) and block.depthwise is not None
    last = f"{name}.1" if pair else name
    return f"{name}.0.weight" if key == "depthwise" else f"{last}.{'bias' if key == 'bias' else 'weight'}"


def is_empty_filter(module: nn.Module) -> Tensor:
    """Return which filters (or rows of a Linear) have only weights of 0, (outputs,) bool."""
    return (module.weight == 0).flatten(1).all(1)
