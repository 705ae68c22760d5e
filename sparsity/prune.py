"""Pruning by magnitude: at one moment of the training, or little by little.

Han et al. 2015, Learning both weights and connections (1506.02626): a threshold. Zhu & Gupta 2017, To prune, or not to prune
(1710.01878), equation 1: the share of the weights that stay falls cubically.

    callback = Prune(parse_prune("TopK_0.05"), where="", begin=1 / 3, end=1 / 3)
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sparsity import masks
from sparsity.weights import prunable
from system.grammar import MethodName
from training.callbacks import Callback

if TYPE_CHECKING:
    from training.step import TrainStep

EVERY = 100  # steps between two prunings of Gradual


def kept_count(share: Fraction, weights: int) -> int:
    """Return ⌊share · weights⌋, at least 1."""
    return max(1, int(share * weights))


def share_at(share: Fraction, progress: Fraction) -> Fraction:
    """Return the share of the weights that stay at 0 <= progress <= 1 of Gradual: s + (1 − s)(1 − τ)³."""
    return share + (1 - share) * (1 - progress) ** 3


def exact(share: float) -> Fraction:
    """Return the share as it is written in decimals."""
    return Fraction(repr(share))


def _moment(t: float) -> Fraction:
    """Return the share of training as steps done of all steps, of which t is the nearest float."""
    return Fraction(t).limit_denominator(10**7)


class Prune(Callback):
    """Set the smallest weights to 0 for good, from the shares `begin` to `end` of the training.

    From then on their gradients are 0, and so are they and all that an optimizer keeps of them, after every step. A resumed run
    goes on with the masks of its checkpoint and prunes at no step again. All layers are weighed against each other.
    """

    def __init__(self, name: MethodName, where: str, begin: float, end: float):
        self.name, self.where, self.begin, self.end = name, where, begin, end
        self.steps, self.is_done = 0, False  # since it began
        self.masks: list[Tensor] = []  # of the weights in their order, empty before
        self._gone: list[Tensor] | None = []  # what they are not; None of a checkpoint's
        self._found: tuple[nn.Module, list[nn.Parameter]] | None = None

    def check(self, model: nn.Module) -> None:
        """Raise RequestError where `where` is found in no layer's name."""
        prunable(model, self.where)

    def kept_bytes(self, model: nn.Module) -> int:
        """Return the bytes of the masks: one for each weight."""
        return sum(weight.numel() for weight in self.weights(model))

    def weights(self, model: nn.Module) -> list[nn.Parameter]:
        """Return the model's prunable weights."""
        if self._found is None or self._found[0] is not model:
            self._found = (model, sum(prunable(model, self.where).values(), []))
        return self._found[1]

    def before_step(self, step: TrainStep) -> None:
        """Prune if it is time."""
        self._resume(step)
        if self.is_done or step.t < self.begin:
            return
        if step.t >= self.end:
            self._finish(step)
        elif self.steps % EVERY == 0:
            begin, end = _moment(self.begin), _moment(self.end)
            progress = (_moment(step.t) - begin) / (end - begin)
            self._keep_largest(step, share_at(exact(self.name.number), progress))
        self.steps += 1

    def after_epoch(self, step: TrainStep) -> None:
        """Prune where it is time only when the training is over."""
        self._resume(step)
        if not self.is_done and step.t >= max(self.end, 1):
            self._finish(step)

    def _finish(self, step: TrainStep) -> None:
        if self.name.method == "Magnitude":
            self._apply(step, masks.above(self.weights(step.model), self.name.number))
        else:
            self._keep_largest(step, exact(self.name.number))
        self.is_done = True

    def _keep_largest(self, step: TrainStep, share: Fraction) -> None:
        weights = self.weights(step.model)
        count = kept_count(share, sum(weight.numel() for weight in weights))
        self._apply(step, masks.largest(weights, count, among=self.masks))

    @torch.no_grad()
    def _apply(self, step: TrainStep, found: list[Tensor]) -> None:
        self._hold(step, found)
        self.after_step(step)

    def _resume(self, step: TrainStep) -> None:
        if self._gone is None:
            self._hold(step, self.masks)

    def _hold(self, step: TrainStep, masks: list[Tensor]) -> None:
        self.masks = [mask.to(weight.device) for mask, weight in zip(masks, self.weights(step.model))]
        self._gone = [~mask for mask in self.masks]

    def after_backward(self, step: TrainStep) -> None:
        """Set the gradients of pruned weights to 0."""
        for weight, gone in zip(self.weights(step.model), self._gone):
            if weight.grad is not None:
                weight.grad.masked_fill_(gone, 0.0)

    @torch.no_grad()
    def after_step(self, step: TrainStep) -> None:
        """Set pruned weights to 0, and what the optimizer keeps of them: a later callback may have changed their gradients."""
        for weight, gone in zip(self.weights(step.model), self._gone):
            weight.masked_fill_(gone, 0.0)
            for kept in step.optimizer.state.get(weight, {}).values():
                if kept.shape == weight.shape:
                    kept.masked_fill_(gone, 0.0)

    def state_dict(self) -> dict:
        """Return the masks (bool) and how far it is."""
        return {"steps": self.steps, "is_done": self.is_done, "masks": self.masks}

    def load_state_dict(self, state: dict) -> None:
        """Put back what `state_dict` returned."""
        self.steps, self.is_done, self.masks = state["steps"], state["is_done"], list(state["masks"])
        self._gone = None
