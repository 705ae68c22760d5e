"""Approximate a dense kernel by gradient, where no closed form of the nearest one is known.

The error has many valleys. So the descent starts from the closed form, where the family has one, and from as many draws
as the work allows, and goes on with the best by successive halving (Jamieson & Talwalkar 2016, 1502.07943).

    approximate_by_gradient(block, kernel)       # kernel: (o, i, k, k)
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Work is counted in multiply-adds, not in seconds, so that results are the same on every machine. An evaluation takes
# at least as long as CALL multiply-adds, one pass over an entry of the kernel as long as ENTRY.
WORK, CALL, ENTRY = 2 * 10**10, 10**6, 5
DRAWS, STEPS, RATES = 36, 200, (0.1, 0.03, 0.01)  # so many draws take so many steps of Adam, at rates in turn
ROUNDS = ((12, 150), (3, 600))  # (survivors, iterations of L-BFGS) of each round
LEAST = 120  # iterations of a round, however little work is allowed

Reached = tuple[float, int, list[Tensor]]  # the error, the number of the draw, the parameters


def approximate_by_gradient(block: nn.Module, kernel: Tensor, work: int = WORK, penalty: float = 0.0) -> None:
    """Minimise ‖weight() − kernel‖² / ‖kernel‖² over the parameters of a `layers.base.Block`, in place.

    Half of `work` (multiply-adds) pays for draws that take steps of Adam, which finds better valleys than L-BFGS does
    from a draw. The best of them and the present parameters go on by L-BFGS for a quarter of the work, the best of
    those for another quarter, and the nearest is kept.

    A `penalty` times the mean squares of the parameters (each over its own when drawn) is added to the error. It keeps
    away from nearest kernels in which large factors cancel, and which SGD then cannot train.
    """
    evaluations = work // (CALL + ENTRY * kernel.numel() + block.weight_mult_adds())
    parameters = list(block.parameters())
    objective = _objective(block, kernel, penalty)

    def reached(order: int) -> Reached:
        values = [parameter.detach().clone() for parameter in parameters]
        return objective().nan_to_num(torch.inf).item(), order, values

    best, found = reached(-1), []
    for draw in range(min(evaluations // (2 * STEPS), DRAWS)):
        block.reset_parameters(torch.Generator().manual_seed(draw))
        adam = torch.optim.Adam(parameters, RATES[draw % len(RATES)])
        for _ in range(STEPS):
            adam.step(objective)
        found.append(reached(draw))
    for survivors, iterations in ROUNDS:
        survivors = min(evaluations // (4 * iterations), survivors, len(found))
        iterations = min(max(evaluations // (4 * (survivors + 1)), LEAST), iterations)
        starts, found = [best, *sorted(found)[:survivors]], []
        for _, order, values in starts:
            _put(parameters, values)
            torch.optim.LBFGS(
                parameters, max_iter=iterations, history_size=20, line_search_fn="strong_wolfe",
                tolerance_grad=1e-8, tolerance_change=1e-10,
            ).step(objective)  # fmt: skip
            found.append(reached(order))
        best = min(found)
        found.remove(best)
    _put(parameters, best[2])
    for parameter in parameters:
        parameter.grad = None


def _objective(block: nn.Module, kernel: Tensor, penalty: float) -> Callable[[], Tensor]:
    """Return a function that computes the penalised error and its gradient at the present parameters."""
    size = kernel.pow(2).sum()
    parameters = list(block.parameters())
    present = [parameter.detach().clone() for parameter in parameters]
    block.reset_parameters(torch.Generator().manual_seed(0))
    drawn = [(parameter, parameter.detach().pow(2).mean()) for parameter in parameters if parameter.any()]  # no biases
    _put(parameters, present)

    @torch.enable_grad()
    def objective() -> Tensor:
        for parameter in parameters:
            parameter.grad = None
        error = (block.weight() - kernel).pow(2).sum() / size
        if penalty:
            error = error + penalty * sum(parameter.pow(2).mean() / square for parameter, square in drawn)
        error.backward()
        return error.detach()

    return objective


@torch.no_grad()
def _put(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
