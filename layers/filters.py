"""Fit W[o, i] = M[o, i]·D[i]: for every matrix M the best filters D are known, so only M is searched.

For a matrix M the best filters (with a ridge λ) are D[i] = Σ_o M[o, i]·W[o, i] / (Σ_o M[o, i]² + λ). With them the
error is a function of M alone: variable projection (Golub & Pereyra 1973). Its gradient is that at fixed filters, since
the error's gradient with respect to the filters is zero. Filters that share numbers have the sums over each number's entries in
both places.

    approximate_separable(block, kernel, block.map, …)
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from layers.descent import Objective
from layers.gradient import CALL, ENTRY, drawn_squares, search
from layers.scale import dense_scale


class FilterProjection(Objective):
    """The least error ‖M·D − kernel‖² / ‖kernel‖² that any filters reach beside the matrix M.

    Args: matrix: forms M, (o, i), from `parameters`; filters: the parameter that is solved for; pool: sums entries of
    filters (i·k²,) that share a number, to its shape; spread: the reverse, from numbers to (i, k²).
    """

    def __init__(
        self, block: nn.Module, kernel: Tensor, penalty: float, matrix: Callable[[], Tensor],
        parameters: list[nn.Parameter], filters: nn.Parameter,
        pool: Callable[[Tensor], Tensor] | None = None, spread: Callable[[Tensor], Tensor] | None = None,
    ):  # fmt: skip
        *squares, square = drawn_squares(block, [*parameters, filters])
        super().__init__(parameters, squares, penalty)
        self.slices = kernel.permute(1, 2, 3, 0).flatten(1, 2).contiguous()  # (i, k², o)
        self.size = kernel.double().pow(2).sum()
        self.by = 2 / self.size.item()
        self.matrix, self.filters = matrix, filters
        self.pool, self.spread = pool or (lambda entries: entries), spread or (lambda numbers: numbers)
        self.ridge = penalty * self.size.item() / (filters.numel() * square.item())
        self.mult_adds = CALL + ENTRY * kernel.numel() + block.weight_mult_adds()

    def _solve(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of the best filters beside M, and how much of ‖kernel‖² they take away."""
        along = torch.bmm(self.slices, matrix.t().unsqueeze(2)).squeeze(2)  # (i, k²)
        squares = matrix.pow(2).sum(0)[:, None].expand_as(along)
        along, squares = self.pool(along.flatten()), self.pool(squares.flatten())
        numbers = along / (squares + self.ridge).clamp(min=torch.finfo(along.dtype).tiny)
        return numbers, along.double().dot(numbers.double())

    def _error(self) -> tuple[Tensor, Tensor]:
        matrix = self.matrix()
        value = matrix.detach()
        numbers, taken = self._solve(value)
        filters = self.spread(numbers).view(self.slices.shape[:2])
        residual = filters.pow(2).sum(1) * value - torch.bmm(filters[:, None], self.slices)[:, 0].t()
        return 1 - taken / self.size, (matrix * residual).sum() * self.by

    def solve(self) -> None:
        """Set the filters to the best beside the present matrix."""
        self.filters.copy_(self._solve(self.matrix())[0].view_as(self.filters))


def leading_filters(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return each input channel's filter (i, k²) of norm 1 and column, as a matrix (o, i), in double precision.

    They are the first singular triple of the (o, k²) slice: the nearest product of the two.
    """
    slices = kernel.transpose(0, 1).flatten(2).double()  # (i, o, k²)
    filters = torch.linalg.eigh(slices.transpose(1, 2) @ slices)[1][:, :, -1]
    return filters, torch.bmm(slices, filters[:, :, None])[:, :, 0].t()


def unit_of(kernel: Tensor) -> float:
    """Return the root mean square of a kernel (o, i, k, k), over that of a drawn one.

    Kernels are fitted in this unit, so that the penalty weighs the same whatever their scale.
    """
    fan_out = kernel.numel() // kernel.shape[1]
    return (kernel.double().pow(2).mean().sqrt() / dense_scale(fan_out)).item()


def search_filters(block: nn.Module, kernel: Tensor, effort: float, penalty: float, **form) -> None:
    """Search the matrix and solve for the filters of `block`, in place. `form`: those of `FilterProjection`."""
    unit = unit_of(kernel)
    form["filters"].data.div_(unit)
    block._balance()
    search(FilterProjection(block, kernel / unit, penalty, **form), block, effort)
    form["filters"].data.mul_(unit)
