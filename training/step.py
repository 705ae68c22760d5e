"""One training step: a batch forward, backward and into the weights."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from distill import Lesson
from distributed.process_group import ALONE, Team
from input.batches import Batch
from training.callbacks import Companion


class TrainStep:
    """A batch forward, backward and into the weights."""

    def __init__(
        self, model: nn.Module, criterion, optimizer: torch.optim.Optimizer, companions: list[Companion],
        autocast=nullcontext, parts: int = 1, team: Team = ALONE,
    ):  # fmt: skip
        self.model, self.criterion, self.optimizer, self.companions = model, criterion, optimizer, companions
        self.autocast, self.parts, self.team = autocast, parts, team
        self.trained = team.wrap(model)

    def __call__(self, batch: Batch, t: float) -> dict[str, Tensor]:
        """What was measured: sums over this process's images, and `gradient_norm`, the L2 norm of the gradient before any
        companion touched it. `t`: the share of training that is done."""
        for companion in self.companions:
            companion.before_step(self.model, t)
        self.optimizer.zero_grad(set_to_none=True)
        parts = max(1, min(self.parts, batch.of // self.team.count))  # as many in every process
        measured: dict[str, Tensor] = {}
        for number, (x, y) in enumerate(zip(batch.x.tensor_split(parts), batch.y.tensor_split(parts)), 1):
            images = len(y) if batch.images else 0
            if not len(y):  # images were left out
                x, y = batch.x[:1], batch.y[:1]
            with nullcontext() if number == parts else self.team.apart(self.trained):
                with self.autocast():
                    lesson = self.criterion(self.trained, x, y)
                # each loss is a mean, the gradient is that over the images of all processes, which are averaged
                (lesson.loss * (images * self.team.count / batch.of)).backward()
            for name, value in _sums(lesson, y, images).items():
                measured[name] = measured[name] + value if name in measured else value
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        measured["gradient_norm"] = nn.utils.get_total_norm(gradients)
        for companion in self.companions:
            companion.after_backward(self.model, t)
        self.optimizer.step()
        for companion in self.companions:
            companion.after_step(self.model, t)
        return measured


def _sums(lesson: Lesson, y: Tensor, images: int) -> dict[str, Tensor]:
    """The loss, its parts, the errors and the number of images, all as sums over `images` of them: all, or none."""
    losses = {"loss": lesson.loss, **{f"loss_{name}": part for name, part in lesson.parts.items()}}
    sums = {name: loss.detach() * images for name, loss in losses.items()}
    errors = count_errors(lesson.logits[:images], y[:images])
    return sums | errors | {"images": _number(images, y)}


def _number(value: int, like: Tensor) -> Tensor:
    """On the device of another tensor, without waiting for it."""
    return torch.full((), value, dtype=torch.float64, device=like.device)


def count_errors(logits: Tensor, y: Tensor) -> dict[str, Tensor]:
    """How many of a batch are wrong: not first (top1_error), not among the first five (top5_error; of fewer classes all are
    among them)."""
    right = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]
    return {"top1_error": len(y) - right[:, 0].sum(), "top5_error": len(y) - right.sum()}
