"""The widths of a shrunk network: of which layers it has fewer channels than the network that its flags name.

    parse("conv1:12x bn1:12")                              # {"conv1": (12, None), "bn1": (12,)}: its inputs are all there
    narrow(network, "conv1:12x bn1:12")                    # in place

A configuration keeps them as a text, under `widths`. Imports no torch before a network is narrowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from system.errors import RequestError

if TYPE_CHECKING:
    from torch import nn

Widths = Mapping[str, tuple[int | None, ...]]


def parse(text: str) -> dict[str, tuple[int | None, ...]]:
    """Return (outputs, inputs) of convolutions and Linear layers and (channels,) of batch-norms by their dotted names.

    None stands for all of them.
    """
    layers = (each.rpartition(":") for each in text.split())
    return {name: tuple(int(each) if each else None for each in numbers.split("x")) for name, _, numbers in layers}


def text(widths: Widths) -> str:
    """Return the text of which `parse` makes these widths."""
    return " ".join(f"{name}:{'x'.join(str(each or '') for each in numbers)}" for name, numbers in widths.items())


def narrow(network: nn.Module, widths: str) -> None:
    """Leave so many channels, the first ones, of the layers of a network, in place and on its device.

    A depthwise convolution has a group for each channel that is left. Raise RequestError where a layer is not there, is none that
    has a width, or is narrower itself.
    """
    for name, numbers in parse(widths).items():
        try:
            module = network.get_submodule(name)
        except AttributeError:
            raise RequestError(f"the widths of a shrunk network have a layer {name!r}, which this network has not")
        _narrow(name, module, numbers)


def width_of(module: nn.Module) -> tuple[int, ...] | None:
    """Return (outputs, inputs), or (channels,), of a layer that can be narrowed, else None."""
    from torch import nn

    match module:
        case nn.Conv2d():
            return module.out_channels, module.in_channels
        case nn.Linear():
            return module.out_features, module.in_features
        case nn.BatchNorm2d():
            return (module.num_features,)
    return None


def is_depthwise(conv: nn.Module) -> bool:
    """Return whether a convolution has one filter for each input channel."""
    return 1 < conv.groups == conv.in_channels == conv.out_channels


def _narrow(name: str, module: nn.Module, asked: tuple[int | None, ...]) -> None:

    now = width_of(module)
    numbers = tuple(old if new is None else new for new, old in zip(asked, now or ()))
    if now is None or len(now) != len(asked) or not all(0 < new <= old for new, old in zip(numbers, now)):
        shown = ["×".join(map(str, each or ("no width",))) for each in (asked, now)]
        raise RequestError(f"the layer {name!r} of a shrunk network has {shown[0]}, that of this network {shown[1]}")
    keep(module, *map(range, numbers))


def keep(module: nn.Module, outputs: Sequence[int], inputs: Sequence[int] = ()) -> None:
    """Leave these channels of a layer that has a width, in place. A batch-norm and a depthwise convolution have no inputs of their own."""
    from torch import nn

    reads = not isinstance(module, nn.BatchNorm2d) and not (isinstance(module, nn.Conv2d) and is_depthwise(module))
    for kind, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        left = tensor.detach()
        left = left[list(outputs)] if left.dim() else left.clone()
        left = left[:, list(inputs)] if left.dim() > 1 and reads else left
        if isinstance(tensor, nn.Parameter):
            setattr(module, kind, nn.Parameter(left, tensor.requires_grad))
        else:
            module.register_buffer(kind, left)
    match module:
        case nn.Conv2d():
            module.groups = module.groups if reads else len(outputs)
            module.out_channels, module.in_channels = len(outputs), len(inputs if reads else outputs)
        case nn.Linear():
            module.out_features, module.in_features = len(outputs), len(inputs)
        case nn.BatchNorm2d():
            module.num_features = len(outputs)
