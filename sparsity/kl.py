"""The weight of a variational network's KL divergence in the loss.

The bound on the evidence is a sum over the training images, and the loss a mean: so the divergence is divided by their
number (Molchanov, Ashukha & Vetrov 2017, 1701.05369, equation 4). It is warmed up linearly, or it drops weights before the
images have said which are needed (Sønderby et al. 2016, 1602.02282).

    callback = KLWeight(weight=1.0, warmup=0.2)          # of the training
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from layers.variational import Variational
from system.errors import RequestError
from training.callbacks import Callback

if TYPE_CHECKING:
    from training.step import TrainStep


def variational_layers(model: nn.Module) -> list[Variational]:
    """Return the layers of a model that have a divergence."""
    return [module for module in model.modules() if isinstance(module, Variational)]


class KLWeight(Callback):
    """Weigh the divergence by `weight` / the number of training images, from 0 on linearly over the share `warmup` of training.

    The weight is a function of the moment alone, so that a resumed run needs no state.
    """

    def __init__(self, weight: float, warmup: float):
        self.weight, self.warmup = weight, warmup
        self.now = 0.0
        self._found: tuple[nn.Module, list[Variational]] | None = None

    def check(self, model: nn.Module) -> None:
        """Raise RequestError where nothing of the model is variational."""
        if not variational_layers(model):
            raise RequestError(f"--kl_weight {self.weight:g}: no layer of this network is variational")

    def weight_at(self, t: float) -> float:
        """Return the weight when the share `t` of training is done."""
        return self.weight if t >= self.warmup else self.weight * t / self.warmup

    def before_step(self, step: TrainStep) -> None:
        """Set the weight of this step."""
        if self._found is None or self._found[0] is not step.model:
            self._found = (step.model, variational_layers(step.model))
        self.now = self.weight_at(step.t)
        for layer in self._found[1]:
            layer.kl_scale = self.now / step.images

    def after_epoch(self, step: TrainStep) -> None:
        """Note the weight that is reached."""
        self.now = self.weight_at(step.t)

    def metrics(self) -> dict[str, float]:
        """Return the weight at the end of the epoch."""
        return {"kl_weight": self.now}

    def state_dict(self) -> dict:
        """Return the weight: an epoch that was trained, but not yet tested, still has to say it."""
        return {"now": self.now}

    def load_state_dict(self, state: dict) -> None:
        """Put back what `state_dict` returned."""
        self.now = state["now"]
