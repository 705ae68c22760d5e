"""Low rank: a map on channels through a bottleneck of r channels.

Generic (Gray, Crowley & Storkey 2019, 1906.00859): W = U·V with V r×i, U o×r and r = max(1, int(s·max(i, o))).

    Generic(ConvSpec(64, 128, 1), 0.1).matrix().shape      # (128, 64), of rank 12
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from layers.base import ChannelMap, ConvSpec, dense_scale, draw_normal, rescale_product


class Generic(ChannelMap):
    """1×1 i→r, then 1×1 r→o: r(i + o) parameters."""

    def __init__(self, spec: ConvSpec, fraction: float, key: int = 0):
        super().__init__(spec)
        self.rank = max(1, int(fraction * max(self.in_channels, self.out_channels)))
        self.down = nn.Parameter(torch.empty(self.rank, self.in_channels))
        self.up = nn.Parameter(torch.empty(self.out_channels, self.rank))

    def matrix(self) -> Tensor:
        return self.up @ self.down

    def apply_factors(self, x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, self.down[:, :, None, None]), self.up[:, :, None, None])

    def factor_mult_adds(self) -> int:
        return self.rank * (self.in_channels + self.out_channels)

    def rebuild_mult_adds(self) -> int:
        return self.out_channels * self.rank * self.in_channels

    def parameter_count(self) -> int:
        return self.rank * (self.in_channels + self.out_channels)

    def mult_adds(self, in_pixels: int, out_pixels: int) -> int:
        return self.rank * (self.in_channels + self.out_channels) * out_pixels

    def reset_parameters(self, generator: Generator | None = None) -> None:
        draw_normal(self.down, 1.0, generator)
        draw_normal(self.up, 1.0, generator)
        rescale_product([self.down, self.up], self.matrix(), dense_scale(self.out_channels))

    @torch.no_grad()
    def fit(self, matrix: Tensor) -> None:
        """The truncated singular value decomposition, each factor with the root of the singular values."""
        u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
        kept = min(self.rank, len(s))
        root = s[:kept].sqrt()
        self.down.zero_()
        self.up.zero_()
        self.down[:kept] = root[:, None] * vt[:kept]
        self.up[:, :kept] = u[:, :kept] * root

    def setting(self) -> str:
        return f"r={self.rank}"
