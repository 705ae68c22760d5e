"""The orthonormal DCT-II down the columns of a matrix, and its inverse, in three exact forms.

Direct: a product with the constant N×N matrix. Staged: N = N₁·N₂, products with constant matrices of N₁ and 2N₂ rows, as in
the common-factor FFT (Cooley & Tukey 1965, "An algorithm for the machine calculation of complex Fourier series"), but real
and with every twiddle inside a constant. FFT: a real FFT of the reordered column (Makhoul 1980, "A fast cosine transform in
one and two dimensions"). Small sizes are fastest as products, sizes without a good N₁ as FFT: layers/cosine_costs.py chooses.

Staged and FFT want their input in one order and give their output in another, so permutations around them cost nothing:
`inputs` and `outputs` (N,) are these orders, `inputs_back` and `outputs_back` their inverses.

    form = transform("staged", 640, torch.float32, torch.device("cpu"))
    analyse, synthesise = form.bound(x, y, spare)   # (640, R) each
    x.copy_(columns[form.inputs])
    analyse()                                       # y becomes C^T·columns, its row j is number form.outputs[j]
"""

import math
from collections.abc import Callable
from copy import copy
from functools import lru_cache, partial

import torch
from torch import Tensor

FORMS = ("direct", "staged", "fft")
Bound = tuple[Callable[[], object], Callable[[], object]]  # what writes C^T·x to another buffer, and what writes C·x


def cosine_matrix(n: int, device: torch.device | None = None) -> Tensor:
    """Return C (N, N), float64: C[m, k] = √(2/N)·s_k·cos(π(2m+1)k/2N), s_0 = 1/√2, else 1. C is orthogonal."""
    angle = torch.outer(2 * torch.arange(n, device=device) + 1, torch.arange(n, device=device)) % (4 * n)
    matrix = (angle.double() * (math.pi / (2 * n))).cos() * math.sqrt(2 / n)
    matrix[:, 0] /= math.sqrt(2)
    return matrix


def recorded_cosine_matrix(n: int) -> Tensor:
    """Return C (N, N), float32, by a few operators that a graph can hold in place of its numbers.

    Angles are brought to [−π/2, π/2] in whole numbers first, as cos(πm/2N) = sin(π(N − m)/2N), so C is exact to rounding.
    """
    angle = (2 * torch.arange(n)[:, None] + 1) * torch.arange(n) % (4 * n)
    angle = n - torch.minimum(angle, 4 * n - angle)
    scale = torch.where(torch.arange(n) == 0, math.sqrt(1 / n), math.sqrt(2 / n))
    return (angle.float() * (math.pi / (2 * n))).sin() * scale


