"""Layers of a gated network that compute only what is open, for one image at a time.

    choice = Choice(gate)
    conv = GatedLayer(module.forward, choice, Kernel(...), ...)
    y = conv(x)                                    # the open channels alone, in order: (1, k, H, W)

Channels are passed on compact: k of them, whose numbers the layer that reads them asks the gate for. So between two convolutions
nothing is gathered or scattered; of a kernel the rows and columns of open channels are taken, by copies of whole rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gates.gate import Gate
from gates.selection import Selection
from gates.trace import Channels
from layers.strided import conv2d

Forward = Callable[[Tensor], Tensor]


class Choice:
    """The channels that a gate has opened for the image that passes: `open` (k,), ascending; None where it opens all.

    Args: keeps_mask: whether something asks the gate for its mask too, as where channels are summed.
    """

    def __init__(self, gate: Gate, keeps_mask: bool):
        self.gate, self.count, self.keeps_mask = gate, int(gate.open), keeps_mask
        self.is_all = self.count == gate.out_channels
        self.open: Tensor | None = None
        gate.mask = gate.weight.new_ones(1, gate.out_channels, dtype=torch.bool)

    def __call__(self, pooled: Tensor) -> Tensor | None:
        """Choose by p(x) (1, i). Return what the open channels are multiplied by (k,), or None."""
        scores = self.gate.score(pooled)
        if not self.is_all:
            self.open = scores[0].argsort(descending=True, stable=True)[: self.count].sort()[0]
            if self.keeps_mask:
                self.gate.mask = torch.zeros_like(scores, dtype=torch.bool).index_fill_(1, self.open, True)
        if not self.gate.scales:
            return None
        return scores[0] if self.open is None else scores[0].index_select(0, self.open)


class Given:
    """The channels that a layer is given: the open ones alone (`compact`), or all, closed ones as zeros.

    Args: channels: as `follow` says; choices: of the gates that skip; gates: all.
    """

    def __init__(
        self,
        channels: Channels,
        compact: bool,
        choices: Mapping[str, Choice],
        gates: Mapping[str, Gate],
        device: torch.device,
    ):
        self.channels, self.width, self.compact = channels, len(channels), compact
        self.parts = _parts(channels, choices, device)
        self.selection = Selection(channels, gates) if self.parts is None else None
        shares = {name: int(gate.open) / gate.out_channels for name, gate in gates.items()}
        closed = (0.0 if not sources else prod(1 - shares[name] for name, _ in sources) for sources in channels)
        self.share = 1 - sum(closed) / self.width  # that is open, if gates choose independently of each other

    def numbers(self) -> Tensor:
        """Return the numbers of the open channels, ascending."""
        if self.selection is not None:
            return self.selection()[0].nonzero()[:, 0]
        found = [part if isinstance(part, Tensor) else part[0].open for part in self.parts]
        if len(found) == 1:
            return found[0]
        return torch.cat(
            [each if isinstance(part, Tensor) else each + part[1] for each, part in zip(found, self.parts)]
        )

    def widened(self, x: Tensor) -> Tensor:
        """Return all channels of (1, C, …)."""
        return _spread(x, self.numbers(), self.width) if self.compact else x

    def narrowed(self, x: Tensor, numbers: Tensor) -> Tensor:
        """Return the open channels alone."""
        return x if self.compact else _select(x, numbers)


def _parts(channels: Channels, choices: Mapping[str, Choice], device: torch.device) -> list | None:
    """Return channels as runs: numbers that are always open, or a choice and its first channel's number; None where they are none."""
    parts, at = [], 0
    while at < len(channels):
        if channels[at] is None:
            end = next((other for other in range(at, len(channels)) if channels[other] is not None), len(channels))
            parts.append(torch.arange(at, end, device=device))
        else:
            name, _ = next(iter(channels[at]))
            end = at + choices[name].gate.out_channels if name in choices else at
            if end == at or channels[at:end] != [frozenset([(name, number)]) for number in range(end - at)]:
                return None
            parts.append((choices[name], at))
        at = end
    return parts


def _spread(x: Tensor, numbers: Tensor, width: int) -> Tensor:
    """Return (1, width, …) with the channels of x at their numbers, else 0."""
    if _is_channels_last(x):
        flat = _flat(x)
        return _as_map(flat.new_zeros(len(flat), width).index_copy_(1, numbers, flat), x)
    return x.new_zeros(1, width, *x.shape[2:]).index_copy_(1, numbers, x)


