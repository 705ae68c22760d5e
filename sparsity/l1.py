"""The L1 norm of the weights as a penalty, by proximal steps, so that zeros are exact.

Beck & Teboulle 2009, A fast iterative shrinkage-thresholding algorithm: w ← sign(w)·max(|w| − lr·λ, 0) after each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from sparsity.weights import prunable
from training.callbacks import Callback

if TYPE_CHECKING:
    from training.step import TrainStep


class ProximalL1(Callback):
    """Bring every prunable weight nearer to 0 after each step, by the learning rate of its group times `weight`."""

    def __init__(self, weight: float, where: str):
        self.weight, self.where = weight, where
        self._found: tuple[nn.Module, set[nn.Parameter]] | None = None

    def check(self, model: nn.Module) -> None:
        """Raise RequestError where `where` is found in no layer's name."""
        prunable(model, self.where)

    @torch.no_grad()
    def after_step(self, step: TrainStep) -> None:
        """Shrink the weights."""
        if self._found is None or self._found[0] is not step.model:
            self._found = (step.model, set(sum(prunable(step.model, self.where).values(), [])))
        for group in step.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in self._found[1] and parameter.requires_grad:
                    parameter.copy_(F.softshrink(parameter, group["lr"] * self.weight))
