"""ACDC: a product of diagonals and cosine transforms.

ACDC: Moczulski, Denil, Appleyard & de Freitas 2015 (1511.05946), equation 4 and section 6: row vectors are mapped by
y = x·(M₁P)(M₂P)…, one factor M = A·C·P·D·C⁻¹ with A, D diagonal, C the orthonormal DCT-II and P a permutation, here the
riffle (even channels first, then odd). `ACDC_L` has L − 1 factors, as the published counts do. Maps that are not square
go through a square one of N channels (layers/square.py).

The product runs on columns, the unit vectors or all pixels, as layers/product.py has it; layers/cosine_costs.py says which of
the two is faster here. What count.py prints follows from multiply-adds alone.

    ACDC(ConvSpec(64, 128, 1), 12).matrix().shape          # (128, 64), from 11 · 2 · 128 parameters
"""

import math
from functools import lru_cache

import torch
from torch import Generator, Tensor, nn

from layers import cosine_costs
from layers.base import ChannelMap
from layers.cosine import recorded_cosine_matrix
from layers.factor_matrices import forms_matrices
from layers.product import form_constants, product
from layers.scale import draw_normal
from layers.seeded import Seeded
from layers.slowed import rate_of_sum
from layers.spec import ConvSpec
from layers.square import Square
from layers.tracing import exporting, recorded
from system.hashing import key as derived_key
from system.hashing import permutation

