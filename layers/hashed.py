"""Hashed: a matrix whose entries share few stored numbers, chosen by a hash.

HashedNets: Chen et al. 2015 (1504.04788), V[i, j] = w[h(i, j)], here with a balanced h: the entries are put in a
pseudo-random order by sorting a seeded hash of their position, and the entry at place p uses number p mod M. So every
number serves ⌊n/M⌋ or ⌈n/M⌉ of the n entries. The order is recomputed from one integer and never stored. The gradient
of number m is a gather and a sum over the places m, m + M, m + 2M, …, not a scatter. There is no sign hash.

    HashedPointwise(ConvSpec(64, 128, 1), 0.1, key=7).matrix()    # (128, 64) from 819 numbers
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from layers.base import Block, ChannelMap
from layers.filters import leading_filters, search_filters
from layers.kept import Kept, may_keep
from layers.scale import dense_scale, draw_normal, shared_scale
from layers.seeded import Seeded
from layers.spec import ConvSpec, ImpossibleShare
from layers.strided import conv2d
from system.hashing import key as derived_key
from system.hashing import permutation


class _Share(torch.autograd.Function):
    """entries[e] = numbers[index[e]]. The gradient follows `order` (place -> entry): place p is of number p mod M."""

    @staticmethod
    def forward(ctx, numbers: Tensor, index: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        ctx.count = len(numbers)
        return numbers.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (order,) = ctx.saved_tensors
        return _sum_per_number(gradient, order, ctx.count), None, None


def _sum_per_number(entries: Tensor, order: Tensor, count: int) -> Tensor:
    """Return the sums (count,) of the `entries` (n,) that share a number."""
    whole, rest = len(order) // count, len(order) % count
    by_place = entries.index_select(0, order)
    sums = by_place[: whole * count].view(whole, count).sum(0)
    sums[:rest] += by_place[whole * count :]
    return sums


class SharedNumbers(Seeded):
    """`entries` entries that share `count` stored numbers, in the order that `key` seeds."""

    def __init__(self, entries: int, count: int, key: int):
        super().__init__()
        if not 1 <= count <= entries:
            raise ImpossibleShare(f"{count} stored numbers for {entries} entries", too_large=count > entries)
        self.entries, self.count, self.key = entries, count, key
        self.numbers = nn.Parameter(torch.empty(count))
        self._kept = Kept()

    def _find_structure(self) -> tuple[Tensor, Tensor]:
        """Return (index, order), both (entries,) int32: the number of each entry, the entry at each place."""
        device = self.numbers.device
        order = permutation(self.entries, self.key, device)
        index = torch.empty_like(order)
        index[order] = torch.arange(self.entries, device=device) % self.count
        return index.int(), order.int()

    def forward(self) -> Tensor:
        """Return the entries (n,)."""
        index, order = self.structure()
        return _Share.apply(self.numbers, index, order)

    def kept(self, form: Callable[[], Tensor]) -> Tensor:
        """Return `form()`, which shapes the entries, kept where no gradient is needed (layers/kept.py)."""
        if may_keep(self):
            return self._kept(self, form)
        self._kept.clear()
        return form()

    def served(self) -> Tensor:
        """Return how many entries each number serves, (count,)."""
        more = torch.arange(self.count, device=self.numbers.device) < self.entries % self.count
        return self.entries // self.count + more

    @torch.no_grad()
    def reset_parameters(self, target: float, generator: Generator | None = None) -> None:
        """Draw the numbers so that the root mean square of the entries is `target`."""
        draw_normal(self.numbers, 1.0, generator)
        self.numbers.mul_(target / self.rms())

    def rms(self) -> Tensor:
        """Return the root mean square of the entries."""
        return (self.numbers.detach().double().pow(2) * self.served()).sum().div(self.entries).sqrt()

    def pool(self, entries: Tensor) -> Tensor:
        """Return the sum of the entries (n,) that each number serves, (count,)."""
        return _sum_per_number(entries, self.structure()[1], self.count)

    def spread(self, numbers: Tensor) -> Tensor:
        """Return other numbers (count,) as entries (n,)."""
        return numbers.index_select(0, self.structure()[0])

    @torch.no_grad()
    def approximate(self, entries: Tensor) -> None:
        """Set each number to the mean of the dense entries (n,) that it serves: the least-squares solution."""
        self.numbers.copy_(self.pool(entries) / self.served())


class SharedKernel(SharedNumbers):
    """The entries of a kernel (o, i, k, k) in the order in which channels-last convolutions take them: o, ky, kx, i."""

    def __init__(self, spec: ConvSpec, count: int, key: int):
        super().__init__(_entries(spec), count, key)
        self.spec = spec

    def _find_structure(self) -> tuple[Tensor, Tensor]:
        """Return (index, order) as `SharedNumbers` does, of places in that order."""
        index, order = super()._find_structure()
        i, area = self.spec.in_channels, self.spec.kernel_size**2
        row, inside = order // (i * area), order % (i * area)  # of (o, i, ky, kx)
        return self._channels_last(index), (row * area + inside % area) * i + inside // area

    def _channels_last(self, entries: Tensor) -> Tensor:
        return entries.view(self.spec.out_channels, self.spec.in_channels, -1).transpose(1, 2).flatten()

    def kernel(self) -> Tensor:
        """Return the entries as a kernel (o, i, k, k)."""
        return self().view(self.spec.out_channels, self.spec.kernel_size, self.spec.kernel_size, -1).permute(0, 3, 1, 2)

    def approximate(self, entries: Tensor) -> None:
        """Set each number to the mean of the entries (n,) of a dense kernel (o, i, k, k) that it serves."""
        super().approximate(self._channels_last(entries))


class Hashed(Block):
    """A k×k kernel whose i·o·k² entries share int(s·i·o·k²) stored numbers; always with a bias."""

    def __init__(self, spec: ConvSpec, fraction: float, key: int = 0):
        super().__init__(spec)
        self.shared = SharedKernel(spec, self._stored(_entries(spec), fraction), key)
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
        return _entries(self.spec) * self._published_pixels(height, width)

    def exact_mult_adds(self, height: int, width: int, batch: int) -> int:
        """Return those of the dense convolution."""
        return _entries(self.spec) * self._output_pixels(height, width) * batch

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
        k, total = spec.kernel_size, int(fraction * _entries(spec))
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


def _entries(spec: ConvSpec) -> int:
    return spec.in_channels * spec.out_channels * spec.kernel_size**2
