"""1×1 convolutions with a stride on a CPU: the pixels are selected first, then convolved at stride 1.

In the backward pass of a strided 1×1 convolution in channels-last, oneDNN writes past a buffer where the input has
fewer channels than a SIMD block (8 with AVX2, 16 with AVX-512): the process crashes or hangs, or the gradient is wrong.
A 1×1 with stride s sees each s-th pixel alone. So selecting those pixels first gives the same result and never reaches
that code.

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
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1, padding: Pair | str = 0,
    dilation: Pair = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Convolve as torch.nn.functional.conv2d does, on a CPU without its fault."""
    rows, columns = _pair(stride)
    if rows == columns == 1 or x.device.type != "cpu" or weight.shape[-2:] != (1, 1):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    down, across = (0, 0) if isinstance(padding, str) else _pair(padding)  # of a 1×1, "valid" and "same" mean none
    x = F.pad(x, (across, across, down, down)) if down or across else x
    return F.conv2d(x[..., ::rows, ::columns], weight, bias, groups=groups)


def _pair(value: Pair) -> tuple[int, int]:
    """Return (rows, columns). torch takes one number, also in a tuple, for both."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values[0], values[-1]


class SlicedConv2d(nn.Conv2d):
    """A Conv2d that selects its pixels first."""

    sliced = True

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode), 0
        return conv2d(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class SliceStrided(TorchFunctionMode):
    """A context in which calls of torch's convolutions, by any name, become calls of `conv2d` where they can."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            return INSTEAD.get(func, func)(*args, **kwargs or {})


CONVOLUTION = "input weight bias stride padding dilation transposed output_padding groups".split()  # its arguments


def _convolution(*arguments, **keywords) -> Tensor:
    """Convolve as torch.convolution does, which is all kinds of convolutions."""
    given = dict(zip(CONVOLUTION, arguments)) | keywords
    if given.pop("transposed") or given["weight"].dim() != 4:
        return torch.convolution(*arguments, **keywords)
    del given["output_padding"]
    return _plain_conv2d(**given)


def _plain_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups=1):
    """Call `conv2d` by the names of torch's arguments."""
    return conv2d(input, weight, bias, stride, padding, dilation, groups)


ATEN = torch.ops.aten
INSTEAD = {
    **dict.fromkeys((torch.conv2d, ATEN.conv2d, ATEN.conv2d.default, ATEN.conv2d.padding), _plain_conv2d),
    **dict.fromkeys((torch.convolution, ATEN.convolution, ATEN.convolution.default), _convolution),
}


@cache
def _sliced(cls: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass whose forward pass runs under SliceStrided."""

    def forward(self, *args, **keywords):
        with SliceStrided():
            return cls.forward(self, *args, **keywords)

    own = {"forward": forward, "sliced": True, "__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), own)


def slice_strided(network: nn.Module) -> None:
    """Let every Conv2d of a network, and every module that a user wrote, convolve as this file does.

    Works in place. Parameters, names and results stay.
    """
    for module in network.modules():
        if getattr(module, "sliced", False):
            continue
        if type(module) is nn.Conv2d:
            if module.kernel_size == (1, 1) and module.stride != (1, 1):
                module.__class__ = SlicedConv2d
        elif getattr(module, "of_user", False) or isinstance(module, nn.Conv2d):
            module.__class__ = _sliced(type(module))
