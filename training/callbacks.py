"""What goes along with training, beside the loop: clipping and drop-path; later pruners, gates, searches.

    fit(model, criterion, optimizer, schedule, data, epochs, companions=[ClipGradient(5.0), DropPath(0.2)])

A companion is told of every stage and keeps its own state. The loop knows none of them.
"""

import torch
from torch import nn


class Companion:
    """Every stage does nothing by default; t is the share of training that is done."""

    def before_epoch(self, model: nn.Module, t: float) -> None: ...

    def before_step(self, model: nn.Module, t: float) -> None: ...

    def after_backward(self, model: nn.Module, t: float) -> None: ...

    def after_step(self, model: nn.Module, t: float) -> None: ...

    def metrics(self) -> dict[str, float]:
        """What joins the epoch's row."""
        return {}

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None: ...


class ClipGradient(Companion):
    """Scales the gradient down to a norm (L2, over all parameters) where it is longer."""

    def __init__(self, norm: float):
        self.norm = norm

    def after_backward(self, model: nn.Module, t: float) -> None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.norm)


class DropPath(Companion):
    """Drops more paths epoch by epoch, from none linearly to `probability`: 1806.09055, section 3.2. For a network that
    has an attribute `drop_path`."""

    def __init__(self, probability: float):
        self.probability = probability
        self.now = 0.0

    def before_epoch(self, model: nn.Module, t: float) -> None:
        model.drop_path = self.now = self.probability * t

    def metrics(self) -> dict[str, float]:
        return {"drop_path": self.now}