PROBES = 256  # so many random rows estimate the root mean square of a larger matrix to 1 %


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _units(square: Square, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the unit vectors of i channels, expanded to columns (N, i)."""
    return square.expand(torch.eye(square.in_channels, dtype=dtype, device=device)).t().contiguous()


class ACDC(ChannelMap):
    """An o×i matrix of L − 1 factors: 2N(L − 1) parameters. The permutations in and after each factor are riffles."""

    asks_for_speeds, riffles_inside = True, True

    def __init__(self, spec: ConvSpec, length: int = 12, key: int = 0):
        super().__init__(spec)
        self.square = Square(spec.in_channels, spec.out_channels)
        self.before_stride = spec.kernel_size > 1
        self.a = nn.Parameter(torch.empty(length - 1, self.square.size))
        self.d = nn.Parameter(torch.empty(length - 1, self.square.size))

    def permutations(self) -> Tensor | None:
        """Return the permutations (2(L − 1), N) inside and after each factor in turn, or None where they are riffles."""
        return None

    def map_columns(self, x: Tensor) -> Tensor:
        """Map columns (i, R) to (o, R)."""
        return self._map_expanded(self.square.expand(x.t()).t())

    def _map_expanded(self, x: Tensor) -> Tensor:
        """Map columns (N, R) to (o, R)."""
        x = product(x, self.a, self.d, self.permutations(), self.riffles_inside)
        return x if self.square.size == self.out_channels else self.square.reduce(x.t()).t()

    def matrix(self) -> Tensor:
        """Return the matrix (o, i): the map of the unit vectors."""
        units = _units.__wrapped__ if recorded() else _units  # what is recorded may be no numbers to keep
        columns = units(self.square, self.a.dtype, self.a.device)
        return self._recorded(columns) if exporting() else self._map_expanded(columns)

    def _recorded(self, x: Tensor) -> Tensor:
        """Map columns (N, R) to (o, R) in torch's own operators, by factors formed as matrices, P·C·D·P′·C^T·A.

        C is computed in the graph, so that no file holds it.
        """
        cosine = recorded_cosine_matrix(self.square.size).to(x.dtype)
        forth, back = self._reordered(cosine.t(), inside=True), self._reordered(cosine, inside=False)
        for factor in (((back * self.d[:, None]) @ forth) * self.a[:, None]).unbind():
            x = factor @ x
        return self.square.reduce(x.t()).t()

    def _reordered(self, matrix: Tensor, inside: bool) -> Tensor:
        """Return a matrix (N, N) with its rows in the order inside, or after, all factors; (L − 1, N, N) where these differ."""
        return torch.cat([matrix[::2], matrix[1::2]]) if self.riffles_inside or not inside else matrix

    def apply_factors(self, x: Tensor) -> Tensor:
        """Map the channels of (B, i, H, W) as columns."""
        rows = x.to(self.a.dtype).permute(0, 2, 3, 1)  # sums of many factors want full precision
        mapped = self.map_columns(rows.reshape(-1, self.in_channels).t()).t().contiguous()
        return mapped.view(*rows.shape[:3], self.out_channels).permute(0, 3, 1, 2)

    def applies_factors(self, pixels: int) -> bool:
        """Return whether a training step transforms all pixels faster than the unit vectors, by the speeds of this run.

        Never where the matrix takes a few kernels of a GPU.
        """
        if self.a.is_cuda and forms_matrices(self.a, self.in_channels):
            return False
        size, transforms = self.square.size, 2 * len(self.a)
        return cosine_costs.applies_factors(size, transforms, self.in_channels, self.out_channels, pixels)

    def form_constants(self) -> None:
        """Form the matrices of the transforms, for few columns and for many."""
        form_constants(self.a, self.permutations() is None, self.riffles_inside)

    def spared_by_factors(self) -> int:
        """Return 0: where the matrix is kept, it is faster, whatever multiply-adds say (3 to 4 times at N = 320 and 640)."""
        return 0

    def _transforms(self, rows: int) -> int:
        """Return the multiply-adds of `rows` rows: two DCTs a factor by FFT, 2.5·N·log₂N each."""
        n = self.square.size
        return round(len(self.a) * 2 * 2.5 * n * math.log2(n) * rows)

    def factor_mult_adds(self, pixels: int) -> int:
        """Return those of the transforms of all pixels."""
        return self._transforms(pixels)

    def rebuild_mult_adds(self) -> int:
        """Return those of the transforms of i unit vectors."""
        return self._transforms(self.in_channels)

    def parameter_count(self) -> int:
        """Return 2N(L − 1)."""
        return 2 * len(self.a) * self.square.size

    def mult_adds(self, in_pixels: int, out_pixels: int) -> int:
        """Return min((L − 1)·(4N + 5N·log₂N), N²) a pixel: of the block's input where a depthwise precedes the map."""
        n = self.square.size
        pixels = in_pixels if self.before_stride else out_pixels
        return round(min(len(self.a) * (4 * n + 5 * n * math.log2(n)), n * n) * pixels)

    @property
    def degree(self) -> int:
        """The number of diagonals."""
        return 2 * len(self.a)

    def draw(self, generator: Generator | None = None) -> None:
        """Draw A and D from N(1, 0.01²)."""
        for diagonal in (self.a, self.d):
            draw_normal(diagonal, 0.01, generator)
            diagonal.add_(1)

    @torch.no_grad()
    def rms(self) -> Tensor:
        """Return the root mean square of the matrix, of a large one an estimate from random rows."""
        rows = torch.eye(self.in_channels)
        if self.in_channels > PROBES:
            rows = torch.randn(PROBES, self.in_channels, generator=torch.Generator().manual_seed(0)) / PROBES**0.5
        return self.map_columns(rows.to(self.a).t()).pow(2).sum().div(self.in_channels * self.out_channels).sqrt()

    def setting(self) -> str:
        """Return the size of the square map and the number of factors."""
        return f"N={self.square.size} factors={len(self.a)}"


class OriginalACDC(ACDC):
    """ACDC without the riffle inside a factor: M = A·C·D·C⁻¹, as in the paper."""

    riffles_inside = False

    def slowed_parameters(self) -> dict[nn.Parameter, float]:
        """Return min(1, 4/(L − 1)) of both: near the start L − 1 numbers of A scale each channel, and their steps add up.

        So nearly do those of D, by the eigenvalues of their Jacobian (research-log.md, 2026-11-27).
        """
        return dict.fromkeys((self.a, self.d), rate_of_sum(len(self.a)))


class PermutedACDC(Seeded, ACDC):
    """ACDC with a seeded random permutation in place of every riffle."""

    def __init__(self, spec: ConvSpec, length: int = 12, key: int = 0):
        super().__init__(spec, length, key)
        self.key = key

    def _find_structure(self) -> tuple[Tensor, ...]:
        """Return the permutations of all factors, (2(L − 1), N)."""
        keys = [derived_key(self.key, factor, place) for factor in range(len(self.a)) for place in ("inside", "after")]
        return (torch.stack([permutation(self.square.size, each, self.a.device) for each in keys]),)

    def permutations(self) -> Tensor:
        """Return them."""
        return self.structure()[0]

    def _reordered(self, matrix: Tensor, inside: bool) -> Tensor:
        """Return a matrix (N, N) with its rows in the order inside, or after, each factor: (L − 1, N, N)."""
        orders = self.recorded_structure(0)[0 if inside else 1 :: 2]
        return matrix.index_select(0, orders.flatten()).view(*orders.shape, -1)
