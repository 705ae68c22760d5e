"""Numbers that many entries share, in the pseudo-random order that a hash gives.

The entries are put in order by sorting a seeded hash of their position, and the entry at place p uses number p mod M. So
every number serves ⌊n/M⌋ or ⌈n/M⌉ of the n entries. The order is recomputed from one integer and never stored. On a GPU the
gradient of number m is a gather and a sum over the places m, m + M, m + 2M, …, not a scatter.

    SharedNumbers(entries=8192, count=819, key=7)()        # (8192,)
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from layers.kept import Kept, may_keep
from layers.scale import draw_normal
from layers.seeded import Seeded
from layers.slowed import rate_of_sum
from layers.spec import ConvSpec, ImpossibleShare
from layers.tracing import exporting
from system.hashing import hash_order


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

    def _positions(self) -> Tensor:
        """Return of each entry the position (int64) whose hash puts it in order."""
        return torch.arange(self.entries, device=self.numbers.device)

    def _find_structure(self) -> tuple[Tensor, Tensor]:
        """Return (index, order), both (entries,) int32: the number of each entry, the entry at each place."""
        found = hash_order(self._positions(), self.key)
        in_turn = torch.arange(self.count, dtype=torch.int32, device=found.device)
        by_place = in_turn.repeat(-(-self.entries // self.count))[: self.entries]
        return torch.empty_like(by_place).scatter_(0, found, by_place), found.int()

    def forward(self) -> Tensor:
        """Return the entries (n,)."""
        if exporting():
            return self.numbers.index_select(0, self.recorded_structure(0))
        index, order = self.structure()
        if index.device.type == "cpu" and not torch.compiler.is_compiling():
            return self.numbers.index_select(0, index)  # one operator each way; its gradient is added entry by entry
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
        super().__init__(spec.entries, count, key)
        self.spec = spec

    def _positions(self) -> Tensor:
        """Return the positions of the entries in (o, i, ky, kx), by which they are put in order."""
        return self._channels_last(super()._positions())

    def _channels_last(self, entries: Tensor) -> Tensor:
        return entries.view(self.spec.out_channels, self.spec.in_channels, -1).transpose(1, 2).flatten()

    def slowed_parameters(self) -> dict[nn.Parameter, float]:
        """Return that of the numbers where k > 1: each has the sum of the gradients of its entries."""
        return {self.numbers: rate_of_sum(self.entries / self.count)} if self.spec.kernel_size > 1 else {}

    def kernel(self) -> Tensor:
        """Return the entries as a kernel (o, i, k, k)."""
        return self().view(self.spec.out_channels, self.spec.kernel_size, self.spec.kernel_size, -1).permute(0, 3, 1, 2)

    def approximate(self, entries: Tensor) -> None:
        """Set each number to the mean of the entries (n,) of a dense kernel (o, i, k, k) that it serves."""
        super().approximate(self._channels_last(entries))
