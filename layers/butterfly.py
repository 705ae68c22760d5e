"""Butterfly: a product of log₂N sparse factors, as in the fast Fourier transform.

Dao, Gu, Eichhorn, Rudra & Ré 2019, Learning fast algorithms for linear transforms using butterfly factorizations
(1903.05895), section 3: N = 2^⌈log₂ max(i, o)⌉, inputs are padded with zeros, the first o outputs are taken. Factor f, the
f-th that is applied, is block-diagonal up to an order of channels: 2×2 blocks join channels 2^f apart. That is 2·N·log₂N
parameters, drawn as rotations by uniform angles, so that the product is orthogonal before it is scaled.

There is one path from an input to an output: each entry of the matrix, or of a product of neighbouring factors, is a product
of single numbers. So the matrix takes no matrix products to form. Nor does the map in two halves (`GroupedPair`), the first
factors together and the last ones together, block-diagonal with blocks of about √N: they multiply more than the factors one by
one (33 thousand times a pixel at 640 channels, not 20), but in products that a processor is made for. Blocks that meet only
zeros of the padding are left out. `exact_mult_adds` are those of the halves, `mult_adds` those of the factors one by one.

    Butterfly(ConvSpec(64, 128, 1)).matrix().shape         # (128, 64), of 2·128·7 parameters
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from layers.grouped import GroupedPair
from layers.scale import equalise
from layers.spec import ConvSpec


class Butterfly(GroupedPair):
    """Parameters (log₂N, N/2, 2, 2): of each factor the blocks in the order of their first channels, (output, input)."""

    factor, forms_halves = "factors", True

    def __init__(self, spec: ConvSpec, key: int = 0):
        super().__init__(spec)
        i, o = self.in_channels, self.out_channels
        if max(i, o) < 2:
            raise ValueError("1 channel in and out, Butterfly needs 2 or more on one side")
        self.levels = (max(i, o) - 1).bit_length()
        self.size = 2**self.levels
        self.split = min(range(self.levels + 1), key=lambda split: self._halves_a_pixel(1 << split))
        self.factors = nn.Parameter(torch.empty(self.levels, self.size // 2, 2, 2))

    def _blocks(self, side: int) -> tuple[int, int]:
        """Return over how many blocks of `side` channels the inputs and the outputs extend."""
        return -(-self.in_channels // side), -(-self.out_channels // side)

    def _halves_a_pixel(self, side: int) -> int:
        inputs, outputs = self._blocks(side)
        return inputs * side * side + side * outputs * inputs

    def _product(self, factors: Sequence[Tensor], low: int) -> Tensor:
        """Return neighbouring factors multiplied: (high, low, s, s) with s = 2^len(factors).

        Of a channel, the highest bits choose the block in the first dimension, as many of the lowest as 2^f = `low` has for
        the f-th factor those in the second.
        """
        if not factors:
            return self.factors.new_ones(self.size // low, low, 1, 1)
        product = factors[0].view(-1, low, 2, 2)
        for level, factor in enumerate(factors[1:], 1):
            side = 1 << level
            factor = factor.view(-1, side, low, 2, 2)  # (high, middle, low, output, input)
            factor = factor.permute(0, 2, 3, 1, 4).unsqueeze(-1)  # (high, low, output, middle, input, 1)
            before = product.view(-1, 2, low, 1, side, side).permute(
                0, 2, 3, 4, 1, 5
            )  # (high, low, 1, middle, input, ·)
            product = (factor * before).reshape(-1, low, 2 * side, 2 * side)
        return product

    def halves(self) -> tuple[Tensor, Tensor]:
        """Return the first factors multiplied, (A, h, h), and the last ones, (h, A′, A).

        h = 2^split is the side of a block; A blocks have inputs and A′ have outputs.
        """
        (inputs, outputs), factors = self._blocks(1 << self.split), self.factors.unbind()
        first, second = self._product(factors[: self.split], 1), self._product(factors[self.split :], 1 << self.split)
        return first[:inputs, 0], second[0, :, :outputs, :inputs]

    def middle(self) -> tuple[int, int]:
        """Return h and 1: blocks and places within them change roles."""
        return 1 << self.split, 1

    def map_columns(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Map columns (i, P) to (o, P)."""
        missing = len(first) * first.shape[2] - len(x)
        return super().map_columns(F.pad(x, (0, 0, 0, missing)) if missing else x, first, second)

    def joined(self, x: Tensor) -> Tensor:
        """Return (h, A′, P) as (o, P)."""
        x = x.transpose(0, 1).flatten(0, 1)
        return x if len(x) == self.out_channels else x[: self.out_channels]

    def matrix(self) -> Tensor:
        """Return the matrix (o, i): entry ((a′, c′), (a, c)) is second[c′, a′, a]·first[a, c′, c]."""
        first, second = self.halves()
        entries = second.transpose(0, 1)[..., None] * first.transpose(0, 1)  # (A′, h, A, h)
        return entries.flatten(2).flatten(0, 1)[: self.out_channels, : self.in_channels]

    def factors_a_pixel(self) -> int:
        """Return those of the halves, A·h² + h·A′·A."""
        return self._halves_a_pixel(1 << self.split)

    def published_a_pixel(self) -> int:
        """Return 2·N·log₂N."""
        return 2 * self.size * self.levels

    def moved_a_pixel(self) -> int:
        """Return the channels before, between and behind the halves, which are put in order once more."""
        inputs, outputs = (blocks << self.split for blocks in self._blocks(1 << self.split))
        return 2 * inputs + 2 * outputs

    def parameter_count(self) -> int:
        """Return 2·N·log₂N."""
        return 2 * self.size * self.levels

    @property
    def degree(self) -> int:
        """The number of factors."""
        return self.levels

    def draw(self, generator: Generator | None = None) -> None:
        """Draw rotations by uniform angles."""
        angles = torch.empty(self.levels, self.size // 2, dtype=self.factors.dtype, device="cpu")
        angles.uniform_(0, 2 * math.pi, generator=generator)
        cosine, sine = angles.cos(), angles.sin()
        rotations = torch.stack([cosine, -sine, sine, cosine], -1).view(self.factors.shape)
        self.factors.copy_(rotations)

    def balance(self) -> None:
        """Give all factors the same root mean square."""
        equalise(list(self.factors.unbind()))

    @torch.no_grad()
    def approximate(self, matrix: Tensor) -> bool:
        """Split off one factor after the other, the last first: Le, Zheng, Riccietti & Gribonval 2022 (2110.01230).

        A product of s channels is cut by the highest bit of its inputs and the other bits of its outputs; each part,
        2 × s/2, is of rank 1: a column of a 2×2 block times a row of the product of the factors before. A matrix that
        is a butterfly is found to rounding. Of others this is a start.
        """
        rest = matrix.double().new_zeros(1, self.size, self.size)
        rest[0, : self.out_channels, : self.in_channels] = matrix
        for level in reversed(range(self.levels)):
            side = 1 << level
            parts = rest.view(-1, 2, side, 2, side).permute(0, 2, 3, 1, 4)  # (block, middle, input, output, column)
            values, vectors = torch.linalg.eigh(parts @ parts.transpose(-1, -2))
            column = vectors[..., -1]  # (block, middle, input, output)
            row = (column[..., None, :] @ parts)[..., 0, :]  # (block, middle, input, column)
            self.factors[level] = column.transpose(-1, -2).flatten(0, 1)
            rest = row.permute(0, 2, 1, 3).flatten(0, 1)
        self.factors[0] *= rest.view(-1, 1, 2)
        return False

    def setting(self) -> str:
        """Return the size N."""
        return f"N={self.size}"
