"""Low rank: a map on channels through a bottleneck of r = max(1, int(s·max(i, o))) channels.

Gray, Crowley & Storkey 2019 (1906.00859). Generic: W = U·V with V r×i, U o×r. LR: W = S·VᵀV·E with one V r×N, where
E and S fit N channels to i and o (layers/square.py).

    Generic(ConvSpec(64, 128, 1), 0.1).matrix().shape      # (128, 64), of rank 12
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers.base import ChannelMap
from layers.kept import may_keep
from layers.scale import equalise
from layers.spec import ConvSpec
from layers.square import Square


class Bottleneck(ChannelMap):
    """W = up·down with `down()` r×i and `up()` o×r."""

    def __init__(self, spec: ConvSpec, fraction: float):
        super().__init__(spec)
        self.rank = max(1, int(fraction * max(self.in_channels, self.out_channels)))

    @abstractmethod
    def down(self) -> Tensor:
        """Return the matrix (r, i) from the input channels to the bottleneck."""

    @abstractmethod
    def up(self) -> Tensor:
        """Return the matrix (o, r) from the bottleneck to the output channels."""

    def matrix(self) -> Tensor:
        """Return up·down, (o, i)."""
        return self.up() @ self.down()

    def apply_factors(self, x: Tensor) -> Tensor:
        """Apply the two as 1×1 convolutions."""
        down, up = self._kept(self, self._halves) if may_keep(self) else self._halves()
        if self.rank == 1 and torch.compiler.is_compiling():
            return F.conv2d(x, down) * up.transpose(0, 1)  # of one channel, cuDNN and the compiler see other layouts
        return F.conv2d(F.conv2d(x, down), up)

    def _halves(self) -> tuple[Tensor, Tensor]:
        """Return both as kernels (r, i, 1, 1) and (o, r, 1, 1)."""
        return self.down()[:, :, None, None], self.up()[:, :, None, None]

    def factor_mult_adds(self, pixels: int) -> int:
        """Return r(i + o) a pixel."""
        return self.rank * (self.in_channels + self.out_channels) * pixels

    def rebuild_mult_adds(self) -> int:
        """Return o·r·i."""
        return self.out_channels * self.rank * self.in_channels

    @property
    def degree(self) -> int:
        """The number of factors."""
        return 2

    def rms(self) -> Tensor:
        """Return the root mean square of up·down, from the r×r Gram matrices of both."""
        up, down = self.up().detach().double(), self.down().detach().double()
        squares = ((up.t() @ up) * (down @ down.t())).sum()
        return squares.div(self.in_channels * self.out_channels).sqrt()

    def setting(self) -> str:
        """Return the rank."""
        return f"r={self.rank}"


class Generic(Bottleneck):
    """1×1 i→r, then 1×1 r→o: r(i + o) parameters."""

    def __init__(self, spec: ConvSpec, fraction: float, key: int = 0):
        super().__init__(spec, fraction)
        self.v = nn.Parameter(torch.empty(self.rank, self.in_channels))
        self.u = nn.Parameter(torch.empty(self.out_channels, self.rank))

    def down(self) -> Tensor:
        """Return V, (r, i)."""
        return self.v

    def up(self) -> Tensor:
        """Return U, (o, r)."""
        return self.u

    def balance(self) -> None:
        """Give U and V the same root mean square."""
        equalise([self.v, self.u])

    def parameter_count(self) -> int:
        """Return r(i + o)."""
        return self.rank * (self.in_channels + self.out_channels)

    def mult_adds(self, in_pixels: int, out_pixels: int) -> int:
        """Return r(i + o) a pixel of the output."""
        return self.rank * (self.in_channels + self.out_channels) * out_pixels

    @torch.no_grad()
    def approximate(self, matrix: Tensor) -> bool:
        """Truncate the singular value decomposition; each factor gets the root of the singular values."""
        u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
        kept = min(self.rank, len(s))
        root = s[:kept].sqrt()
        self.v.zero_()
        self.u.zero_()
        self.v[:kept] = root[:, None] * vt[:kept]
        self.u[:, :kept] = u[:, :kept] * root
        return True


class LR(Bottleneck):
    """W = S·VᵀV·E, positive semidefinite between S and E: r·N parameters."""

    def __init__(self, spec: ConvSpec, fraction: float, key: int = 0):
        super().__init__(spec, fraction)
        self.square = Square(spec.in_channels, spec.out_channels)
        self.v = nn.Parameter(torch.empty(self.rank, self.square.size))

    def down(self) -> Tensor:
        """Return V·E, (r, i)."""
        return self.square.collect(self.v)

    def up(self) -> Tensor:
        """Return S·Vᵀ, (o, r)."""
        return self.square.reduce(self.v).t()

    def parameter_count(self) -> int:
        """Return r·N."""
        return self.rank * self.square.size

    def mult_adds(self, in_pixels: int, out_pixels: int) -> int:
        """Return 2·r·N a pixel of the output."""
        return 2 * self.rank * self.square.size * out_pixels

    @torch.no_grad()
    def approximate(self, matrix: Tensor) -> bool:
        """Take the largest positive eigenvalues of the symmetric part of S⁺·matrix·E⁺, with their eigenvectors.

        That is the nearest of its rank where i = o, and else a start for the gradient.
        """
        square = self.square
        lifted = matrix.double().repeat_interleave(square.size // self.out_channels, 0)  # Sᵀ·matrix
        shared = square.collect(square.expand(torch.ones_like(lifted[0, : self.in_channels])))  # copies of each input
        lifted = square.expand(lifted / shared) / (square.size // self.out_channels)
        values, vectors = torch.linalg.eigh((lifted + lifted.t()) / 2)
        self.v.copy_(values[-self.rank :].clamp(min=0).sqrt()[:, None] * vectors[:, -self.rank :].t())
        return self.in_channels == self.out_channels

    def setting(self) -> str:
        """Return the rank and the size of the square map."""
        return f"r={self.rank} N={self.square.size}"