def _select(x: Tensor, numbers: Tensor) -> Tensor:
    """Return these channels of (1, C, …)."""
    if _is_channels_last(x):
        return _as_map(_flat(x).index_select(1, numbers), x)
    return x.index_select(1, numbers)


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _flat(x: Tensor) -> Tensor:
    """Return a map (1, C, H, W) in channels-last as (H·W, C), a view."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def _as_map(flat: Tensor, like: Tensor) -> Tensor:
    """Return (H·W, C) as a map of the sides of another."""
    return flat.view(1, *like.shape[2:], -1).permute(0, 3, 1, 2)


class Kernel(NamedTuple):
    """A convolution of which rows and columns can be taken: `kernel` (o, i, k, k), after a `depthwise` one (i, 1, k, k) if any.

    Stride, padding and dilation are those of the first. Without `kernel` it is depthwise alone, and its rows are its columns.
    """

    depthwise: Tensor | None
    kernel: Tensor | None
    bias: Tensor | None
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] | str = 0
    dilation: int | tuple[int, ...] = 1

    def __call__(self, x: Tensor, outputs: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """Convolve x, which has the channels `inputs` alone, to the channels `outputs` alone; None: all."""
        depthwise, kernel, bias = self.depthwise, self.kernel, self.bias
        if outputs is not None:
            bias = None if bias is None else bias.index_select(0, outputs)
            kernel = None if kernel is None else kernel.index_select(0, outputs)
        if kernel is None:
            depthwise = depthwise if outputs is None else depthwise.index_select(0, outputs)
            return conv2d(x, depthwise, bias, self.stride, self.padding, self.dilation, len(depthwise))
        if inputs is not None:
            kernel = kernel.index_select(1, inputs)
        if depthwise is None:
            return conv2d(x, kernel, bias, self.stride, self.padding, self.dilation)
        depthwise = depthwise if inputs is None else depthwise.index_select(0, inputs)
        x = conv2d(x, depthwise, None, self.stride, self.padding, self.dilation, len(depthwise))
        return F.conv2d(x, kernel, bias)

    def in_channels_last(self) -> Kernel:
        """Return the same in channels-last: faster where no part of it is taken."""
        return (
            self
            if self.kernel is None
            else self._replace(kernel=self.kernel.contiguous(memory_format=torch.channels_last))
        )

    def then(self, scale: Tensor, shift: Tensor) -> Kernel:
        """Return the convolution with y·scale + shift (o,) behind it."""
        bias = shift if self.bias is None else self.bias * scale + shift
        scale = scale[:, None, None, None]
        if self.kernel is None:
            return self._replace(depthwise=self.depthwise * scale, bias=bias)
        return self._replace(kernel=self.kernel * scale, bias=bias)


class Reader:
    """A layer that is given closed channels: it leaves them out, or (without `kernel`) takes all."""

    def __init__(self, forward: Forward, given: Given, kernel: Kernel | None):
        self.forward, self.given, self.kernel = forward, given, kernel

    def __call__(self, x: Tensor) -> Tensor:
        """Map what the layer is given to all of its channels."""
        if self.kernel is None:
            return self.forward(self.given.widened(x))
        numbers = self.given.numbers()
        return self.kernel(self.given.narrowed(x, numbers), inputs=numbers)


class GatedLayer:
    """A gated convolution and the batch-norm behind it: it computes the open channels alone, and passes on these or (`wide`) all.

    Args: given: None where no input is closed; kernel: None where all is computed and taken from; reads, writes: whether the
    columns and the rows of the kernel are taken; norm: where it is not part of the kernel.
    """

    def __init__(
        self, forward: Forward, choice: Choice, kernel: Kernel | None, norm: Callable | None,
        given: Given | None, reads: bool, writes: bool, wide: bool,
    ):  # fmt: skip
        self.forward, self.choice, self.kernel, self.norm = forward, choice, kernel, norm
        self.given, self.reads, self.writes, self.wide = given, reads, writes, wide

    def __call__(self, x: Tensor) -> Tensor:
        """Choose, and map what the layer is given to what is open."""
        given, pooled = self.given, self.choice.gate.pooled(x)
        scale = self.choice(pooled if given is None else given.widened(pooled))
        open = self.choice.open
        y = self._convolved(x, open)
        if self.norm is not None:
            y = self.norm(y, open)
        if scale is not None:
            y = y * scale[None, :, None, None].to(y.dtype)
        return y if open is None or not self.wide else _spread(y, open, self.choice.gate.out_channels)

    def _convolved(self, x: Tensor, open: Tensor | None) -> Tensor:
        """Return the open channels of the convolution's output."""
        given, kernel = self.given, self.kernel
        if kernel is not None and self.reads:
            numbers = given.numbers()
            y = kernel(given.narrowed(x, numbers), open if self.writes else None, numbers)
        else:
            x = x if given is None else given.widened(x)
            if kernel is None:
                y = self.forward(x)
            elif kernel.kernel is None:  # depthwise: what is open is computed of the same inputs
                return kernel(x if open is None else _select(x, open), open)
            else:
                y = kernel(x, open if self.writes else None)
        return y if open is None or (self.writes and kernel is not None) else _select(y, open)


class SlicedNorm:
    """A batch-norm of some of its channels; `norm(y, numbers)`, or `norm(y)` where `given` knows the numbers.

    One that is more than a batch-norm (that of timm holds an activation) runs its own code with the slices.
    """

    def __init__(self, norm: nn.BatchNorm2d, given: Given | None = None):
        self.norm, self.given = norm, given
        self.forward = norm.forward  # before it is replaced
        self.tables = torch.stack(affine(norm)) if is_plain(norm) else None

    def __call__(self, y: Tensor, numbers: Tensor | None = None) -> Tensor:
        """Normalise (1, k, H, W), the channels of these numbers; None: all, or those that `given` knows."""
        numbers = self.given.numbers() if self.given is not None else numbers
        if self.tables is not None:
            scale, shift = (self.tables if numbers is None else self.tables.index_select(1, numbers)).to(y.dtype)
            return torch.addcmul(shift[None, :, None, None], y, scale[None, :, None, None])
        return self._own_code(y, numbers)

    def _own_code(self, y: Tensor, numbers: Tensor | None) -> Tensor:
        """Run the module's own forward pass with the numbers of these channels in its place."""
        if numbers is None:
            return self.forward(y)
        places = [place for place in (self.norm._parameters, self.norm._buffers)]
        before = [dict(place) for place in places]
        try:
            for place in places:
                for name, tensor in place.items():
                    if tensor is not None and tensor.dim() == 1:
                        place[name] = tensor.index_select(0, numbers)
            return self.forward(y)
        finally:
            for place, tensors in zip(places, before):
                place.update(tensors)


def is_plain(norm: nn.Module) -> bool:
    """Return whether a batch-norm is one and nothing else."""
    return type(norm) is nn.BatchNorm2d


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what a batch-norm multiplies by and adds (C,) when it tests: γ/√(σ²+ε) and β − μ·γ/√(σ²+ε)."""
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach()
