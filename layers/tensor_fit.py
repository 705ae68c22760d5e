"""Closed forms and alternating least squares of tensor decompositions, in double precision.

tensor_train(tensor, [4, 3])         # cores 1×n₁×4, 4×n₂×3, 3×n₃×1
"""

import torch
from torch import Tensor

SWEEPS, RIDGE = 12, 1e-6  # of alternating least squares


def tensor_train(tensor: Tensor, ranks: list[int]) -> list[Tensor]:
    """Truncate singular value decompositions from left to right: TT-SVD, Oseledets 2011, algorithm 1.

    Returns cores r_{j−1}×n_j×r_j. A rank is lower than asked where the rest has no more.
    """
    cores, before, rest = [], 1, tensor
    for size, rank in zip(tensor.shape, ranks):
        rest = rest.reshape(before * size, -1)
        u, s, vt = torch.linalg.svd(rest, full_matrices=False)
        rank = min(rank, len(s))
        cores.append(u[:, :rank].reshape(before, size, rank))
        rest, before = s[:rank, None] * vt[:rank], rank
    return [*cores, rest.reshape(before, tensor.shape[-1], 1)]


def unfold(tensor: Tensor, j: int) -> Tensor:
    """Return the unfolding (n_j, the rest) along dimension j."""
    return tensor.movedim(j, 0).flatten(1)


def leading(tensor: Tensor, j: int, count: int) -> Tensor:
    """Return the first `count` left singular vectors of the unfolding along j, (n_j, count) or fewer."""
    unfolded = unfold(tensor, j)
    return torch.linalg.eigh(unfolded @ unfolded.t())[1].flip(1)[:, :count]


def tucker(tensor: Tensor, ranks: list[int]) -> tuple[list[Tensor], Tensor]:
    """Take the higher-order singular value decomposition: De Lathauwer, De Moor & Vandewalle 2000.

    Returns factors n_j×R_j and the core R_1×…×R_d.
    """
    factors = [leading(tensor, j, rank) for j, rank in enumerate(ranks)]
    core = tensor
    for factor in factors:
        core = torch.tensordot(core, factor, ([0], [0]))  # drops dimension j in front, appends R_j behind
    return factors, core


def canonical(tensor: Tensor, rank: int) -> list[Tensor]:
    """Take alternating least squares from the leading singular vectors: Kolda & Bader 2009, figure 3.3.

    Where a dimension has fewer than `rank` of them, the others are drawn. A matrix is the product of two cores.
    Returns factors n_j×R.
    """
    if tensor.ndim == 2:
        left, right = tensor_train(tensor, [rank])
        return [left[0], right[:, :, 0].t()]
    generator = torch.Generator().manual_seed(0)
    factors = []
    for j, size in enumerate(tensor.shape):
        drawn = torch.randn(size, rank, generator=generator, dtype=tensor.dtype).to(tensor.device) / size**0.5
        first = leading(tensor, j, rank)
        factors.append(torch.cat([first, drawn[:, first.shape[1] :]], 1))
    eye = RIDGE * torch.eye(rank, dtype=tensor.dtype, device=tensor.device)
    for _ in range(SWEEPS):
        for j in range(tensor.ndim):
            others = [factor for place, factor in enumerate(factors) if place != j]
            grams = torch.stack([factor.t() @ factor for factor in others]).prod(0)
            grams = grams + eye * grams.trace() / rank
            factors[j] = torch.linalg.solve(grams, _contract(tensor, factors, j), left=False)
            if j < tensor.ndim - 1:  # the last one keeps the scale
                factors[j] = factors[j] / factors[j].norm(dim=0).clamp(min=1e-30)
    return factors


def _contract(tensor: Tensor, factors: list[Tensor], j: int) -> Tensor:
    """Return the unfolding along j times the column by column Kronecker product of the other factors, (n_j, R)."""
    result = tensor.movedim(j, 0)
    others = [factor for place, factor in enumerate(factors) if place != j]
    result = torch.tensordot(result, others[-1], 1)  # (n_j, …, R)
    for factor in reversed(others[:-1]):
        result = (result * factor).sum(-2)
    return result
