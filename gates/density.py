"""The density of gates over the training: it falls linearly from 1 to the one that a name says.

callback = Density(density=0.5, warmup=0.2)          # over a fifth of the training
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from torch import nn

from training.callbacks import Callback

if TYPE_CHECKING:
    from training.step import TrainStep


class Density(Callback):
    """Open ⌈c · density⌉ of the c channels of each gate, from all on linearly over the share `warmup` of the training.

    The density is a function of the moment alone, so that a resumed run needs no state.
    """

    def __init__(self, density: float, warmup: float):
        self.density, self.warmup = Fraction(repr(density)), Fraction(warmup).limit_denominator(10**7)
        self._set: tuple[nn.Module, Fraction] | None = None

    def density_at(self, t: float) -> Fraction:
        """Return the density when the share `t` of the training is done."""
        done = Fraction(t).limit_denominator(10**7)
        return self.density if done >= self.warmup else 1 - (1 - self.density) * done / self.warmup

    def before_step(self, step: TrainStep) -> None:
        """Set the density of this step."""
        self._open(step)

    def after_epoch(self, step: TrainStep) -> None:
        """Set the density that is reached, with which the network is tested and saved."""
        self._open(step)

    def _open(self, step: TrainStep) -> None:
        density = self.density_at(step.t)
        if self._set != (step.model, density):
            self._set = (step.model, density)
            for gate in step.model.gates.values():
                gate.set_density(density)
