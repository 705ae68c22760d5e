"""Which channels no image changes, and what they are: at the input of each layer that reads them.

    found = constants_of(twin.network, side=32)
    found["layer1.0.conv1"]                      # {3: Constant(…)}: its input 3 is the same for every image

A channel is a constant because of zeros: in the filters that write it, in a depthwise filter or a batch-norm's γ that it
passes. So its value is that of biases and shifts, whatever functions it goes through. Which they are is found by a pass of
two images through a copy with the same zeros, but random positive numbers elsewhere and without ReLUs: there whatever depends on
the image differs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from models.widths import is_depthwise

# Monotonous, but flat somewhere: in the copy they pass on what they are given.
FLAT = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Tanh, nn.ELU, nn.SELU, nn.CELU, nn.Hardshrink)
GATES = (nn.Sigmoid, nn.Hardsigmoid)  # flat too, and what they give is a factor (squeeze-and-excitation)


class Gate(nn.Module):
    """A gate that is flat nowhere and gives factors from 1 to 2: products of many stay far from 0 and from infinity."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the factor of each number (x >= 0)."""
        return 1 + x / (1 + x.abs())


class Constant(NamedTuple):
    """What a channel holds for every image: `values` at each pixel (H, W), of a Linear's input at each vector before it."""

    values: Tensor

    @property
    def is_zero(self) -> bool:
        """Whether it is 0 everywhere."""
        return not self.values.any()

    @property
    def number(self) -> float | None:
        """The number that it is everywhere; None where it differs from pixel to pixel, as behind zero padding."""
        first = self.values.flatten()[0]
        return first.item() if bool((self.values - first).abs().max() <= 1e-12 * first.abs()) else None


def is_reader(module: nn.Module) -> bool:
    """Return whether a layer mixes the channels that it reads: a Linear, or a convolution that is not depthwise."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and not is_depthwise(module))


def constants_of(network: nn.Module, side: int) -> dict[str, dict[int, Constant]]:
    """Return the constants among the inputs of each reader that runs in tests, by its name and the number of the input.

    Args: network: of plain layers, in double precision and evaluation mode.
    """
    same = {
        name: numbers for name, numbers in unchanged(network, side).items() if is_reader(network.get_submodule(name))
    }
    one, other = (_inputs(network, 4 * image - 4, same) for image in _images(side))
    found: dict[str, dict[int, Constant]] = {}
    for name, numbers in same.items():
        values = zip(numbers, one[name], other[name])
        found[name] = {number: Constant(first) for number, first, second in values if torch.equal(first, second)}
    return found


@torch.no_grad()
def unchanged(network: nn.Module, side: int) -> dict[str, list[int]]:
    """Return the inputs that no image changes of each convolution and Linear layer that runs; none of one that runs twice."""
    generator = Generator().manual_seed(0)
    pattern = copy.deepcopy(network)
    for module in pattern.modules():
        _randomise(module, generator)
    for name, module in list(pattern.named_modules()):
        if isinstance(module, FLAT + GATES):
            pattern.set_submodule(name, Gate() if isinstance(module, GATES) else nn.Identity())
    one, other = (_inputs(pattern, image) for image in _images(side))
    return {name: [] if one[name] is None else _equal(one[name], other[name]) for name in one}


def _images(side: int) -> list[Tensor]:
    generator = Generator().manual_seed(1)
    return [torch.rand(1, 3, side, side, generator=generator, dtype=torch.float64) + shift for shift in (0.5, 2.0)]


def _randomise(module: nn.Module, generator: Generator) -> None:
    """Draw what is not 0 anew, positive, and so that a layer keeps the scale of what it is given."""
    if isinstance(module, nn.BatchNorm2d):
        module.running_mean.zero_(), module.running_var.fill_(1.0)
    for parameter in module.parameters(recurse=False):
        drawn = 0.5 + torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.copy_(drawn * (parameter != 0))
        if parameter.dim() > 1:
            parameter.div_(parameter.flatten(1).sum(1).clamp(min=0.5).view(-1, *[1] * (parameter.dim() - 1)))


@torch.no_grad()
def _inputs(network: nn.Module, image: Tensor, only: Mapping[str, list[int]] | None = None) -> dict[str, Tensor | None]:
    """Return what each layer that runs is given for an image: channels first, (channels, …); None where it runs twice.

    Args: only: the channels that are kept, and of which layers.
    """
    found: dict[str, Tensor | None] = {}

    def note(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple) -> None:
            channels = (inputs[0] if isinstance(module, nn.Conv2d) else inputs[0].movedim(-1, 1))[0]
            channels = (
                channels.clone() if only is None else channels[only.get(name, [])]
            )  # something may write there later
            found[name] = channels if name not in found or only is not None else None

        return hook

    layers = [(name, each) for name, each in network.named_modules() if isinstance(each, (nn.Conv2d, nn.Linear))]
    handles = [module.register_forward_pre_hook(note(name)) for name, module in layers if only is None or name in only]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _equal(one: Tensor, other: Tensor) -> list[int]:
    """Return the numbers of the channels that are the same in both."""
    return (one == other).reshape(len(one), -1).all(1).nonzero()[:, 0].tolist()
