"""Small factors of ACDC as matrices, M = P·C·D·P′·C^T·A, formed all at once.

matrices = Matrices(a, d, None, True)                   # a, d: (11, 64)
factors, states = places(x, a, x.new_empty(0))
y = matrices.apply(x, factors, states)                  # x, y: (64, R)
"""

from functools import lru_cache

import torch
from torch import Tensor

from layers.cosine import transform

SPACE = 1 << 30  # bytes that factors formed as matrices may take on a GPU, with all that their gradients need
SMALL = 96  # channels up to which a factor is formed as a matrix: the calls, not the products, take the time
SMALL_ON_GPU = 1024  # of 640 channels: ten kernels a factor and its gradient one by one, three as a matrix


def riffle(n: int) -> list[int]:
    """Return the order of the riffle: of N channels the even ones first, then the odd ones."""
    return [*range(0, n, 2), *range(1, n, 2)]


def riffles(n: int, inside: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the orders (N,) inside a factor, where there is one, and after it."""
    order = torch.tensor(riffle(n), device=device)
    return order if inside else torch.arange(n, device=device), order


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def riffled_matrices(n: int, inside: bool, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return P′·C^T and P·C, (N, N), of the riffles inside and after a factor."""
    cosine, (within, after) = transform("direct", n, dtype, device), riffles(n, inside, device)
    return cosine.forth[within], cosine.back[after]


def forms_matrices(a: Tensor, columns: int) -> bool:
    """Return whether the factors with diagonals a (F, N) are formed as matrices, to be applied to so many columns.

    On a GPU, where a kernel takes longer to be launched than to run, whenever their states and gradients fit in SPACE.
    """
    factors, n = a.shape
    if columns > 2 * n:
        return False
    if a.is_cuda:
        return n <= SMALL_ON_GPU and 6 * factors * n * max(n, columns) * a.element_size() <= SPACE
    return n <= SMALL


def places(x: Tensor, a: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of the factors (F, N, N) and of what each is given (F, N, R), in `kept` or in new memory."""
    (factors, n), columns = a.shape, x.shape[1]
    space = kept if len(kept) else x.new_empty(factors * n * (n + columns))
    end = factors * n * n
    return space[:end].view(factors, n, n), space[end:].view(factors, n, columns)


class Matrices:
    """The factors with diagonals a, d (F, N) and permutations (2F, N) or, where that is None, riffles."""

    def __init__(self, a: Tensor, d: Tensor, permutations: Tensor | None, inside: bool):
        n, self.a, self.d = a.shape[1], a, d
        if permutations is None:
            self.forth, self.back = riffled_matrices(n, inside, a.dtype, a.device)
        else:
            cosine = transform("direct", n, a.dtype, a.device)
            self.forth, self.back = cosine.forth[permutations[::2]], cosine.back[permutations[1::2]]

    def apply(self, x: Tensor, factors: Tensor, states: Tensor) -> Tensor:
        """Write the factors to `factors` (F, N, N), what each is given to `states` (F, N, R); return the result of the last."""
        torch.matmul(self.back * self.d[:, None], self.forth, out=factors).mul_(self.a[:, None])
        factors, states = factors.unbind(), states.unbind()
        states[0].copy_(x)
        for factor, state, next_state in zip(factors, states, states[1:]):
            torch.mm(factor, state, out=next_state)
        return torch.mm(factors[-1], states[-1])

    def gradients(self, slope: Tensor, factors: Tensor, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x, a and d from that of the result."""
        slopes = torch.empty_like(states)
        slopes[-1] = slope
        each = slopes.unbind()
        for factor, slope, next_slope in zip(reversed(factors.unbind()), reversed(each), reversed(each[:-1])):
            torch.mm(factor.t(), slope, out=next_slope)
        by_factor = torch.bmm(slopes, states.transpose(1, 2))
        entries = torch.matmul(self.back.transpose(-2, -1), by_factor).mul_(self.forth)  # of D·(P′·C^T)·A
        by_a = torch.bmm(self.d[:, None], entries)[:, 0]
        return torch.mm(factors[0].t(), each[0]), by_a, (entries * self.a[:, None]).sum(2)
