"""The only loop: `fit`, `train_one_epoch`, `evaluate`. It knows no method, no network and no dataset.

    for row, state in fit(model, Supervised(), optimizer, Cosine(0.1), data, epochs=30):
        print(row)

`fit` yields after each epoch, and within one where that is asked for, what a checkpoint needs; its caller saves, and may
leave. Companions (companions.py) are told of every stage. `until` stops early without changing the schedule.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from companions import Companion
from data import Data, Split
from distill import Lesson
from errors import Diverged, MachineFault
from optim import Schedule, set_learning_rate


class Progress(NamedTuple):
    """A moment to go on from: the metrics of the epoch that has just ended, None within one, and all that a resumed run
    needs (plain types and tensors)."""

    row: dict[str, float] | None
    state: dict


def fit(
    model: nn.Module, criterion, optimizer: torch.optim.Optimizer, schedule: Schedule, data: Data, epochs: int,
    companions: Iterable[Companion] = (), resumed: dict | None = None, until: int | None = None,
    print_freq: int = 10, autocast=nullcontext,
    checkpoint_every: int | None = None, stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:  # fmt: skip
    """Trains to `epochs` (or stops after epoch number `until` − 1), yielding each finished epoch.

    Args: criterion: (model, x, y) -> distill.Lesson; resumed: the last `state`; autocast: makes the context of every
    forward pass; checkpoint_every: steps after which it yields within an epoch too; stopping: asked after every step and
    test batch, whether to yield there. Raises Diverged where a loss or a gradient is not finite, MachineFault where
    `resumed` does not fit.
    """
    companions, first, meter = list(companions), 0, Meter()
    if resumed is not None:
        first = load_state(resumed, model, optimizer, companions, meter)
    for epoch in range(first, epochs if until is None else min(until, epochs)):
        lr = schedule(epoch / epochs)
        meter.when = f"epoch {epoch + 1}/{epochs} at learning rate {lr:g}"
        set_learning_rate(optimizer, lr)
        for companion in companions:
            companion.before_epoch(model, epoch / epochs)
        if meter.steps:  # of an epoch that was begun before: what before_epoch did since comes before these steps
            load_state(resumed, model, optimizer, companions, meter)
        for _ in train_one_epoch(
            model, criterion, optimizer, data, epoch, epochs, companions, print_freq, autocast, meter,
            due=lambda step: stopping() or (checkpoint_every is not None and step % checkpoint_every == 0),
        ):  # fmt: skip
            yield Progress(None, save_state(epoch, model, optimizer, companions, meter))
        row = {"epoch": epoch, "lr": lr, **meter.metrics()}
        for name, split in (("val", data.validation), ("test", data.test)):
            if split is None:
                continue
            metrics = evaluate(model, data, split, autocast, stopping)
            if metrics is None:
                yield Progress(None, save_state(epoch, model, optimizer, companions, meter))
                metrics = evaluate(model, data, split, autocast)
            if not math.isfinite(metrics["loss"]):
                raise Diverged(f"the {name} loss is not finite after {meter.when}")
            row |= {f"{name}_{metric}": value for metric, value in metrics.items()}
        for companion in companions:
            row |= companion.metrics()
        meter = Meter(meter.when)
        yield Progress(row, save_state(epoch + 1, model, optimizer, companions, meter))


def train_one_epoch(
    model: nn.Module, criterion, optimizer: torch.optim.Optimizer, data: Data, epoch: int, epochs: int,
    companions: list[Companion], print_freq: int, autocast, meter: "Meter", due: Callable[[int], bool],
) -> Iterator[None]:  # fmt: skip
    """What `meter` has not yet seen of a pass over the training split; yields after the steps that are `due`."""
    model.train()
    began, first, steps = time.perf_counter(), meter.steps, data.steps(data.training)
    name = f"epoch {epoch + 1}/{epochs}"
    with tqdm(total=steps, initial=first, desc=name, unit="batch", disable=None, leave=False) as bar:
        for step, (x, y, *_) in enumerate(data.train(epoch, first), start=first + 1):
            t = (epoch + (step - 1) / steps) / epochs
            lesson, gradient_norm = train_step(model, criterion, optimizer, x, y, companions, t, autocast)
            meter.add(lesson, y, gradient_norm)
            if step % print_freq == 0 or step == steps:
                means = meter.read()
                bar.set_postfix(loss=f"{means['loss']:.4f}", error=f"{means['top1_error']:.2f}%", refresh=False)
                bar.update(step - bar.n)
            if due(step) and step < steps:
                meter.read()  # or what is kept might not be finite
                meter.seconds += time.perf_counter() - began
                yield
                began = time.perf_counter()
    meter.seconds += time.perf_counter() - began


def train_step(
    model: nn.Module, criterion, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, companions: list[Companion], t: float, autocast
) -> tuple[Lesson, Tensor]:  # fmt: skip
    """One batch forward, backward and into the weights. Returns the lesson and the L2 norm of the gradient before any
    companion touched it."""
    for companion in companions:
        companion.before_step(model, t)
    with autocast():
        lesson = criterion(model, x, y)
    optimizer.zero_grad(set_to_none=True)
    lesson.loss.backward()
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    gradient_norm = nn.utils.get_total_norm(gradients)
    for companion in companions:
        companion.after_backward(model, t)
    optimizer.step()
    for companion in companions:
        companion.after_step(model, t)
    return lesson, gradient_norm


class Meter:
    """Means over an epoch so far: of losses and errors over its images, of the gradient's norm over its steps.

    What is measured stays on the device until `read`, so that the loop waits for it once in many steps. That is when a
    loss or a gradient which is not finite is noticed: Diverged names the first step, what of it and `when`.
    """

    def __init__(self, when: str = "") -> None:
        self.when = when
        self.names: list[str] = []
        self.waiting: list[Tensor] = []
        self.sums: Counter[str] = Counter()
        self.images = self.steps = 0
        self.seconds = self.largest_gradient = self.gradients = 0.0

    def add(self, lesson: Lesson, y: Tensor, gradient_norm: Tensor) -> None:
        losses = {"loss": lesson.loss, **{f"loss_{name}": part for name, part in lesson.parts.items()}}
        measured = {name: loss.detach() * len(y) for name, loss in losses.items()} | count_errors(lesson.logits, y)
        self.names = list(measured)
        self.waiting.append(torch.stack([value.double() for value in (*measured.values(), gradient_norm)]))
        self.images += len(y)

    def read(self) -> dict[str, float]:
        if self.waiting:
            for *values, gradient_norm in torch.stack(self.waiting).tolist():
                self.steps += 1
                measured = dict(zip(self.names, values))
                where = f"is not finite in step {self.steps} of {self.when}"
                if bad := [name.removeprefix("loss_") for name, value in measured.items() if not math.isfinite(value)]:
                    parts = ", ".join(name for name in bad if name != "loss") or "the sum of its parts"
                    raise Diverged(f"the loss {where}: {parts}")
                if not math.isfinite(gradient_norm):
                    raise Diverged(f"the gradient {where}: its norm is {gradient_norm}")
                self.sums.update(measured)
                self.gradients += gradient_norm
                self.largest_gradient = max(self.largest_gradient, gradient_norm)
            self.waiting.clear()
        return _means(self.sums, self.images)

    def metrics(self) -> dict[str, float]:
        """Of a whole epoch, as they are recorded."""
        means = {f"train_{name}": value for name, value in self.read().items()}
        gradients = {"gradient_norm": self.gradients / self.steps, "gradient_norm_max": self.largest_gradient}
        return {"images_per_second": self.images / self.seconds, "seconds": self.seconds, **means, **gradients}

    def state_dict(self) -> dict:
        kept = ("names", "images", "steps", "seconds", "largest_gradient", "gradients")
        return {name: getattr(self, name) for name in kept} | {"sums": dict(self.sums)}

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state | {"sums": Counter(state["sums"]), "waiting": []})


@torch.no_grad()
def evaluate(
    model: nn.Module, data: Data, split: Split, autocast=nullcontext, stopping: Callable[[], bool] = lambda: False
) -> dict[str, float] | None:
    """Cross-entropy (`loss`), `top1_error` and `top5_error` in % over a split, each image counted once. None where
    `stopping`, which is asked after each batch, said so."""
    model.eval()
    sums: Tensor | float = 0.0
    for x, y in data.batches(split):
        with autocast():
            logits = model(x).logits
        measured = {"loss": F.cross_entropy(logits.float(), y, reduction="sum")} | count_errors(logits, y)
        sums = sums + torch.stack([value.double() for value in measured.values()])
        if stopping():
            return None
    return _means(dict(zip(measured, sums.tolist())), len(split))


def count_errors(logits: Tensor, y: Tensor) -> dict[str, Tensor]:
    """How many of a batch are wrong: not first (top1_error), not among the first five (top5_error)."""
    right = logits.topk(5, dim=1).indices == y[:, None]
    return {"top1_error": len(y) - right[:, 0].sum(), "top5_error": len(y) - right.sum()}


def _means(sums: dict[str, float], images: int) -> dict[str, float]:
    """Sums over images to means; errors to percent."""
    return {name: value / images * (100 if name.endswith("error") else 1) for name, value in sums.items()}


def save_state(epoch: int, model: nn.Module, optimizer, companions: list[Companion], meter: Meter) -> dict:
    """All that decides how training goes on after `epoch` epochs and the steps that `meter` has seen of the next:
    weights, optimizer, companions, generators. Diverged where a weight is not finite: nothing could go on from there."""
    numbers = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    finite = torch.stack([tensor.isfinite().all() for tensor in numbers.values()])
    if not finite.all():
        worst = list(numbers)[finite.tolist().index(False)]
        raise Diverged(f"the weights are not finite in {meter.when}, first {worst}")
    version, internal, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    return {
        "epoch": epoch,
        "step": meter.steps,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "companions": [companion.state_dict() for companion in companions],
        "meter": meter.state_dict(),
        "rng": {
            "python": [version, list(internal), gauss],
            "numpy": {**numpy_state, "state": {"key": numpy_state["state"]["key"].tolist(), "pos": numpy_state["state"]["pos"]}},
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        },
    }  # fmt: skip


def load_state(state: dict, model: nn.Module, optimizer, companions: list[Companion], meter: Meter) -> int:
    """Puts everything back as `save_state` found it. Returns the number of finished epochs. MachineFault where what
    is in it is not what `save_state` made of such a network."""
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for companion, saved in zip(companions, state["companions"], strict=True):
            companion.load_state_dict(saved)
        meter.load_state_dict(state["meter"])
        version, internal, gauss = state["rng"]["python"]
        random.setstate((version, tuple(internal), gauss))
        numpy_state = state["rng"]["numpy"]
        np.random.set_state(
            {**numpy_state, "state": {**numpy_state["state"], "key": np.array(numpy_state["state"]["key"], np.uint32)}}
        )
        torch.set_rng_state(state["rng"]["torch"])
        if torch.cuda.is_initialized() and len(state["rng"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])
        return state["epoch"]
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        raise MachineFault(f"the checkpoint does not fit this run: {' '.join(str(error).split())}")
