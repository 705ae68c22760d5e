"""Descend from one start: L-BFGS (Nocedal & Wright 2006, algorithm 7.5) over the parameters of an `Objective`.

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
        pairs = list(zip(parameters, squares, strict=True))
        self.parameters, self.evaluations = parameters, 0
        weights = [0.0 if square is None else penalty / (square.item() * p.numel()) for p, square in pairs]
        self._weights = torch.cat([p.new_full((p.numel(),), weight) for (p, _), weight in zip(pairs, weights)])

    @abstractmethod
    def _error(self) -> tuple[Tensor, Tensor]:
        """Return the error ‖…‖² / ‖kernel‖² at the present parameters, and a scalar that has the same gradient.

        The scalar, not gradients of tensors between: with those, autograd imports sympy, which takes half a second.
        """

    def solve(self) -> None:  # noqa: B027 (nothing is solved for, unless a subclass says so)
        """Set what is solved for to its best values beside the present parameters."""

    @torch.no_grad()
    def __call__(self) -> tuple[float, Tensor]:
        """Return the value and the gradient (n,) at the present parameters."""
        self.evaluations += 1
        with torch.enable_grad():
            value, scalar = self._error()
        found = torch.autograd.grad(scalar, self.parameters, allow_unused=True, materialize_grads=True)
        values = self.at()
        penalties = self._weights * values
        gradient = torch.cat([each.flatten() for each in found]).add_(penalties, alpha=2)
        value, length = torch.stack([value.double() + penalties.dot(values), gradient.norm().double()]).tolist()
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


class Curvature:
    """What the last steps and the changes of the gradient along them, both (n,), tell of the inverse Hessian.

    It is kept as products of these with each other, and multiplied in a few calls: Byrd, Nocedal & Schnabel 1994,
    equation 3.1, the same as the two-loop recursion. `upper` has the products of each step with the changes that are no older.
    """

    def __init__(self, like: Tensor):
        self.count = 0
        self.steps, self.changes = like.new_empty(2, HISTORY, len(like)).unbind()
        self.upper, self.grams = torch.zeros(2, HISTORY, HISTORY, dtype=torch.float64, device=like.device).unbind()

    def add(self, step: Tensor, change: Tensor) -> None:
        """Take in a step with positive curvature, in place of the oldest."""
        place, self.count = self.count % HISTORY, self.count + 1
        used = min(self.count, HISTORY)
        self.steps[place], self.changes[place] = step, change
        by_steps, by_changes = (rows[:used].mv(change).double() for rows in (self.steps, self.changes))
        self.upper[place] = 0
        self.upper[:used, place] = by_steps
        self.grams[place, :used] = self.grams[:used, place] = by_changes
        self.scale = by_steps[place] / by_changes[place]

    def direction(self, gradient: Tensor) -> Tensor:
        """Return minus the inverse Hessian times the gradient."""
        if not self.count:
            return -gradient
        used = min(self.count, HISTORY)
        steps, changes = self.steps[:used], self.changes[:used]
        upper = self.upper[:used, :used]
        by_steps, by_changes = (rows.mv(gradient).double() for rows in (steps, changes))
        shares = torch.linalg.solve_ex(upper, by_steps)[0]
        rest = upper.diagonal() * shares + self.scale * (self.grams[:used, :used].mv(shares) - by_changes)
        of_steps = torch.linalg.solve_ex(upper.t(), rest)[0]
        along = changes.t().mv((self.scale * shares).to(gradient)) - steps.t().mv(of_steps.to(gradient))
        return along - self.scale.to(gradient) * gradient


@torch.no_grad()
def descend(objective: Objective, iterations: int) -> float:
    """Take at most so many iterations from the present parameters. Return the value that was reached."""
    x, (value, gradient) = objective.at(), objective()
    values, curvature = [value], Curvature(x)
    for _ in range(iterations):
        direction = curvature.direction(gradient)
        slope = gradient.dot(direction).item()
        if not slope < 0 and curvature.count:
            curvature, direction = Curvature(x), -gradient
            slope = gradient.dot(direction).item()
        if not slope < 0:
            break
        if not curvature.count:
            by = FIRST * (x.norm() / direction.norm()).item() or 1.0
            direction, slope = by * direction, by * slope
        length = _length(objective, x, value, direction, slope)
        if length is None:
            break
        step, (value, reached) = length
        change = reached - gradient
        if step.dot(change) > 1e-10 * change.dot(change):
            curvature.add(step, change)
        x, gradient = x + step, reached
        values.append(value)
        if len(values) > SPAN and values[-1 - SPAN] - value < LEAST_GAIN * value:
            break
    objective.put(x)
    objective.solve()
    return value


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
