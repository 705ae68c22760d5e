"""The only loop: `fit`, `train_one_epoch`, `evaluate`. It knows no method, no network and no dataset.

    for state in fit(model, Supervised(), optimizer, Cosine(0.1), data, epochs=30):
        print(state.row)

`fit` yields after each epoch, with what a checkpoint needs; its caller saves. Companions (companions.py) are told of
every stage. `until` stops early without changing the schedule.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
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
from errors import Diverged
from optim import Schedule, set_learning_rate


class Finished(NamedTuple):
    """A finished epoch: its metrics and all that a resumed run needs (plain types and tensors)."""

    row: dict[str, float]
    state: dict


def fit(
    model: nn.Module, criterion, optimizer: torch.optim.Optimizer, schedule: Schedule, data: Data, epochs: int,
    companions: Iterable[Companion] = (), resumed: dict | None = None, until: int | None = None,
    print_freq: int = 10, autocast=nullcontext,
) -> Iterator[Finished]:  # fmt: skip
    """Trains to `epochs` (or stops after epoch number `until` − 1), yielding each finished epoch.

    Args: criterion: (model, x, y) -> distill.Lesson; resumed: the `state` of the last finished epoch; autocast: makes
    the context of every forward pass. Raises Diverged where the loss is not finite.
    """
    companions, first = list(companions), 0
    if resumed is not None:
        first = load_state(resumed, model, optimizer, companions)
    for epoch in range(first, epochs if until is None else min(until, epochs)):
        lr = schedule(epoch / epochs)
        set_learning_rate(optimizer, lr)
        for companion in companions:
            companion.before_epoch(model, epoch / epochs)
        row = {"epoch": epoch, "lr": lr}
        row |= train_one_epoch(model, criterion, optimizer, data, epoch, epochs, lr, companions, print_freq, autocast)
        for name, split in (("val", data.validation), ("test", data.test)):
            if split is not None:
                row |= {f"{name}_{metric}": value for metric, value in evaluate(model, data, split, autocast).items()}
                if not math.isfinite(row[f"{name}_loss"]):
                    raise Diverged(f"the {name} loss is not finite after epoch {epoch}, learning rate {lr:g}")
        for companion in companions:
            row |= companion.metrics()
        yield Finished(row, save_state(epoch + 1, model, optimizer, companions))


def train_one_epoch(
    model: nn.Module, criterion, optimizer: torch.optim.Optimizer, data: Data, epoch: int, epochs: int, lr: float,
    companions: list[Companion], print_freq: int, autocast,
) -> dict[str, float]:  # fmt: skip
    """One pass over the training split. Returns images_per_second, seconds and the train_ metrics, means over images."""
    model.train()
    began, steps = time.perf_counter(), data.steps(data.training)
    meter = Meter(f"epoch {epoch}, learning rate {lr:g}")
    with tqdm(total=steps, desc=f"epoch {epoch + 1}/{epochs}", unit="batch", disable=None, leave=False) as bar:
        for step, (x, y) in enumerate(data.train(epoch), start=1):
            t = (epoch + (step - 1) / steps) / epochs
            for companion in companions:
                companion.before_step(model, t)
            with autocast():
                lesson = criterion(model, x, y)
            optimizer.zero_grad(set_to_none=True)
            lesson.loss.backward()
            for companion in companions:
                companion.after_backward(model, t)
            optimizer.step()
            for companion in companions:
                companion.after_step(model, t)
            meter.add(lesson, y)
            if step % print_freq == 0 or step == steps:
                means = meter.read()
                bar.set_postfix(loss=f"{means['loss']:.4f}", error=f"{means['top1_error']:.2f}%", refresh=False)
                bar.update(step - bar.n)
    seconds = time.perf_counter() - began
    timing = {"images_per_second": len(data.training) / seconds, "seconds": seconds}
    return timing | {f"train_{name}": value for name, value in means.items()}


class Meter:
    """Means over the images of an epoch so far.

    What is measured stays on the device until `read`, so that the loop waits for it once in many steps. That is when a
    loss which is not finite is noticed: Diverged names its step, its parts and `when`.
    """

    def __init__(self, when: str):
        self.when, self.names, self.sums = when, [], Counter()
        self.waiting: list[Tensor] = []
        self.images = self.steps = 0

    def add(self, lesson: Lesson, y: Tensor) -> None:
        losses = {"loss": lesson.loss, **{f"loss_{name}": part for name, part in lesson.parts.items()}}
        measured = {name: loss.detach() * len(y) for name, loss in losses.items()} | count_errors(lesson.logits, y)
        self.names = list(measured)
        self.waiting.append(torch.stack([value.double() for value in measured.values()]))
        self.images += len(y)

    def read(self) -> dict[str, float]:
        for values in torch.stack(self.waiting).tolist():
            measured = dict(zip(self.names, values))
            if bad := [name.removeprefix("loss_") for name, value in measured.items() if not math.isfinite(value)]:
                parts = ", ".join(name for name in bad if name != "loss") or "the sum of its parts"
                raise Diverged(f"the loss is not finite in step {self.steps} of {self.when}: {parts}")
            self.sums.update(measured)
            self.steps += 1
        self.waiting.clear()
        return _means(self.sums, self.images)


@torch.no_grad()
def evaluate(model: nn.Module, data: Data, split: Split, autocast=nullcontext) -> dict[str, float]:
    """Cross-entropy (`loss`), `top1_error` and `top5_error` in % over a split, each image counted once."""
    model.eval()
    sums: Tensor | float = 0.0
    for x, y in data.batches(split):
        with autocast():
            logits = model(x).logits
        measured = {"loss": F.cross_entropy(logits.float(), y, reduction="sum")} | count_errors(logits, y)
        sums = sums + torch.stack([value.double() for value in measured.values()])
    return _means(dict(zip(measured, sums.tolist())), len(split))


def count_errors(logits: Tensor, y: Tensor) -> dict[str, Tensor]:
    """How many of a batch are wrong: not first (top1_error), not among the first five (top5_error)."""
    right = logits.topk(5, dim=1).indices == y[:, None]
    return {"top1_error": len(y) - right[:, 0].sum(), "top5_error": len(y) - right.sum()}


def _means(sums: dict[str, float], images: int) -> dict[str, float]:
    """Sums over images to means; errors to percent."""
    return {name: value / images * (100 if name.endswith("error") else 1) for name, value in sums.items()}


def save_state(epoch: int, model: nn.Module, optimizer, companions: list[Companion]) -> dict:
    """All that decides how training goes on after `epoch` epochs: weights, optimizer, companions, generators."""
    version, internal, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    return {
        "epoch": epoch,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "companions": [companion.state_dict() for companion in companions],
        "rng": {
            "python": [version, list(internal), gauss],
            "numpy": {**numpy_state, "state": {"key": numpy_state["state"]["key"].tolist(), "pos": numpy_state["state"]["pos"]}},
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        },
    }  # fmt: skip


def load_state(state: dict, model: nn.Module, optimizer, companions: list[Companion]) -> int:
    """Puts everything back as `save_state` found it. Returns the number of finished epochs."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for companion, saved in zip(companions, state["companions"], strict=True):
        companion.load_state_dict(saved)
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
