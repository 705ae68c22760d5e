"""The convolution that a block replaces, as plain numbers.

spec = ConvSpec(16, 32, kernel_size=3, stride=2, padding=1)
spec.output_side(32)                         # 16
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvSpec:
    """The arguments of a square convolution with groups = 1, named as Conv2d's."""

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    bias: bool = False

    @property
    def entries(self) -> int:
        """The numbers of the dense kernel: o·i·k²."""
        return self.out_channels * self.in_channels * self.kernel_size**2

    def output_side(self, side: int) -> int:
        """Return the rows (or columns) of the output for `side` rows (or columns) of input."""
        return (side + 2 * self.padding - self.dilation * (self.kernel_size - 1) - 1) // self.stride + 1

    def published_side(self, side: int) -> int:
        """Return the same without dilation, as published counts have it."""
        return (side + 2 * self.padding - self.kernel_size) // self.stride + 1


class ImpossibleShare(ValueError):
    """A layer cannot store as many parameters as its share asks for.

    `too_large` says that there would be more parameters than entries; otherwise there would be none.
    """

    def __init__(self, message: str, too_large: bool):
        super().__init__(message)
        self.too_large = too_large
