"""Hashed: a matrix whose entries share few stored numbers, chosen by a hash.

HashedNets: Chen et al. 2015 (1504.04788), V[i, j] = w[h(i, j)], here with a balanced h: the entries are put in a
pseudo-random order by sorting a seeded hash of their position, and the entry at place p uses number p mod M. So every
number serves ⌊n/M⌋ or ⌈n/M⌉ of the n entries. The order is recomputed from one integer, never stored, and the
gradient of number m is a gather and a sum over the places m, m + M, m + 2M, …, not a scatter. There is no sign hash.

    HashedPointwise(ConvSpec(64, 128, 1), 0.1, key=7).matrix()    # (128, 64) from 819 numbers
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from hashing import permutation
from layers.base import ChannelMap, ConvSpec, Seeded, dense_scale, draw_normal


class _Share(torch.autograd.Function):
    """entries[e] = numbers[index[e]]; the gradient walks `order` (place -> entry), whose place p belongs to p mod M."""

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
    """Sums of `entries` (n,) over those that share a number: (count,)."""
    rounds = -(-len(order) // count)
    by_place = F.pad(entries.index_select(0, order), (0, rounds * count - len(order)))
    return by_place.view(rounds, count).sum(0)


class SharedNumbers(Seeded):
    """`entries` entries that share `count` stored numbers, in the order that `key` seeds."""

    def __init__(self, entries: int, count: int, key: int):
        super().__init__()
        if not 1 <= count <= entries:
            raise ValueError(f"{count} stored numbers for {entries} entries")
        self.entries, self.count, self.key = entries, count, key
        self.numbers = nn.Parameter(torch.empty(count))
        self._places: tuple[Tensor, Tensor] | None = None

    def places(self) -> tuple[Tensor, Tensor]:
        """(index, order), both (entries,) int32: which number an entry uses, and which entry stands at a place."""
        if self._places is None:
            # outside any graph: compiled kernels were seen to get wrapping 64-bit products wrong (torch 2.15, CPU)
            self._places = torch.compiler.disable(self._find_places)()
        return self._places

    @torch.inference_mode(False)
    def _find_places(self) -> tuple[Tensor, Tensor]:
        device = self.numbers.device
        order = permutation(self.entries, self.key, device)
        index = torch.empty_like(order)
        index[order] = torch.arange(self.entries, device=device) % self.count
        return index.int(), order.int()

    def _apply(self, fn, recurse=True) -> "SharedNumbers":
        self._places = None  # of another device, perhaps
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_places": None}  # a copy or a pickle recomputes the order from the key

    def forward(self) -> Tensor:
        index, order = self.places()
        return _Share.apply(self.numbers, index, order)

    def served(self) -> Tensor:
        """How many entries each number serves: (count,)."""
        more = torch.arange(self.count, device=self.numbers.device) < self.entries % self.count
        return self.entries // self.count + more

    @torch.no_grad()
    def reset_parameters(self, target: float, generator: Generator | None = None) -> None:
        """Draws the numbers and rescales them so that the root mean square of the entries is `target`."""
        draw_normal(self.numbers, 1.0, generator)
        rms = (self.numbers.double().pow(2) * self.served()).sum().div(self.entries).sqrt()
        self.numbers.mul_(target / rms)

    @torch.no_grad()
    def fit(self, entries: Tensor) -> None:
        """Each number becomes the mean of the dense entries (n,) that it serves: the least-squares answer."""
        _, order = self.places()
        self.numbers.copy_(_sum_per_number(entries, order, self.count) / self.served())


class HashedPointwise(ChannelMap):
    """The hashed 1×1 of `SepHashed_s`: int(s·i·o) stored numbers and a bias, always."""

    def __init__(self, spec: ConvSpec, fraction: float, key: int = 0):
        super().__init__(spec)
        entries = self.in_channels * self.out_channels
        self.shared = SharedNumbers(entries, int(fraction * entries), key)
        self.bias = nn.Parameter(torch.empty(self.out_channels))

    def matrix(self) -> Tensor:
        return self.shared().view(self.out_channels, self.in_channels)

    def parameter_count(self) -> int:
        return self.shared.count + self.out_channels

    def reset_parameters(self, generator: Generator | None = None) -> None:
        self.shared.reset_parameters(dense_scale(self.out_channels), generator)

    def fit(self, matrix: Tensor) -> None:
        self.shared.fit(matrix.flatten())

    def setting(self) -> str:
        return f"numbers={self.shared.count}"
