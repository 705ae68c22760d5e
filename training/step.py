"""One training step: a batch forward, backward and into the weights.

step = TrainStep(model, Supervised(), optimizer, callbacks=[ClipGradient(5.0)])
step(batch).sums()                           # {"loss": …, "top1_error": …, "images": 128}, over the images of the batch
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property

import torch
from torch import Tensor, nn

from distill import Criterion, LossOutput
from distributed.process_group import ALONE, Ranks
from input.batches import Batch
from layers.ahead import formed_ahead
from layers.base import ChannelMap
from training.callbacks import Callback
from training.metrics import Measured
from training.optim import Optimizer

Precision = Callable[[], AbstractContextManager]


class TrainStep:
    """What belongs together in a step, and where in training it is.

    Args: criterion: (model, x, y) -> LossOutput; precision: makes the context of every forward pass; parts: in how many parts a
    batch goes through the network; ranks: the processes that train together; print_freq: steps from one reading of what was
    measured (which waits for the device) and update of the bar to the next.

    `t` is the share of training that is done. The loop sets it; callbacks read it. `images` is the number of training images,
    of all processes together, by which what belongs to the whole training set is divided. `maps` are those whose matrices are
    formed before the first layer runs (layers/ahead.py). `autotuned` is what --autotune chose (training/autotune.py), which a
    resumed run goes on with.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        optimizer: Optimizer,
        callbacks: Sequence[Callback] = (),
        precision: Precision = nullcontext,
        parts: int = 1,
        ranks: Ranks = ALONE,
        print_freq: int = 10,
    ):
        self.model, self.criterion, self.optimizer, self.callbacks = model, criterion, optimizer, list(callbacks)
        self.precision, self.parts, self.ranks, self.print_freq = precision, parts, ranks, print_freq
        self.t = 0.0
        self.images = 1
        self.maps: list[ChannelMap] = []
        self.autotuned: dict | None = None

    @cached_property
    def parallel_model(self) -> nn.Module:
        """The model as all processes train it together, wrapped at the first step: from then on it may not be replaced."""
        return self.ranks.data_parallel(self.model)

    def split(self, batch: Batch) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Return the parts of a batch that go through the network one by one, as many in every process: x, y and numbers.

        A part is empty where images were left out.
        """
        parts = max(1, min(self.parts, batch.of // self.ranks.world_size))
        numbers = [None] * parts if batch.numbers is None else batch.numbers.tensor_split(parts)
        return list(zip(batch.x.tensor_split(parts), batch.y.tensor_split(parts), numbers))

    def __call__(self, batch: Batch) -> Measured:
        """Train on one batch.

        Return sums over this process's images, and the L2 norm of the gradient before any callback has touched it. Nothing here
        waits for the device.
        """
        for callback in self.callbacks:
            callback.before_step(self)
        self.optimizer.zero_grad()
        parts, measured = self.split(batch), None
        for number, (x, y, numbers) in enumerate(parts, 1):
            images = len(y) if batch.images else 0
            if not len(y):  # images were left out
                x, y, numbers = batch.x[:1], batch.y[:1], numbers if numbers is None else batch.numbers[:1]
            known = {"numbers": numbers} if batch.images and getattr(self.criterion, "takes_numbers", False) else {}
            with nullcontext() if number == len(parts) else self.ranks.no_sync(self.parallel_model):
                with self.precision(), formed_ahead(self.maps):
                    output = self.criterion(self.parallel_model, x, y, **known)
                # each loss is a mean, the gradient is that over the images of all processes, which are averaged
                (output.loss * (images * self.ranks.world_size / batch.of)).backward()
            sums = _sums(output, y, images)
            measured = sums if measured is None else measured.plus(sums)
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        measured = measured._replace(gradient_norm=nn.utils.get_total_norm(gradients))
        for callback in self.callbacks:
            callback.after_backward(self)
        self.optimizer.step()
        for callback in self.callbacks:
            callback.after_step(self)
        return measured


@torch.no_grad()
def _sums(output: LossOutput, y: Tensor, images: int) -> Measured:
    """Return the sums over `images` of the images, which are all or none."""
    names = ("loss", *(f"loss_{name}" for name in output.parts))
    losses = torch.stack([output.loss, *output.parts.values()]) * images
    return Measured(names, losses, count_hits(output.logits[:images], y[:images]), images)


def count_hits(logits: Tensor, y: Tensor) -> Tensor:
    """Count in how many images of a batch the label is first, second … fifth: logits (B, classes), y (B,) -> (at most 5,)."""
    return (logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]).sum(0)
