"""Callbacks: what goes along with training beside the loop, such as clipping and drop-path; later pruners, gates, searches.

    step = TrainStep(model, criterion, optimizer, callbacks=[DropPath(0.2), ClipGradient(5.0)])

A callback is called at every stage with the training step and keeps its own state. The loop knows none of them. Each is
registered by name, with the flags that choose it, in training/registry.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from training.step import TrainStep


class Callback:
    """Do nothing at every stage; a callback overrides the stages that it needs.

    `step` has `model`, `optimizer` and `t`, the share of training that is done (0 <= t < 1; after an epoch t <= 1). Every rank has
    its own callbacks: what they do to weights and gradients has to be the same on all of them.
    """

    def check(self, model: nn.Module) -> None:
        """Raise RequestError where the callback does not fit the model, which may be on the meta device."""

    def kept_bytes(self, model: nn.Module) -> int:
        """Return how many bytes a checkpoint keeps of its tensors."""
        return 0

    def before_epoch(self, step: TrainStep) -> None:
        """Act before the first step of an epoch."""

    def before_step(self, step: TrainStep) -> None:
        """Act before the forward pass."""

    def after_backward(self, step: TrainStep) -> None:
        """Act when all gradients are there and no weight has changed."""

    def after_step(self, step: TrainStep) -> None:
        """Act when the weights have changed."""

    def after_epoch(self, step: TrainStep) -> None:
        """Act after the last step of an epoch, before it is tested."""

    def metrics(self) -> dict[str, float]:
        """Return what joins the epoch's row of metrics."""
        return {}

    def state_dict(self) -> dict:
        """Return what a checkpoint has to keep, as plain types and tensors."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Put back what `state_dict` returned."""


class ClipGradient(Callback):
    """Scale the gradient down to a norm (L2, over all parameters) where it is longer."""

    def __init__(self, norm: float):
        self.norm = norm

    def after_backward(self, step: TrainStep) -> None:
        """Clip in place."""
        torch.nn.utils.clip_grad_norm_(step.model.parameters(), self.norm)


class DropPath(Callback):
    """Drop more paths epoch by epoch, from none linearly to `probability`: 1806.09055, section 3.2.

    For a network that has an attribute `drop_path`.
    """

    def __init__(self, probability: float):
        self.probability = probability
        self.now = 0.0

    def before_epoch(self, step: TrainStep) -> None:
        """Set the network's probability of this epoch."""
        step.model.drop_path = self.now = self.probability * step.t

    def metrics(self) -> dict[str, float]:
        """Return the probability of this epoch."""
        return {"drop_path": self.now}
