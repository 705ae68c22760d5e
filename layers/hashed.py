"""Hashed: a matrix whose entries share few stored numbers, chosen by a hash.

HashedNets: Chen et al. 2015 (1504.04788), V[i, j] = w[h(i, j)], here with a balanced h: the entries are put in a
pseudo-random order by sorting a seeded hash of their position, and the entry at place p uses number p mod M. So every
number serves ⌊n/M⌋ or ⌈n/M⌉ of the n entries (layers/shared.py). There is no sign hash.

    HashedPointwise(ConvSpec(64, 128, 1), 0.1, key=7).matrix()    # (128, 64) from 819 numbers
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from layers.base import Block, ChannelMap
from layers.filters import leading_filters, search_filters
from layers.scale import dense_scale, shared_scale
from layers.shared import SharedKernel, SharedNumbers
from layers.spec import ConvSpec, ImpossibleShare
from layers.strided import conv2d
from system.hashing import key as derived_key


class Hashed(Block):
    """A k×k kernel whose i·o·k² entries share int(s·i·o·k²) stored numbers; always with a bias."""

    def __init__(self, spec: ConvSpec, fraction: float, key: int = 0):
        super().__init__(spec)
        self.shared = SharedKernel(spec, self._stored(spec.entries, fraction), key)
        self.bias = nn.Parameter(torch.empty(spec.out_channels))

    @staticmethod
    def _stored(entries: int, fraction: float) -> int:
        return int(fraction * entries)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, i, H, W) with the dense kernel to (B, o, H', W')."""
        spec = self.spec
        return conv2d(x, self.shared.kept(self.weight), self.bias, spec.stride, spec.padding, spec.dilation)

    def weight(self) -> Tensor:
        """Return the entries as a kernel (o, i, k, k)."""
        return self.shared.kernel()

    def effective_bias(self) -> Tensor:
        """Return the bias (o,)."""
        return self.bias

    def structured_parameters(self) -> list[nn.Parameter]:
        """Return all parameters."""
        return list(self.parameters())

    def parameter_count(self) -> int:
        """Return the stored numbers + o."""
        return self.shared.count + self.spec.out_channels

    def mult_adds(self, height: int, width: int) -> int:
        """Return those of the dense convolution."""
        return self.spec.entries * self._published_pixels(height, width)

    def exact_mult_adds(self, height: int, width: int, batch: int) -> int:
        """Return those of the dense convolution."""
        return self.spec.entries * self._output_pixels(height, width) * batch

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the numbers so that the root mean square of the kernel is √(2/(o·k²)); set the bias to zero."""
        self.shared.reset_parameters(dense_scale(self.spec.out_channels * self.spec.kernel_size**2), generator)
        nn.init.zeros_(self.bias)

    def _approximate_kernel(self, kernel: Tensor, **search) -> None:
        self.shared.approximate(kernel.flatten())

    def setting(self) -> str:
        """Return how many numbers are stored."""
        return f"numbers={self.shared.count}"


class HashedDecimate(Hashed):
    """`Hashed` with ⌊i·o·k²/10⌋ stored numbers."""

    def __init__(self, spec: ConvSpec, key: int = 0):
        super().__init__(spec, 0.1, key)

    @staticmethod
    def _stored(entries: int, fraction: float) -> int:
        return entries // 10


class HashedPointwise(ChannelMap):
    """The hashed 1×1 of `SepHashed_s`: int(s·i·o) stored numbers, and always a bias."""

    def __init__(self, spec: ConvSpec, fraction: float, key: int = 0):
        super().__init__(spec)
        self.shared = SharedNumbers(self.in_channels * self.out_channels, self._stored(spec, fraction), key)
        self.bias = nn.Parameter(torch.empty(self.out_channels))

    @staticmethod
    def _stored(spec: ConvSpec, fraction: float) -> int:
        return int(fraction * (spec.in_channels * spec.out_channels))

    def matrix(self) -> Tensor:
        """Return the entries as a matrix (o, i)."""
        return self.shared().view(self.out_channels, self.in_channels)

    def parameter_count(self) -> int:
        """Return the stored numbers + o."""
        return self.shared.count + self.out_channels

    def rms(self) -> Tensor:
        """Return the root mean square of the entries, without forming the matrix."""
        return self.shared.rms()

    def approximate(self, matrix: Tensor) -> bool:
        """Set each number to the mean of the entries that it serves: nothing in the family is nearer."""
        self.shared.approximate(matrix.flatten())
        return True

    def setting(self) -> str:
        """Return how many numbers are stored."""
        return f"numbers={self.shared.count}"


class HashedRemainder(HashedPointwise):
    """The hashed 1×1 of `SepHashedFull_s`: int(s·i·o·k²) stored numbers less those of the depthwise k×k."""

    @staticmethod
    def _stored(spec: ConvSpec, fraction: float) -> int:
        k, total = spec.kernel_size, int(fraction * spec.entries)
        depthwise = spec.in_channels * k * k if k > 1 else 0
        if total <= depthwise:
            raise ImpossibleShare(f"of {total} numbers the depthwise convolution takes {depthwise}", too_large=False)
        return total - depthwise


class SepHashedDecimate(Block):
    """A tenth of a separable convolution: a hashed depthwise k×k (for k = 1 too), then a hashed 1×1, each with a bias.

    There are B = ⌊(i·o + [k > 1]·i·k²)/10⌋ stored numbers, divided in the ratio of i·k² to i·o. W[o, i] = M[o, i]·D[i],
    and the effective bias is M·b_D + b_M.
    """

    def __init__(self, spec: ConvSpec, key: int = 0):
        super().__init__(spec)
        i, o, k = spec.in_channels, spec.out_channels, spec.kernel_size
        filters, columns = i * k * k, i * o
        budget = (columns + (filters if k > 1 else 0)) // 10
        self.depthwise = SharedNumbers(filters, budget * filters // (filters + columns), derived_key(key, "depthwise"))
        self.pointwise = SharedNumbers(columns, budget * columns // (filters + columns), derived_key(key, "pointwise"))
        self.depthwise_bias = nn.Parameter(torch.empty(i))
        self.bias = nn.Parameter(torch.empty(o))

    def _filters(self) -> Tensor:
        return self.depthwise().view(self.spec.in_channels, 1, self.spec.kernel_size, self.spec.kernel_size)

    def _matrix(self) -> Tensor:
        return self.pointwise().view(self.spec.out_channels, self.spec.in_channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, i, H, W) to (B, o, H', W')."""
        s = self.spec
        filters, matrix = self.depthwise.kept(self._filters), self.pointwise.kept(self._matrix)
        x = conv2d(x, filters, self.depthwise_bias, s.stride, s.padding, s.dilation, groups=s.in_channels)
        return F.conv2d(x, matrix, self.bias)

    def weight(self) -> Tensor:
        """Return the kernel (o, i, k, k)."""
        return self._matrix() * self._filters()[:, 0]

    def effective_bias(self) -> Tensor:
        """Return M·b_D + b_M, (o,)."""
        return self._matrix()[:, :, 0, 0] @ self.depthwise_bias + self.bias

    def structured_parameters(self) -> list[nn.Parameter]:
        """Return all parameters."""
        return list(self.parameters())

    def biases(self) -> list[nn.Parameter]:
        """Return those of both convolutions."""
        return [self.depthwise_bias, self.bias]

    @property
    def degree(self) -> int:
        """The filters times the matrix."""
        return 2

    def parameter_count(self) -> int:
        """Return the stored numbers of both parts + i + o."""
        return self.depthwise.count + self.pointwise.count + self.spec.in_channels + self.spec.out_channels

    def mult_adds(self, height: int, width: int) -> int:
        """Return those of the dense depthwise and 1×1 convolutions."""
        depthwise = self.depthwise.entries * self._published_pixels(height, width)
        return depthwise + self.pointwise.entries * self._output_pixels(height, width)

    def exact_mult_adds(self, height: int, width: int, batch: int) -> int:
        """Return those of the dense depthwise and 1×1 convolutions."""
        return (self.depthwise.entries + self.pointwise.entries) * self._output_pixels(height, width) * batch

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw both parts at the scales of the dense ones; set the biases to zero."""
        self.depthwise.reset_parameters(dense_scale(self.depthwise.entries), generator)
        self.pointwise.reset_parameters(dense_scale(self.spec.out_channels), generator)
        nn.init.zeros_(self.depthwise_bias)
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def _approximate_kernel(self, kernel: Tensor, **search) -> None:
        """Take the means of the first singular triples of the (o, k²) slices, and go on over the 1×1's numbers.

        For every 1×1 the depthwise numbers that are best beside it are known.
        """
        filters, columns = leading_filters(kernel)
        self.depthwise.approximate(filters.flatten().to(kernel.dtype))
        self.pointwise.approximate(columns.flatten().to(kernel.dtype))
        search_filters(
            self, kernel, **search, matrix=lambda: self._matrix()[:, :, 0, 0], parameters=[self.pointwise.numbers],
            filters=self.depthwise.numbers, pool=self.depthwise.pool, spread=self.depthwise.spread,
        )  # fmt: skip

    def _balance(self) -> None:
        parts = [self.depthwise, self.pointwise]
        drawn = [dense_scale(self.depthwise.entries), dense_scale(self.spec.out_channels)]
        for part, by in zip(parts, shared_scale([part.rms() for part in parts], drawn)):
            part.numbers.mul_(by)

    @torch.no_grad()
    def _set_bias(self, bias: Tensor) -> None:
        self.depthwise_bias.zero_()
        self.bias.copy_(bias)

    def setting(self) -> str:
        """Return how many numbers the two parts store."""
        return f"numbers={self.depthwise.count}+{self.pointwise.count}"
