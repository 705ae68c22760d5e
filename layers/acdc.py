"""ACDC: a product of diagonals and cosine transforms.

ACDC: Moczulski, Denil, Appleyard & de Freitas 2015 (1511.05946), equation 4 and section 6: row vectors are mapped by
y = x·(M₁P)(M₂P)…, one factor M = A·C·P·D·C⁻¹ with A, D diagonal, C the orthonormal DCT-II and P a permutation, here the
riffle (even channels first, then odd). `ACDC_L` has L − 1 factors, as the published counts do. Maps that are not square
go through a square one of N channels (layers/square.py).

The DCT runs as a real FFT of the reordered row: Makhoul 1980, "A fast cosine transform in one and two dimensions".

    ACDC(ConvSpec(64, 128, 1), 12).matrix().shape          # (128, 64), from 11 · 2 · 128 parameters
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from layers.base import ChannelMap
from layers.scale import draw_normal
from layers.seeded import Seeded
from layers.spec import ConvSpec
from layers.square import Square
from system.hashing import key as derived_key
from system.hashing import permutation

PROBES = 256  # so many random rows estimate the root mean square of a larger matrix to 1 %


def riffle(x: Tensor) -> Tensor:
    """Return x·P: of the channels (…, N) the even ones first, then the odd ones."""
    return torch.cat([x[..., ::2], x[..., 1::2]], -1)


class Cosine(torch.autograd.Function):
    """x·C along the last dimension: X_k = √(2/N)·s_k·Σ_n x_n·cos(π(2n+1)k/2N), s_0 = 1/√2, else s_k = 1.

    C is orthogonal, so its transpose is its inverse, and each is the other's gradient.
    """

    @staticmethod
    def forward(ctx, x: Tensor, inverse: bool) -> Tensor:
        """Return x·C, or x·C⁻¹ where `inverse`."""
        ctx.inverse = inverse
        return _inverse_dct(x) if inverse else _dct(x)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        """Return the gradient with respect to x."""
        return (_dct(gradient) if ctx.inverse else _inverse_dct(gradient)), None


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _twiddle(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return √(2/N)·s_k·e^(−iπk/2N) for k up to N/2, (N // 2 + 1,) complex."""
    k = torch.arange(n // 2 + 1, dtype=torch.float64, device=device)
    scale = ((2 - (k == 0).double()) / n).sqrt()
    return torch.polar(scale, k * (-math.pi / (2 * n))).to(dtype.to_complex())


def _dct(x: Tensor) -> Tensor:
    n = x.shape[-1]
    spectrum = torch.fft.rfft(torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)) * _twiddle(n, x.dtype, x.device)
    return torch.cat([spectrum.real, -spectrum.imag[..., 1 : n - n // 2].flip(-1)], -1)


def _inverse_dct(x: Tensor) -> Tensor:
    n = x.shape[-1]
    mirrored = F.pad(x[..., n - n // 2 :].flip(-1), (1, 0))
    row = torch.fft.irfft(torch.complex(x[..., : n // 2 + 1], -mirrored) / _twiddle(n, x.dtype, x.device), n)
    out = torch.empty_like(x)
    out[..., ::2] = row[..., : (n + 1) // 2]
    out[..., 1::2] = row[..., (n + 1) // 2 :].flip(-1)
    return out


class ACDC(ChannelMap):
    """An o×i matrix of L − 1 factors: 2N(L − 1) parameters. The permutations in and after each factor are riffles."""

    def __init__(self, spec: ConvSpec, length: int = 12, key: int = 0):
        super().__init__(spec)
        self.square = Square(spec.in_channels, spec.out_channels)
        self.before_stride = spec.kernel_size > 1
        self.a = nn.Parameter(torch.empty(length - 1, self.square.size))
        self.d = nn.Parameter(torch.empty(length - 1, self.square.size))

    def permute_inside(self, x: Tensor, factor: int) -> Tensor:
        """Apply the permutation between the transform and its inverse to (…, N)."""
        return riffle(x)

    def permute_after(self, x: Tensor, factor: int) -> Tensor:
        """Apply the permutation after a factor to (…, N)."""
        return riffle(x)

    def map_rows(self, x: Tensor) -> Tensor:
        """Map rows (…, i) to (…, o)."""
        x = self.square.expand(x)
        for factor, (a, d) in enumerate(zip(self.a, self.d)):
            transformed = self.permute_inside(Cosine.apply(x * a, False), factor)
            x = self.permute_after(Cosine.apply(transformed * d, True), factor)
        return self.square.reduce(x)

    def matrix(self) -> Tensor:
        """Return the matrix (o, i): the map of the unit vectors."""
        return self.map_rows(torch.eye(self.in_channels, dtype=self.a.dtype, device=self.a.device)).t()

    def apply_factors(self, x: Tensor) -> Tensor:
        """Map the channels of (B, i, H, W) as rows."""
        rows = x.to(self.a.dtype).permute(0, 2, 3, 1)  # there is no transform in half precision
        return self.map_rows(rows).permute(0, 3, 1, 2)

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
        return self.map_rows(rows.to(self.a)).pow(2).sum().div(self.in_channels * self.out_channels).sqrt()

    def setting(self) -> str:
        """Return the size of the square map and the number of factors."""
        return f"N={self.square.size} factors={len(self.a)}"


class OriginalACDC(ACDC):
    """ACDC without the riffle inside a factor: M = A·C·D·C⁻¹, as in the paper."""

    def permute_inside(self, x: Tensor, factor: int) -> Tensor:
        """Return x as it is."""
        return x


class PermutedACDC(Seeded, ACDC):
    """ACDC with a seeded random permutation in place of every riffle."""

    def __init__(self, spec: ConvSpec, length: int = 12, key: int = 0):
        super().__init__(spec, length, key)
        self.key = key

    def _find_structure(self) -> tuple[Tensor, ...]:
        """Return two permutations (N,) a factor: inside, after."""
        keys = [derived_key(self.key, factor, place) for factor in range(len(self.a)) for place in ("inside", "after")]
        return tuple(permutation(self.square.size, each, self.a.device) for each in keys)

    def permute_inside(self, x: Tensor, factor: int) -> Tensor:
        """Apply the permutation inside a factor."""
        return x.index_select(-1, self.structure()[2 * factor])

    def permute_after(self, x: Tensor, factor: int) -> Tensor:
        """Apply the permutation after a factor."""
        return x.index_select(-1, self.structure()[2 * factor + 1])
