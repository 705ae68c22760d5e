"""`ByFactors`: a map of two factors, applied to columns; `GroupedPair`: of two block-diagonal ones with an order between.

y = S₂·P·S₁·x. S₁ has g₁ blocks that give s·t channels each; P puts channel (g, s, t) of them in the order (s, g, t); S₂
has g₂ blocks of these. Both are batched matrix products on columns, channels × pixels, which take a half to a quarter of
the time of grouped convolutions. layers/monarch.py, layers/btt.py and layers/butterfly.py are such maps.

    class Mine(GroupedPair):
        def halves(self): return torch.ones(4, 6, 2), torch.ones(3, 5, 8)       # i = 4·2, o = 3·5
        def middle(self): return 3, 2                                           # s, t: 6 = 3·2

Whether the matrix is formed or the two are applied in training follows from shapes and the kind of device alone, so that
a resumed run decides as before: `faster` weighs the multiply-adds of both ways, and the numbers that only the factors
move. Without gradients, where the matrix is kept, the same rule says whether the factors are faster still.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from layers.base import ChannelMap
from layers.kept import in_full_precision, may_keep
from layers.scale import equalise

# A number that a factor reads or writes takes as long as so many multiply-adds of a 1×1 convolution. On a CPU: the median
# of what layers of 64 to 1024 channels took, forward and backward (AVX2, one thread; research-log.md). On a GPU: an
# estimate from 8 bytes at 3 TB/s and 150·10¹² multiply-adds a second, not measured.
MOVE = {"cpu": 48, "cuda": 400}
BLOCK = 1 << 22  # numbers that are moved at a time on a CPU: of more, caches hold too little


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


class _Turned(torch.autograd.Function):
    """A transposed copy, forward and backward. Of two dimensions torch copies tile by tile, four times as fast as of more."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.t().contiguous()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient.t().contiguous()


def to_columns(x: Tensor) -> Tensor:
    """Return the channels of (B, C, H, W) as rows, (C, B·H·W)."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return _Turned.apply(x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]))
    return x.transpose(0, 1).reshape(x.shape[1], -1).contiguous()  # of one strided pixel, reshape returns a view


def from_columns(x: Tensor, like: Tensor) -> Tensor:
    """Return columns (C, B·H·W) as images (B, C, H, W), of as many pixels as `like` and in its layout."""
    batch, _, height, width = like.shape
    if like.is_contiguous(memory_format=torch.channels_last):
        return _Turned.apply(x).view(batch, height, width, -1).permute(0, 3, 1, 2)
    return x.view(-1, batch, height, width).transpose(0, 1).contiguous()


class ByFactors(ChannelMap):
    """A map whose factors are applied to columns where that is faster than forming the matrix."""

    factor = "down"  # the name of one of the parameters
    forms_halves = False  # whether `halves` computes anything that is worth keeping

    @abstractmethod
    def factors_a_pixel(self) -> int:
        """Return the multiply-adds of applying the factors to one pixel."""

    @abstractmethod
    def moved_a_pixel(self) -> int:
        """Return how many numbers of one pixel are written on the way through the factors."""

    @abstractmethod
    def halves(self) -> tuple[Tensor, Tensor]:
        """Return the two factors as `map_columns` takes them: the parameters in another shape, unless `forms_halves`."""

    @abstractmethod
    def map_columns(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Map columns (i, P) by the two factors to (o, P)."""

    def apply_factors(self, x: Tensor) -> Tensor:
        """Map the channels of (B, i, H, W) as columns."""
        keep = self.forms_halves and may_keep(self)
        halves = self._kept(self, self.halves) if keep else in_full_precision(self.halves)
        images = max(1, BLOCK // (self.moved_a_pixel() * x.shape[2] * x.shape[3]))
        if images >= len(x) or x.device.type != "cpu":
            return from_columns(self.map_columns(to_columns(x), *halves), x)
        return torch.cat([from_columns(self.map_columns(to_columns(part), *halves), part) for part in x.split(images)])

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
        """Return whether applying the factors takes less time than forming the matrix and applying that. Never to no pixel."""
        if not pixels:
            return False
        moved = self.moved_a_pixel() * pixels
        return faster(self.factor_mult_adds(pixels), moved, self._rebuilt(pixels), self._device())

    def spared_by_factors(self) -> int:
        """Return the multiply-adds a pixel whose time the factors spare where all is kept; none where they are slower."""
        dense, factors, moved = self.in_channels * self.out_channels, self.factors_a_pixel(), self.moved_a_pixel()
        return dense - factors if faster(factors, moved, dense, self._device()) else 0

    def _device(self) -> torch.device:
        return getattr(self, self.factor).device  # replicas of torch.nn.parallel have tensors there, no parameters

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
        """Map columns (i, P) to (o, P).

        Args: first: the blocks of S₁, (g₁, s·t, i/g₁); second: those of S₂, (g₂, o/g₂, g₁·s·t/g₂).
        """
        x = torch.bmm(first, x.reshape(len(first), first.shape[2], -1))
        x = x.view(len(first), *self.middle(), -1).transpose(0, 1)
        return self.joined(torch.bmm(second, x.reshape(len(second), second.shape[2], -1)))

    def joined(self, x: Tensor) -> Tensor:
        """Return what the blocks of S₂ give, (g₂, o/g₂, P), in the order of the outputs, (o, P)."""
        return x.flatten(0, 1)
