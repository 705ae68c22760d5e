"""Descend from one start: L-BFGS (Nocedal & Wright 2006, algorithms 7.4 and 7.5) over the parameters of an `Objective`.

    error = descend(objective, iterations=100)     # the parameters are where it was reached

It does what torch.optim.LBFGS does, without the imports of a compiler and with one wait for the device an evaluation.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

HISTORY = 20  # pairs of steps and changes of the gradient that are kept
FIRST = 0.05  # the length of the first step, times the norm of the parameters
SUFFICIENT, CURVATURE, TRIALS = 1e-4, 0.9, 12  # the weak Wolfe conditions, and how many lengths of a step are tried
SPAN, LEAST_GAIN = 10, 2e-4  # a descent ends when so many iterations gain no more than this share of the value


class Objective(ABC):
    """A penalised error as a function of `parameters`; what else it depends on is solved for.

    Args: squares: the mean square of each parameter when drawn, None for one that is not penalised.
    """

    mult_adds: int  # of one evaluation

    def __init__(self, parameters: list[Tensor], squares: list[Tensor | None], penalty: float):
        pairs = zip(parameters, squares, strict=True)
        self.parameters, self.evaluations = parameters, 0
        self._penalised = [(p, penalty / square) for p, square in pairs if penalty and square is not None]

    @abstractmethod
    def _error(self) -> Tensor:
        """Return the error ‖…‖² / ‖kernel‖² at the present parameters, and add its gradient to theirs."""

    def solve(self) -> None:  # noqa: B027 (nothing is solved for, unless a subclass says so)
        """Set what is solved for to its best values beside the present parameters."""

    def __call__(self) -> tuple[float, Tensor]:
        """Return the value and the gradient (n,) at the present parameters."""
        self.evaluations += 1
        for parameter in self.parameters:
            parameter.grad = None
        value = self._error().detach()
        with torch.no_grad():
            for parameter, weight in self._penalised:
                value = value + weight * parameter.pow(2).mean()
                gradient = parameter * (2 * weight / parameter.numel())
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
            for parameter in self.parameters:
                parameter.grad = None
            gradient = torch.cat([each.flatten() for each in grads])
            value, length = torch.stack([value.double(), gradient.norm().double()]).tolist()
        return (value if math.isfinite(value + length) else math.inf), gradient

    @torch.no_grad()
    def at(self) -> Tensor:
        """Return the present parameters, (n,)."""
        return torch.cat([parameter.flatten() for parameter in self.parameters])

    @torch.no_grad()
    def put(self, values: Tensor) -> None:
        """Set the parameters."""
        for parameter, value in zip(self.parameters, values.split([p.numel() for p in self.parameters])):
            parameter.copy_(value.view_as(parameter))


def send_back(matrices: list[Tensor], gradients: list[Tensor]) -> None:
    """Add to the gradients of the parameters that form `matrices` what follows from those of the matrices.

    As of a scalar: torch.autograd.backward with gradients imports sympy, which takes half a second.
    """
    with torch.enable_grad():
        sum((matrix * gradient).sum() for matrix, gradient in zip(matrices, gradients, strict=True)).backward()


@torch.no_grad()
def descend(objective: Objective, iterations: int) -> float:
    """Take at most so many iterations from the present parameters. Return the value that was reached."""
    x, (value, gradient) = objective.at(), objective()
    values, pairs = [value], []
    for _ in range(iterations):
        direction = _direction(gradient, pairs)
        slope = gradient.dot(direction).item()
        if slope >= 0 and pairs:
            pairs, direction = [], -gradient
            slope = gradient.dot(direction).item()
        if not slope < 0:
            break
        if not pairs:
            by = FIRST * (x.norm() / direction.norm()).item() or 1.0
            direction, slope = by * direction, by * slope
        length = _length(objective, x, value, direction, slope)
        if length is None:
            break
        step, (value, reached) = length
        change = reached - gradient
        if (curved := step.dot(change)) > 1e-10 * change.dot(change):
            pairs = [*pairs[1 - HISTORY :], (step, change, 1 / curved)]
        x, gradient = x + step, reached
        values.append(value)
        if len(values) > SPAN and values[-1 - SPAN] - value < LEAST_GAIN * value:
            break
    objective.put(x)
    objective.solve()
    return value


def _direction(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Return minus the inverse Hessian, as the pairs tell it, times the gradient: the two-loop recursion."""
    direction, shares = -gradient, []
    for step, change, weight in reversed(pairs):
        shares.append(weight * step.dot(direction))
        direction -= shares[-1] * change
    if pairs:
        _, change, weight = pairs[-1]
        direction /= weight * change.dot(change)
    for (step, change, weight), share in zip(pairs, reversed(shares)):
        direction += (share - weight * change.dot(direction)) * step
    return direction


def _length(
    objective: Objective, x: Tensor, value: float, direction: Tensor, slope: float
) -> tuple[Tensor, tuple[float, Tensor]] | None:
    """Return a step that meets the weak Wolfe conditions, with value and gradient there; None if nothing is lower.

    Bisection, and doubling where no bound is known: Lewis & Overton 2013, algorithm 2.6.
    """
    low, high, length, best = 0.0, math.inf, 1.0, None
    for _ in range(TRIALS):
        step = length * direction
        objective.put(x + step)
        found, gradient = objective()
        if not found <= value + SUFFICIENT * length * slope:
            high = length
        else:
            best = step, (found, gradient)
            if gradient.dot(direction).item() >= CURVATURE * slope:
                break
            low = length
        length = 2 * low if high == math.inf else (low + high) / 2
    return best
