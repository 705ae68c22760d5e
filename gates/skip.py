"""Leave closed channels out, instead of setting them to 0: latency that falls with the density.

    skipping = skip(copy.deepcopy(network), side=32)      # for good, and to test alone
    logits = skipping(image).logits                        # (1, 3, 32, 32): one image at a time

A gated convolution with its batch-norm becomes one with the rows of its open channels and the columns of those that it is given;
whatever else reads closed channels leaves out those columns. Where copying the part of a kernel takes longer than it spares, all is
computed. Between layers open channels are passed on alone, unless something needs all of them, as a sum does.
"""

from __future__ import annotations

from collections import Counter
from math import prod

import torch
from torch import Tensor, nn

from gates.gates import Gates
from gates.skipping import Choice, GatedLayer, Given, Kernel, Reader, SlicedNorm, affine, is_plain
from gates.trace import Flow, Read, follow, is_single
from layers.base import Block
from layers.separable import Separable
from layers.strided import SlicedConv2d
from system.errors import RequestError

# What an entry of a kernel takes, in multiply-adds of the same time (measured on a CPU with the kernel not in its cache): to be read by
# the convolution, where it lies or once it was copied, and to be copied as part of a row, and of a column of a 1×1 or a larger kernel.
READ, READ_AGAIN, ROW, COLUMN = 20, 5, 24, (36, 20)
MANY = 1024  # images that share the forming of a matrix: it is formed once


@torch.no_grad()
def skip(network: nn.Module, side: int) -> nn.Module:
    """Have a network with gates, in place, leave out closed channels. Return it.

    It takes one image of `side` rows and columns at a time, for tests alone, and has no gates any more that would observe. Its taps
    hold open channels alone. Raise RequestError where it has no gates.
    """
    gates = getattr(network, "gates", None)
    if not isinstance(gates, Gates):
        raise RequestError("--gate_skip: the network has no gates, so nothing can be left out")
    network.eval()
    plan = Plan(network, gates, follow(network, side, gates.by_name()))
    for name in plan.reads:
        plan.replace(name)
    del network.gates
    if plan.copies_maps and next(network.parameters()).device.type == "cpu":
        network.to(memory_format=torch.contiguous_format)
        network.register_forward_pre_hook(_channels_first)
    return network


def _channels_first(network: nn.Module, images: tuple[Tensor]) -> tuple[Tensor]:
    return tuple(each.contiguous() for each in images)


def _same(x: Tensor) -> Tensor:
    return x


class Plan:
    """Which layers are replaced by what. `copies_maps`: some copy channels of maps, which lie together where channels are first."""

    def __init__(self, network: nn.Module, gates: Gates, flow: Flow):
        self.network, self.flow, self.gates, self.hooks = network, flow, gates.by_name(), gates.hooks
        self.copies_maps = False
        self.device = next(network.parameters()).device
        times = Counter(read.name for read in flow.reads)
        self.norms = {name: flow.behind[name].norm for name in self.gates}
        self.masked = {name for name in self.gates if not self._can_skip(name)}
        self.reads = {read.name: read for read in flow.reads if times[read.name] == 1 and read.name not in self.masked}
        self.wide = self._wide([read for read in flow.reads if read.name not in self.reads])
        skipping = {name: gate for name, gate in self.gates.items() if name not in self.masked}
        self.choices = {name: Choice(gate, name in self.wide) for name, gate in skipping.items()}
        self.opened = {name for name, choice in self.choices.items() if choice.is_all}

    def _can_skip(self, name: str) -> bool:
        """Return whether the batch-norm behind a gated convolution has statistics of its own, not those of each image."""
        norm = self.norms[name]
        return norm is None or self.network.get_submodule(norm).running_mean is not None

    def _wide(self, unreplaced: list[Read]) -> set[str]:
        """Return the gated convolutions that have to pass on all channels, the closed ones as zeros."""
        wide = self.flow.whole | self.masked
        for read in unreplaced:
            wide |= {name for sources in read.channels if sources for name, _ in sources}
        groups = self.flow.joined
        while more := {name for group in groups if group & wide for name in group} - wide:
            wide |= more
        return wide

    def replace(self, name: str) -> None:
        """Replace the forward pass of a layer where something can be left out, or it has to take open channels alone."""
        module, read = self.network.get_submodule(name), self.reads[name]
        given = self._given(read)
        if given is None or given.compact:
            self._unhook(name)
        if name in self.choices:
            self._unhook(name)
            if not (name in self.opened and not self.choices[name].gate.scales):  # or it is as if there were no gate
                return self._replace_gated(name, module, read, given)
        if given is not None and name not in self.norms.values():
            self._replace_reader(module, read, given)

    def _given(self, read: Read) -> Given | None:
        """Return what a layer is given; None where nothing of it is closed."""
        channels = [
            None if not sources or any(name in self.opened for name, _ in sources) else sources
            for sources in read.channels
        ]
        if not any(channels):
            return None
        compact = not any(name in self.wide for sources in channels if sources for name, _ in sources)
        return Given(channels, compact, self.choices, self.gates, self.device)

    def _replace_reader(self, module: nn.Module, read: Read, given: Given) -> None:
        if isinstance(module, nn.BatchNorm2d) or is_single(module):
            if given.compact:
                is_norm = isinstance(module, nn.BatchNorm2d)
                module.forward = SlicedNorm(module, given) if is_norm else Carrier(kernel_of(module), given)
            return
        kernel = self._kernel(module, read, given.share, 1.0)
        if kernel is not None and parts(kernel, prod(read.returned[2:]), given.share, 1.0) == (False, False):
            kernel = None
        if given.compact or kernel is not None:
            module.forward = Reader(module.forward, given, kernel)

    def _replace_gated(self, name: str, module: nn.Module, read: Read, given: Given | None) -> None:
        choice, norm = self.choices[name], self.norms[name] and self.network.get_submodule(self.norms[name])
        share, after = choice.count / choice.gate.out_channels, None
        kernel = self._kernel(module, read, given.share if given else 1.0, share)
        if norm is not None:
            if kernel is not None and is_plain(norm):
                kernel = kernel.then(*affine(norm))
            else:
                after = SlicedNorm(norm)
            norm.forward = _same
        reads, writes = False, False
        if kernel is not None:
            reads, writes = parts(kernel, prod(read.returned[2:]), given.share if given else 1.0, share)
        if kernel is not None and not (reads or writes):
            kernel = kernel.in_channels_last()
        wide = name in self.wide
        self.copies_maps |= not choice.is_all and (wide or is_single(module))
        module.forward = GatedLayer(module.forward, choice, kernel, after, given, reads, writes, wide)

    def _kernel(self, module: nn.Module, read: Read, inputs: float, outputs: float) -> Kernel | None:
        """Return the kernel of a convolution, unless a structured one costs less as a whole, as it is applied, than by its open part."""
        kernel = kernel_of(module)
        if kernel is None or isinstance(module, nn.Conv2d):
            return kernel
        pixels, whole = prod(read.returned[2:]), module.exact_mult_adds(*read.given[2:], MANY) / MANY
        depthwise = 0 if kernel.depthwise is None else kernel.depthwise.numel() * inputs
        return kernel if (depthwise + kernel.kernel.numel() * inputs * outputs) * pixels < whole else None

    def _unhook(self, name: str) -> None:
        for handle in self.hooks.get(name, ()):
            handle.remove()


