"""Learning-rate schedules: a function of t, the share of the epochs that are done.

rate = Cosine(0.1)
rate(t=0.5)                                  # 0.05
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[float], float]  # t, the share of the epochs that are done, to a learning rate


@dataclass(frozen=True)
class Step:
    """The rate times `ratio` at each of the `milestones`, which are shares of the run; from the milestone's epoch on."""

    lr: float
    milestones: tuple[float, ...]
    ratio: float

    def __call__(self, t: float) -> float:
        """Return the rate where the share t of the epochs is done."""
        return self.lr * self.ratio ** sum(t >= milestone for milestone in self.milestones)


@dataclass(frozen=True)
class Cosine:
    """½·lr·(1 + cos πt): Loshchilov & Hutter 2017 (1608.03983), equation 5, without restarts, down to 0."""

    lr: float

    def __call__(self, t: float) -> float:
        """Return the rate where the share t of the epochs is done."""
        return 0.5 * self.lr * (1 + math.cos(math.pi * t))
