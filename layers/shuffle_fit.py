"""Fit W[o, i] = Σ_m G₂[o, m]·D[m]·G₁[m, i]: for every two matrices the best filters D are known, so only those are searched.

The filters are those of linear least squares: ((G₂ᵀG₂)∘(G₁G₁ᵀ) + λ)·D = R with R[m] = Σ G₂[o, m]·G₁[m, i]·W[o, i].
Variable projection: Golub & Pereyra 1973, as in layers/filters.py.
"""

import torch
from torch import Tensor, nn

from layers.descent import Objective
from layers.filters import unit_of
from layers.gradient import CALL, ENTRY, drawn_squares, search

JITTER = 1e-9  # of the mean diagonal: products of two channels may be alike


class ShuffleProjection(Objective):
    """The least error ‖weight() − kernel‖² / ‖kernel‖² that any filters reach beside the two grouped 1×1 parts."""

    def __init__(self, block: nn.Module, kernel: Tensor, penalty: float):
        parameters = [block.reduce, block.expand]
        *squares, square = drawn_squares(block, [*parameters, block.depthwise])
        super().__init__(parameters, squares, penalty)
        self.block, self.planes = block, kernel.permute(2, 3, 0, 1).flatten(0, 1).contiguous()  # (k², o, i)
        self.size = kernel.double().pow(2).sum()
        self.by = 2 / self.size.item()
        self.ridge = penalty * self.size.item() / (block.depthwise.numel() * square.item())
        self.mult_adds = CALL + ENTRY * kernel.numel() + block.weight_mult_adds()

    def _solve(self, expand: Tensor, reduce: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best filters (m, k²), how much of ‖kernel‖² they take away, and G₂ᵀ·planes (k², m, i)."""
        lifted = expand.t() @ self.planes
        sides = (lifted * reduce).sum(2).t().double()
        grams = ((expand.t() @ expand) * (reduce @ reduce.t())).double()
        diagonal = grams.diagonal()
        diagonal += self.ridge + JITTER * diagonal.mean() + torch.finfo(reduce.dtype).tiny
        filters = torch.linalg.solve(grams, sides)
        return filters.to(reduce), (filters * sides).sum(), lifted

    def _error(self) -> tuple[Tensor, Tensor]:
        matrices = self.block._expand_matrix(), self.block._reduce_matrix()
        expand, reduce = (matrix.detach() for matrix in matrices)
        filters, taken, lifted = self._solve(expand, reduce)
        common = filters @ filters.t()
        along = filters.t()[:, :, None]  # (k², m, 1)
        of_expand = expand @ (common * (reduce @ reduce.t())) - ((self.planes @ reduce.t()) * along.mT).sum(0)
        of_reduce = (common * (expand.t() @ expand)) @ reduce - (lifted * along).sum(0)
        scalar = (matrices[0] * of_expand).sum() + (matrices[1] * of_reduce).sum()
        return 1 - taken / self.size, scalar * self.by

    def solve(self) -> None:
        """Set the filters to the best beside the present matrices."""
        filters = self._solve(self.block._expand_matrix(), self.block._reduce_matrix())[0]
        self.block.depthwise.copy_(filters.view_as(self.block.depthwise))


@torch.no_grad()
def approximate_by_shuffle(block: nn.Module, kernel: Tensor, effort: float = 1.0, penalty: float = 0.0) -> None:
    """Search the grouped 1×1 parts of a `layers.shuffle.Shuffle` and solve for its filters, in place."""
    unit = unit_of(kernel)
    search(ShuffleProjection(block, kernel / unit, penalty), block, effort)
    block.depthwise.mul_(unit)