def split(n: int) -> tuple[int, int] | None:
    """Return (N₁, N₂) with N = N₁·N₂, N₁ even, for which N₁ + 2N₂ is least; None where N is odd."""
    splits = [(first, n // first) for first in range(2, n + 1, 2) if n % first == 0]
    return min(splits, key=lambda pair: (pair[0] + 2 * pair[1], pair[0]), default=None)


def makhoul(n: int) -> list[int]:
    """Return the order of a row whose Fourier transform gives its cosine transform: even places, odd ones backwards."""
    return [*range(0, n, 2), *reversed(range(1, n, 2))]


class Direct:
    """A product with C^T, one with C."""

    def __init__(self, n: int, dtype: torch.dtype, device: torch.device):
        self.inputs = self.outputs = self.inputs_back = self.outputs_back = torch.arange(n, device=device)
        self.forth = cosine_matrix(n, device).t().to(dtype)
        self.back = self.forth.t()

    def transposed(self) -> "Direct":
        """Return the gradients of both: that of a product with C^T is a product with C."""
        other = copy(self)
        other.forth, other.back = self.back.t(), self.forth.t()
        return other

    def bound(self, x: Tensor, out: Tensor, spare: Tensor) -> Bound:
        """Return the two for these buffers, (N, R)."""
        return partial(torch.mm, self.forth, x, out=out), partial(torch.mm, self.back, x, out=out)


class Staged:
    """Two products: a real Fourier transform over n₁, then one over n₂ for each pair ±k₁ of its frequencies.

    With n = N₂·n₁ + n₂ the first gives, for each n₂, the parts (real, imaginary) of N₁/2 − 1 frequencies k₁ and, as the
    first pair, those of 0 and N₁/2, which are real. X_k depends on the pair of k mod N₁ alone, whose outputs (k ≡ ±k₁) are
    2N₂ like its inputs. The second matrices are what is left of C^T after the first, which is orthogonal.
    """

    def __init__(self, n: int, dtype: torch.dtype, device: torch.device):
        first, second = split(n)
        half = first // 2
        pairs = [(0, half), *((k, first - k) for k in range(1, half))]
        outputs = [[k + first * step for k in pair for step in range(second)] for pair in pairs]
        self.stages, self.pairs = (first, -1), (half, 2 * second, -1)
        self.inputs = torch.tensor(makhoul(n), device=device)
        self.outputs = torch.tensor(outputs, device=device).flatten()
        self.inputs_back, self.outputs_back = self.inputs.argsort(), self.outputs.argsort()
        place, k = torch.arange(first, device=device), torch.arange(half, device=device)
        angle = (torch.outer(k, place) % first).double() * (2 * math.pi / first)
        stage = torch.stack([angle.cos(), -angle.sin()], 1) * math.sqrt(2 / first)  # (N₁/2, 2, N₁)
        stage[0, 0], stage[0, 1] = first**-0.5, (1 - 2 * (place % 2)).double() * first**-0.5
        whole = cosine_matrix(n, device).t()[self.outputs][:, self.inputs].view(half, 2 * second, first, second)
        rest = torch.einsum("gkms,gpm->gkps", whole, stage).reshape(half, 2 * second, 2 * second)
        self.first, self.second = stage.view(first, first).to(dtype), rest.to(dtype)
        self.first_back, self.second_back = self.first.t(), self.second.transpose(1, 2)

    def transposed(self) -> "Staged":
        """Return the gradients of both, which are each other: C is orthogonal."""
        return self

    def bound(self, x: Tensor, out: Tensor, spare: Tensor) -> Bound:
        """Return the two for these buffers, (N, R) and contiguous; `spare` is overwritten."""
        stages, pairs = ([each.view(*shape) for each in (x, out, spare)] for shape in (self.stages, self.pairs))

        def analyse() -> None:
            torch.mm(self.first, stages[0], out=stages[2])
            torch.bmm(self.second, pairs[2], out=pairs[1])

        def synthesise() -> None:
            torch.bmm(self.second_back, pairs[0], out=pairs[2])
            torch.mm(self.first_back, stages[2], out=stages[1])

        return analyse, synthesise


class Fourier:
    """A real FFT: X_k = Re(t_k·V_k) and X_{N−k} = −Im(t_k·V_k), V that of the reordered column."""

    def __init__(self, n: int, dtype: torch.dtype, device: torch.device):
        half = n // 2 + 1
        self.size, self.mirrored = n, n - half
        self.inputs = torch.tensor(makhoul(n), device=device)
        self.outputs = torch.tensor([*range(half), *(n - k for k in range(1, n - half + 1))], device=device)
        self.inputs_back, self.outputs_back = self.inputs.argsort(), self.outputs.argsort()
        k = torch.arange(half, dtype=torch.float64, device=device)
        scale = ((2 - (k == 0).double()) / n).sqrt()
        self.twiddle = torch.polar(scale, k * (-math.pi / (2 * n))).to(dtype.to_complex())[:, None]
        self.inverse = self.twiddle.reciprocal()

    def transposed(self) -> "Fourier":
        """Return the gradients of both, which are each other: C is orthogonal."""
        return self

    def bound(self, x: Tensor, out: Tensor, spare: Tensor) -> Bound:
        """Return the two for these buffers, (N, R)."""
        return partial(self._analyse, x, out), partial(self._synthesise, x, out)

    def _analyse(self, x: Tensor, out: Tensor) -> None:
        spectrum = torch.fft.rfft(x, dim=0) * self.twiddle
        half = len(spectrum)
        out[:half] = spectrum.real
        torch.neg(spectrum.imag[1 : self.mirrored + 1], out=out[half:])

    def _synthesise(self, x: Tensor, out: Tensor) -> None:
        half = self.size // 2 + 1
        middle = x[half - 1 : half] if self.mirrored < half - 1 else x[:0]  # of an even N, X_{N/2} is its own mirror
        spectrum = torch.complex(x[:half], -torch.cat([torch.zeros_like(x[:1]), x[half:], middle]))
        torch.fft.irfft(spectrum * self.inverse, self.size, dim=0, out=out)


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def transform(form: str, n: int, dtype: torch.dtype, device: torch.device) -> Direct | Staged | Fourier:
    """Return the transform of size N in one of FORMS. Staged is for even N alone."""
    return {"direct": Direct, "staged": Staged, "fft": Fourier}[form](n, dtype, device)