class Carrier:
    """A depthwise convolution, not gated, that is given open channels alone and passes these on."""

    def __init__(self, kernel: Kernel, given: Given):
        self.kernel, self.given = kernel, given

    def __call__(self, x: Tensor) -> Tensor:
        """Map (1, k, H, W) to as many channels."""
        return self.kernel(x, self.given.numbers())


def parts(kernel: Kernel, pixels: int, inputs: float, outputs: float) -> tuple[bool, bool]:
    """Return whether to take the columns of a kernel's open inputs, and the rows of its open outputs, by what takes the least time.

    Args: pixels: of the output; inputs, outputs: the shares that are open.
    """
    if kernel.kernel is None:  # depthwise
        return False, outputs * (pixels + ROW + READ_AGAIN) < pixels + READ
    column = READ_AGAIN + COLUMN[kernel.kernel.shape[-1] > 1]
    times = {
        (False, False): pixels + READ,
        (True, False): READ + inputs * (pixels + column),
        (False, True): outputs * (pixels + ROW + READ_AGAIN),
        (True, True): outputs * (ROW + inputs * (pixels + column)),
    }
    allowed = [
        (reads, writes)
        for reads, writes in times
        if (inputs < 1 or not reads)
        and (outputs < 1 or not writes)
        and (reads or kernel.depthwise is None or inputs == 1)
    ]
    return min(allowed, key=times.get)


def kernel_of(module: nn.Module) -> Kernel | None:
    """Return the kernel of a convolution, of which parts can be taken; None where it has none or more than that."""
    match module:
        case nn.Conv2d() if type(module) in (nn.Conv2d, SlicedConv2d) and module.padding_mode == "zeros":
            weight = module.weight.detach().contiguous(memory_format=torch.contiguous_format)
            bias = None if module.bias is None else module.bias.detach()
            where = module.stride, module.padding, module.dilation
            if is_single(module):
                return Kernel(weight, None, bias, *where)
            return Kernel(None, weight, bias, *where) if module.groups == 1 else None
        case Separable() if module.depthwise is not None:
            spec, bias = module.spec, _detached(module.effective_bias())
            matrix = module.map.matrix().detach()[:, :, None, None].contiguous()
            return Kernel(
                module.depthwise.detach().contiguous(), matrix, bias, spec.stride, spec.padding, spec.dilation
            )
        case Block():
            spec, bias = module.spec, _detached(module.effective_bias())
            weight = module.weight().detach().contiguous(memory_format=torch.contiguous_format)
            return Kernel(None, weight, bias, spec.stride, spec.padding, spec.dilation)
    return None


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()
