"""Approximate a dense kernel by gradient, where no closed form of the nearest one is known.

The descent starts from the closed form, where the family has one. The error has many valleys, so a few draws compete
with it, and more where it soon ends.

    approximate_by_gradient(block, kernel)       # kernel: (o, i, k, k)
"""

import torch
from torch import Tensor, nn

from layers.descent import Objective, descend

# Work is counted in multiply-adds, not in seconds, so that results are the same on every machine. An evaluation takes
# at least as long as CALL multiply-adds, one pass over an entry of the kernel as long as ENTRY.
WORK, CALL, ENTRY = 6 * 10**8, 10**6, 5
FEW = 40  # the iterations that draws are judged by
FIRST, DRAWS = 3, 8  # draws that compete with the closed form, and later with each other
ITERATIONS = 100  # that the closed form takes, however little work is allowed, and the best draw


class JointObjective(Objective):
    """‖weight() − kernel‖² / ‖kernel‖² over all parameters of a `layers.base.Block`."""

    def __init__(self, block: nn.Module, kernel: Tensor, penalty: float):
        parameters = list(block.parameters())
        super().__init__(parameters, drawn_squares(block, parameters), penalty)
        self.block, self.kernel, self.size = block, kernel, kernel.pow(2).sum()
        self.mult_adds = CALL + ENTRY * kernel.numel() + block.weight_mult_adds()

    def _error(self) -> tuple[Tensor, Tensor]:
        error = (self.block.weight() - self.kernel).pow(2).sum() / self.size
        return error.detach(), error


def approximate_by_gradient(block: nn.Module, kernel: Tensor, effort: float = 1.0, penalty: float = 0.0) -> None:
    """Minimise ‖weight() − kernel‖² / ‖kernel‖² over the parameters of a `layers.base.Block`, in place.

    A `penalty` times the mean squares of the parameters (each over its own when drawn) is added to the error. It keeps
    away from nearest kernels in which large factors cancel, and which SGD then cannot train.
    """
    search(JointObjective(block, kernel, penalty), block, effort)


@torch.no_grad()
def search(objective: Objective, block: nn.Module, effort: float) -> None:
    """Descend from the present parameters of `block` or a draw until that gains little, or until the work is done.

    In place. Draws take a few iterations, and the best of them goes on. If less than half of the work is done then, more
    draws take their turn, and the lowest value is kept. `effort` multiplies the work.
    """
    evaluations, least = round(effort * WORK / objective.mult_adds), max(1, round(effort * ITERATIONS))
    draws = iter(range(evaluations))

    def best_draw(count: int) -> list[tuple[float, Tensor]]:
        """Return the lowest of so many draws after a few iterations; none of none."""
        found = []
        for _ in range(count):
            block.reset_parameters(torch.Generator().manual_seed(next(draws)))
            found.append((descend(objective, FEW), objective.at()))
        return sorted(found, key=_value)[:1]

    found = []
    if evaluations >= least + (FIRST + 1) * FEW:  # the closed form may lie in a poor valley
        found = [(descend(objective, FEW), objective.at()), *best_draw(FIRST)]
        objective.put(min(found, key=_value)[1])
    found.append((descend(objective, max(evaluations - objective.evaluations, least)), objective.at()))
    while drawn := best_draw(min(DRAWS, (evaluations // 2 - objective.evaluations - least) // FEW)):
        objective.put(drawn[0][1])
        found.append((descend(objective, least), objective.at()))
    objective.put(min(found, key=_value)[1])
    objective.solve()


def _value(reached: tuple[float, Tensor]) -> float:
    return reached[0]


@torch.no_grad()
def drawn_squares(block: nn.Module, parameters: list[nn.Parameter]) -> list[Tensor | None]:
    """Return the mean square of each of some parameters when `block` is drawn, None where that is 0 (biases)."""
    present = [parameter.clone() for parameter in block.parameters()]
    block.reset_parameters(torch.Generator().manual_seed(0))
    squares = [parameter.pow(2).mean() for parameter in parameters]
    for parameter, value in zip(block.parameters(), present, strict=True):
        parameter.copy_(value)
    return [square if square > 0 else None for square in squares]
