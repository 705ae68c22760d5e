"""A trained network as it tests, made of plain layers: convolutions, Linear layers and batch-norms in double precision.

    twin = twin_of(network)
    twin.network, twin.whole                     # the copy, and the names of layers whose structure cannot be cut

What is replaced by layers without a structure becomes them: a variational layer the convolution that tests, the separable
pair its two convolutions (`NAME.0`, `NAME.1`). A structured map stands there as the dense convolution that it equals. Its
structure is one of all its channels (a hash, a transform, factors whose rank follows from the width), so it stays whole.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn

from layers.base import Block
from layers.dense import Pointwise
from layers.separable import Separable
from layers.spec import ConvSpec
from models.dense import convolution, put, replacements
from system.errors import RequestError


class Twin(NamedTuple):
    """The copy on the CPU, in evaluation mode, and the names of its layers that stay whole."""

    network: nn.Module
    whole: set[str]


def is_whole(module: nn.Module) -> bool:
    """Return whether a replacement has a structure that cannot be cut to fewer channels."""
    return bool(module.structured_parameters())


def is_separable_pair(module: nn.Module) -> bool:
    """Return whether a replacement is a depthwise convolution and a dense map (`Sep`), or such a map alone."""
    return isinstance(module, Separable) and isinstance(module.map, Pointwise)


@torch.no_grad()
def twin_of(network: nn.Module) -> Twin:
    """Return the twin of a network. Raise RequestError where a layer of it equals no convolution, or gates choose its channels."""
    if hasattr(network, "gates"):
        raise RequestError(
            "gates choose the channels of this network for each image: it has no plain twin that could shrink"
        )
    twin, whole = copy.deepcopy(network).cpu().eval(), set()
    for name, block in replacements(twin).items():
        if not isinstance(block, Block):
            raise RequestError(f"{name} is a {type(block).__name__}, which equals no convolution: it cannot be shrunk")
        put(twin, name, _plain(block))
        if is_whole(block):
            whole.add(name)
    return Twin(
        twin.double(), whole
    )  # after what tests read was chosen, as by a threshold, in the weights' own precision


def _plain(block: Block) -> nn.Module:
    """Return the plain layers that a block equals in evaluation."""
    spec, bias = block.spec, block.effective_bias()
    if not is_separable_pair(block):
        return convolution(spec, block.weight(), bias)
    pointwise = ConvSpec(spec.in_channels, spec.out_channels, 1)
    matrix = block.map.dense[:, :, None, None]
    if block.depthwise is None:
        return convolution(ConvSpec(*_channels(spec), 1, spec.stride, spec.padding), matrix, bias)
    depthwise = convolution(spec, block.depthwise, None, groups=spec.in_channels)
    return nn.Sequential(depthwise, convolution(pointwise, matrix, bias))


def _channels(spec: ConvSpec) -> tuple[int, int]:
    return spec.in_channels, spec.out_channels
