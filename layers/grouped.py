"""`GroupedPair`: a map of two block-diagonal matrices, with the channels between them put in another order.

y = S₂·P·S₁·x. S₁ has g₁ blocks that give s·t channels each; P sends channel (g, s, t) of them to (s, g, t); S₂ has g₂
blocks of these. Both are batched matrix products on columns, channels × pixels, which beat grouped convolutions (two to
four times at 640 channels in 32 groups). layers/monarch.py, layers/btt.py and layers/butterfly.py are such maps.

    class Mine(GroupedPair):
        def halves(self): return torch.ones(4, 6, 2), torch.ones(3, 5, 8)       # i = 4·2, o = 3·5
        def middle(self): return 3, 2                                           # s, t: 6 = 3·2

Whether the matrix is formed or the two are applied is decided by shapes alone, so that a resumed run decides as before:
`faster` weighs the multiply-adds of both ways and the numbers that only the second one moves.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from layers.base import ChannelMap
from layers.kept import may_keep
from layers.scale import equalise

# A number that is put in another place takes as long as so many multiply-adds of a 1×1 convolution, forward and backward:
# measured by benchmarks/layers.py's layer at 64 to 1024 channels on a CPU (AVX-512, one thread); research-log.md.
MOVE = {"cpu": 32, "cuda": 400}


def faster(factors: int, moved: int, rebuilt: int, device: torch.device) -> bool:
    """Return whether `factors` multiply-adds that also move `moved` numbers take less time than `rebuilt` multiply-adds."""
    return factors + MOVE.get(device.type, MOVE["cpu"]) * moved < rebuilt


def even_split(n: int) -> tuple[int, int]:
    """Return n₁ ≤ n₂ with n₁·n₂ = n, as even as they divide.

    >>> even_split(640)
    (20, 32)
    """
    first = next(divisor for divisor in range(math.isqrt(n), 0, -1) if n % divisor == 0)
    return first, n // first


def to_columns(x: Tensor) -> Tensor:
    """Return the channels of (B, C, H, W) as rows, (C, B·H·W)."""
    return x.transpose(0, 1).flatten(1)


def from_columns(rows: Tensor, like: Tensor) -> Tensor:
    """Return pixels (B·H·W, C) as images (B, C, H, W) in channels-last, of as many pixels as `like`."""
    return rows.contiguous().view(like.shape[0], *like.shape[2:], -1).permute(0, 3, 1, 2)


class ByFactors(ChannelMap):
    """A map whose factors are applied to columns where that is faster than forming the matrix."""

    @abstractmethod
    def factors_a_pixel(self) -> int:
        """Return the multiply-adds of applying the factors to one pixel."""

    @abstractmethod
    def moved_a_pixel(self) -> int:
        """Return how many numbers of one pixel are copied on the way through the factors."""

    @abstractmethod
    def halves(self) -> tuple[Tensor, Tensor]:
        """Return the two factors as `map_columns` takes them."""

    @abstractmethod
    def map_columns(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Map columns (i, P) by the two factors to pixels (P, o)."""

    def apply_factors(self, x: Tensor) -> Tensor:
        """Map the channels of (B, i, H, W) as columns."""
        halves = self._kept(self, self.halves) if may_keep(self) else self.halves()
        return from_columns(self.map_columns(to_columns(x), *halves), x)

    def factor_mult_adds(self, pixels: int) -> int:
        """Return those of both products."""
        return self.factors_a_pixel() * pixels

    def published_a_pixel(self) -> int:
        """Return the multiply-adds of the product factor by factor."""
        return self.factors_a_pixel()

    def mult_adds(self, in_pixels: int, out_pixels: int) -> int:
        """Return those of the product factor by factor, or of the dense map if that is less, a pixel of the output."""
        return min(self.published_a_pixel(), self.in_channels * self.out_channels) * out_pixels

    def applies_factors(self, pixels: int) -> bool:
        """Return whether applying the factors takes less time than forming the matrix and applying that."""
        moved = self.moved_a_pixel() * pixels
        return faster(self.factor_mult_adds(pixels), moved, self._rebuilt(pixels), self._device())

    def spared_by_factors(self) -> int:
        """Return the multiply-adds a pixel whose time the factors spare where all is kept; none where they are slower."""
        dense, factors, moved = self.in_channels * self.out_channels, self.factors_a_pixel(), self.moved_a_pixel()
        return dense - factors if faster(factors, moved, dense, self._device()) else 0

    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _apply(self, fn, recurse=True) -> "ByFactors":
        self.__dict__.pop("_spared", None)  # the device decides, too
        return super()._apply(fn, recurse)

    @property
    def degree(self) -> int:
        """The number of factors."""
        return 2

    def balance(self) -> None:
        """Give both factors the same root mean square."""
        equalise(self._weights())


class GroupedPair(ByFactors):
    """S₂·P·S₁, applied as two batched products."""

    @abstractmethod
    def middle(self) -> tuple[int, int]:
        """Return s and t: each block of S₁ gives s·t channels."""

    def map_columns(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Map columns (i, P) to pixels (P, o).

        Args: first: the blocks of S₁, (g₁, s·t, i/g₁); second: those of S₂, (g₂, o/g₂, g₁·s·t/g₂).
        """
        x = torch.bmm(first, x.reshape(len(first), first.shape[2], -1))
        x = x.view(len(first), *self.middle(), -1).transpose(0, 1)
        x = torch.bmm(second, x.reshape(len(second), second.shape[2], -1))
        return self.out_of(x)

    def out_of(self, x: Tensor) -> Tensor:
        """Return what the blocks of S₂ give, (g₂, o/g₂, P), as pixels (P, o)."""
        return x.flatten(0, 1).t()
