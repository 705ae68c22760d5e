"""The exact multiply-adds of a layer of which some input and output channels are left out.

    needed = LayerCosts(module, read)
    needed(open_inputs, open_outputs)              # (B,), of masks (B, i) and (B, o)

Whoever reads a closed channel leaves it out, and a gated convolution computes its open channels alone. A structured map does both
where its matrix is formed, as it is once a batch; applied factor by factor it counts whole. Of the two ways the cheaper counts.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from blocks import BlockAsLinear
from gates.trace import Read
from layers.base import Block, Replacement
from layers.separable import Separable


class LayerCosts:
    """What one call of a layer takes. `batch` images share the forming of a matrix."""

    def __init__(self, module: nn.Module, read: Read, batch: int = 128):
        self.module = module.block if isinstance(module, BlockAsLinear) else module
        self.given, self.returned, self.batch = read.given, read.returned, batch
        is_map = isinstance(module, (nn.Linear, BlockAsLinear))
        self.sides = (prod(self.given[1:-1]), 1) if is_map else tuple(self.given[2:])
        self.inputs = len(read.channels)
        self.outputs = self.returned[-1 if is_map else 1]
        self.pixels = prod(self.returned[1:-1]) if is_map else prod(self.returned[2:])

    @property
    def whole(self) -> float:
        """What it takes where nothing is closed."""
        if isinstance(self.module, Replacement):
            return self.module.exact_mult_adds(*self.sides, self.batch) / self.batch
        return self.module.weight.numel() * self.pixels

    def __call__(self, inputs: Tensor, outputs: Tensor | None) -> Tensor:
        """Return the multiply-adds (B,), as float64, of masks of the open inputs (B, i) and outputs (B, o); None: all are computed."""
        if outputs is None:
            outputs = torch.ones_like(inputs[:, :1]).expand(-1, self.outputs)
        inputs, outputs = inputs.double(), outputs.double()
        match self.module:
            case nn.Conv2d() as conv:
                groups = conv.groups
                read, written = (each.unflatten(1, (groups, -1)).sum(2) for each in (inputs, outputs))
                return (read * written).sum(1) * (prod(conv.kernel_size) * self.pixels)
            case nn.Linear():
                return inputs.sum(1) * outputs.sum(1) * self.pixels
            case Block() as block:
                skipped = torch.minimum(self._by_matrix(block, inputs, outputs), self._by_factors(block, inputs))
                none_closed = inputs.all(1) & outputs.all(1)
                return torch.where(none_closed, self.whole, skipped)
            case Replacement():
                return torch.full_like(inputs[:, 0], self.whole)
        raise TypeError(f"no rule for {type(self.module).__name__}")

    def _by_matrix(self, block: Block, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return them where the block's matrix or kernel is formed once a batch and its open rows and columns are applied."""
        i, o = inputs.sum(1), outputs.sum(1)
        forming, kernel = block.weight_mult_adds() / self.batch, block.spec.kernel_size**2
        if isinstance(block, Separable):
            depthwise = 0 if block.depthwise is None else kernel
            return forming + (depthwise * i + i * o) * self.pixels
        return forming + kernel * i * o * self.pixels

    def _by_factors(self, block: Block, inputs: Tensor) -> Tensor:
        """Return them where only a depthwise convolution before the map leaves closed channels out."""
        closed = inputs.shape[1] - inputs.sum(1)
        if not isinstance(block, Separable) or block.depthwise is None:
            return torch.full_like(closed, self.whole)
        return self.whole - closed * (block.spec.kernel_size**2 * self.pixels)
