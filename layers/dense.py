"""The dense forms: the ordinary convolution that everything is measured against, and the 1×1 of a separable one.

Separable convolutions: Howard et al. 2017 (1704.04861), equation 5. A k×k convolution W (o, i, k, k) becomes a
depthwise k×k D followed by a pointwise P (o, i): W[o, i] = P[o, i] · D[i].

    Conv(ConvSpec(16, 32, 3, padding=1))(torch.randn(2, 16, 8, 8)).shape     # (2, 32, 8, 8)
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from layers.base import Block, ChannelMap
from layers.scale import dense_scale, draw_normal
from layers.spec import ConvSpec
from layers.strided import conv2d


class Conv(Block):
    """An ordinary k×k convolution: i·o·k² + b parameters, none of them structured."""

    holds_any_kernel = True

    def __init__(self, spec: ConvSpec, key: int = 0):
        super().__init__(spec)
        self.kernel = nn.Parameter(torch.empty(spec.out_channels, spec.in_channels, spec.kernel_size, spec.kernel_size))
        self.bias = nn.Parameter(torch.empty(spec.out_channels)) if spec.bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, i, H, W) to (B, o, H', W')."""
        spec = self.spec
        return conv2d(x, self.kernel, self.bias, spec.stride, spec.padding, spec.dilation)

    def weight(self) -> Tensor:
        """Return the kernel (o, i, k, k) itself."""
        return self.kernel

    def effective_bias(self) -> Tensor | None:
        """Return the bias (o,) or None."""
        return self.bias

    def _entries(self) -> int:
        return self.spec.in_channels * self.spec.out_channels * self.spec.kernel_size**2

    def parameter_count(self) -> int:
        """Return i·o·k² + b."""
        return self._entries() + self.spec.out_channels * self.spec.bias

    def mult_adds(self, height: int, width: int) -> int:
        """Return i·o·k² a pixel of the output without dilation."""
        return self._entries() * self._published_pixels(height, width)

    def exact_mult_adds(self, height: int, width: int, batch: int) -> int:
        """Return i·o·k² a pixel of the output."""
        return self._entries() * self._output_pixels(height, width) * batch

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the kernel from N(0, 2/(o·k²)); set the bias to zero."""
        draw_normal(self.kernel, dense_scale(self.spec.out_channels * self.spec.kernel_size**2), generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @torch.no_grad()
    def _approximate_kernel(self, kernel: Tensor, **search) -> None:
        self.kernel.copy_(kernel)


class Pointwise(ChannelMap):
    """The dense 1×1 of `Sep`: i·o parameters, none of them structured."""

    def __init__(self, spec: ConvSpec, key: int = 0):
        super().__init__(spec)
        self.dense = nn.Parameter(torch.empty(spec.out_channels, spec.in_channels))

    def matrix(self) -> Tensor:
        """Return the matrix (o, i) itself."""
        return self.dense

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (B, i, H, W) to (B, o, H, W), with a bias (o,) if there is one."""
        return F.conv2d(x, self._kernel(), bias)

    def structured_parameters(self) -> list[nn.Parameter]:
        """Return none: a dense map decays as it always does."""
        return []

    def parameter_count(self) -> int:
        """Return i·o."""
        return self.in_channels * self.out_channels

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the matrix from N(0, 2/o)."""
        draw_normal(self.dense, dense_scale(self.out_channels), generator)

    @torch.no_grad()
    def approximate(self, matrix: Tensor) -> bool:
        """Copy the matrix (o, i): nothing is nearer."""
        self.dense.copy_(matrix)
        return True
