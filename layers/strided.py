"""1×1 convolutions with a stride on a CPU: the pixels are taken first, then convolved at stride 1.

In the backward pass of a strided 1×1 convolution in channels-last, oneDNN writes past a buffer where the input has fewer channels
than a SIMD block (8 with AVX2, 16 with AVX-512): the process crashes or hangs, or the gradient is wrong. A 1×1 with stride s sees
each s-th pixel alone, so taking those pixels first gives the same result, and never reaches that code.

    conv2d(x, weight, None, stride=2)          # as torch.nn.functional.conv2d
    slice_strided(network)                     # the same for every Conv2d of a network, in place
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Pair = int | tuple[int, ...]


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1, padding: Pair | str = 0, dilation: Pair = 1, groups: int = 1
) -> Tensor:  # fmt: skip
    """torch.nn.functional.conv2d, on a CPU without its fault."""
    rows, columns = _pair(stride)
    if rows == columns == 1 or x.device.type != "cpu" or weight.shape[-2:] != (1, 1):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    down, across = (
        (0, 0) if isinstance(padding, str) else _pair(padding)
    )  # around a 1×1 both "valid" and "same" mean none
    x = F.pad(x, (across, across, down, down)) if down or across else x
    return F.conv2d(x[..., ::rows, ::columns], weight, bias, groups=groups)


def _pair(value: Pair) -> tuple[int, int]:
    """Of rows and columns. torch takes one number, also in a tuple, for both."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values[0], values[-1]


class SlicedConv2d(nn.Conv2d):
    """A Conv2d that takes its pixels first."""

    sliced = True

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode), 0
        return conv2d(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class SliceStrided(TorchFunctionMode):
    """While it lasts, every call of torch's convolutions, by whatever name, is one of `conv2d` where that can be."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            return INSTEAD.get(func, func)(*args, **kwargs or {})


def _convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, transposed: bool,
    output_padding: Pair, groups: int,
) -> Tensor:  # fmt: skip
    """torch.convolution, which is all kinds of convolutions."""
    if transposed or weight.dim() != 4:
        return torch.convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
    return conv2d(input, weight, bias, stride, padding, dilation, groups)


def _plain_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups=1):
    """conv2d with the names that torch's arguments have."""
    return conv2d(input, weight, bias, stride, padding, dilation, groups)


ATEN = torch.ops.aten
INSTEAD = {
    **dict.fromkeys((torch.conv2d, ATEN.conv2d, ATEN.conv2d.default, ATEN.conv2d.padding), _plain_conv2d),
    **dict.fromkeys((torch.convolution, ATEN.convolution, ATEN.convolution.default), _convolution),
}


@cache
def _sliced(cls: type[nn.Module]) -> type[nn.Module]:
    """The same class, whose forward pass runs under SliceStrided."""

    def forward(self, *args, **keywords):
        with SliceStrided():
            return cls.forward(self, *args, **keywords)

    own = {"forward": forward, "sliced": True, "__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), own)


def slice_strided(network: nn.Module) -> None:
    """Give every Conv2d of a network, and every module that a user wrote, the convolution of this file. Parameters, names and
    results stay."""
    for module in network.modules():
        if getattr(module, "sliced", False):
            continue
        if type(module) is nn.Conv2d:
            if module.kernel_size == (1, 1) and module.stride != (1, 1):
                module.__class__ = SlicedConv2d
        elif getattr(module, "of_user", False) or isinstance(module, nn.Conv2d):
            module.__class__ = _sliced(type(module))
