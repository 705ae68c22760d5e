"""A map i → o through a square one on N channels, as ACDC and LR need it: y = S·T·E·x with T of N×N.

square = Square(144, 32)                     # N = 160
square.expand(torch.randn(7, 144)).shape     # (7, 160): zeros are appended
square.reduce(torch.randn(7, 160)).shape     # (7, 32): sums of 5 neighbours
"""

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Square:
    """The matrices E (N, i) and S (o, N) around a square map.

    o > i: N = o, and with the smallest a ≥ 0 such that i + a divides o, channel j is input (j mod (i+a)) mod i.
    o ≤ i: N = o·⌈i/o⌉, inputs are padded with zeros and each N/o neighbouring outputs are summed.
    """

    in_channels: int
    out_channels: int
    size: int = field(init=False)
    period: int = field(init=False)

    def __post_init__(self):
        """Find N, `size`, and the period i + a after which the inputs repeat: once, so that a compiler sees plain numbers."""
        i, o = self.in_channels, self.out_channels
        size = o if o > i else o * -(-i // o)
        period = next(divisor for divisor in range(i, o + 1) if o % divisor == 0) if o > i else size
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "period", period)

    def expand(self, x: Tensor) -> Tensor:
        """Apply E: (…, i) -> (…, N)."""
        i, o = self.in_channels, self.out_channels
        if o <= i:
            return F.pad(x, (0, self.size - i))
        one = x.repeat(*[1] * (x.ndim - 1), -(-self.period // i))[..., : self.period]
        return one.repeat(*[1] * (x.ndim - 1), o // self.period)

    def collect(self, x: Tensor) -> Tensor:
        """Apply the transpose of E: (…, N) -> (…, i)."""
        i, o = self.in_channels, self.out_channels
        if o <= i:
            return x[..., :i]
        one = x.unflatten(-1, (o // self.period, self.period)).sum(-2)
        rounds = -(-self.period // i)
        return F.pad(one, (0, rounds * i - self.period)).unflatten(-1, (rounds, i)).sum(-2)

    def reduce(self, x: Tensor) -> Tensor:
        """Apply S: (…, N) -> (…, o)."""
        return x.unflatten(-1, (self.out_channels, -1)).sum(-1)
