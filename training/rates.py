"""Learning-rate schedules: a function of t, the share of the epochs that are done.

    schedule_of(config)(t=0.5)                   # the rate of a run when half of its epochs are done
    Cosine(0.1)(0.5)                             # 0.05

`Step` and `Cosine` hold for a whole epoch. The others change at every step.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat, takewhile
from typing import Any, ClassVar

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


@dataclass(frozen=True)
class Restarts:
    """½·lr·(1 + cos(π·t/T)) in cycles (SGDR): Loshchilov & Hutter 2017 (1608.03983), equation 5, at every step.

    t are the epochs since the last restart. T is `first` epochs, and `mult` times as many after each restart; the run has
    `epochs`. The step that begins a cycle has the full rate.
    """

    lr: float
    first: int
    mult: int
    epochs: int
    every_step: ClassVar[bool] = True

    def __call__(self, t: float) -> float:
        """Return the rate where the share t of the epochs is done."""
        epoch, length = _epoch(t, self.epochs), self.first
        if self.mult == 1:
            epoch %= length
        while epoch >= length:
            epoch, length = epoch - length, length * self.mult
        return 0.5 * self.lr * (1 + math.cos(math.pi * epoch / length))

    def restarts(self) -> list[int]:
        """Return the epochs, within the run, at which the rate is the full one again."""
        lengths = accumulate(repeat(self.mult), lambda length, mult: length * mult, initial=self.first)
        return list(takewhile(lambda epoch: epoch < self.epochs, accumulate(lengths)))


@dataclass(frozen=True)
class Linear:
    """Straight lines between `points`, pairs of an epoch and a rate in rising order, at every step of a run of `epochs`.

    Before the first point and behind the last one the rate is theirs.
    """

    points: Sequence[Sequence[float]]
    epochs: int
    every_step: ClassVar[bool] = True

    def __call__(self, t: float) -> float:
        """Return the rate where the share t of the epochs is done."""
        epoch = _epoch(t, self.epochs)
        behind = bisect_right([point[0] for point in self.points], epoch)
        if behind in (0, len(self.points)):
            return float(self.points[max(behind - 1, 0)][1])
        (left, low), (right, high) = self.points[behind - 1 : behind + 1]
        return low + (high - low) * (epoch - left) / (right - left)


def _epoch(t: float, epochs: int) -> float:
    """Return the epochs that a share t of `epochs` amounts to, whole ones exactly: t is rounded, and a restart a jump."""
    epoch = t * epochs
    return float(round(epoch)) if abs(epoch - round(epoch)) < 1e-9 * epochs else epoch


def changes_within(schedule: Schedule) -> bool:
    """Return whether the rate changes within an epoch."""
    return getattr(schedule, "every_step", False)


def schedule_of(config: Mapping[str, Any]) -> Schedule:
    """Return the learning-rate schedule that a configuration asks for."""
    lr, epochs = config["lr"], config["epochs"]
    match config["schedule"]:
        case "cosine":
            return Cosine(lr)
        case "sgdr":
            return Restarts(lr, config["restart_epochs"], config["restart_mult"], epochs)
        case "linear":
            return Linear(config["lr_points"], epochs)
    return Step(lr, tuple(epoch / epochs for epoch in config["epoch_step"]), config["lr_decay_ratio"])


def describe(config: Mapping[str, Any]) -> str:
    """Return a line about a configuration's schedule; empty for those of which its options say all."""
    match schedule := schedule_of(config):
        case Restarts():
            *shown, last = ["the start", *(str(epoch) for epoch in schedule.restarts())]
            when = f"{', '.join(shown)} and {last}" if shown else last
            return f"learning rate {schedule.lr:g}, by a cosine to 0 from {when} on, at every step"
        case Linear():
            points = ", ".join(f"{rate:g} at {epoch:g}" for epoch, rate in schedule.points)
            last, rate = schedule.points[-1]
            beyond = f", {rate:g} from there on" if last < schedule.epochs else ""
            return f"learning rate by epoch {points}{beyond}, straight between at every step"
    return ""
