"""The only loop: `fit`, `train_one_epoch`, `evaluate`. It knows no method, no network and no dataset.

    for row, state in fit(model, Supervised(), optimizer, Cosine(0.1), data, epochs=30):
        print(row)

`fit` yields after each epoch, and within one where that is asked for, what a checkpoint needs; its caller saves, and may
leave. Companions (companions.py) are told of every stage. `until` stops early without changing the schedule.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from distributed.process_group import ALONE, Team
from input.batches import Feed
from system.errors import Diverged
from training.callbacks import Companion
from training.metrics import Meter, means
from training.optim import set_learning_rate
from training.rates import Schedule
from training.state import load_state, save_state
from training.step import TrainStep, _number, count_errors


class Progress(NamedTuple):
    """A moment to go on from: the metrics of the epoch that has just ended, None within one, and all that a resumed run
    needs (plain types and tensors)."""

    row: dict[str, float] | None
    state: dict


def fit(
    model: nn.Module, criterion, optimizer: torch.optim.Optimizer, schedule: Schedule, data: Feed, epochs: int,
    companions: Iterable[Companion] = (), resumed: dict | None = None, until: int | None = None,
    print_freq: int = 10, autocast=nullcontext, checkpoint_every: int | None = None,
    stopping: Callable[[], bool] = lambda: False, parts: int = 1, team: Team = ALONE, test_every: int = 1,
) -> Iterator[Progress]:  # fmt: skip
    """Trains to `epochs` (or stops after epoch number `until` − 1), yielding each finished epoch.

    Args: criterion: (model, x, y) -> distill.Lesson; resumed: the last `state`; autocast: makes the context of every
    forward pass; checkpoint_every: steps after which it yields within an epoch too; stopping: asked after every step and
    test batch, whether to yield there; parts: in how many a batch goes through the network; team: the processes that
    train together, all of which run this and yield at the same moments; test_every: epochs from one test to the next, and
    the last one is tested too. Raises Diverged where a loss or a gradient is not finite, MachineFault where `resumed` does
    not fit.
    """
    companions, first, meter = list(companions), 0, Meter(team)
    if resumed is not None:
        first = load_state(resumed, model, optimizer, companions, meter, team)
    step = TrainStep(model, criterion, optimizer, companions, autocast, parts, team)
    for epoch in range(first, epochs if until is None else min(until, epochs)):
        lr = schedule(epoch / epochs)
        meter.when = f"epoch {epoch + 1}/{epochs} at learning rate {lr:g}"
        set_learning_rate(optimizer, lr)
        for companion in companions:
            companion.before_epoch(model, epoch / epochs)
        if meter.steps:  # of an epoch that was begun before: what before_epoch did since comes before these steps
            load_state(resumed, model, optimizer, companions, meter, team)
        for _ in train_one_epoch(
            step, data, epoch, epochs, print_freq, meter,
            due=lambda step: stopping() or (checkpoint_every is not None and step % checkpoint_every == 0),
        ):  # fmt: skip
            yield Progress(None, save_state(epoch, model, optimizer, companions, meter, team))
        row = {"epoch": epoch, "lr": lr, **meter.metrics()}
        if meter.images < len(data.training):
            row["train_left_out"] = len(data.training) - meter.images
        for name, split in (("val", data.validation), ("test", data.test)):
            if split is None or not is_tested(epoch, epochs, test_every):
                continue
            metrics = evaluate(model, data, split, autocast, stopping, team)
            if metrics is None:
                yield Progress(None, save_state(epoch, model, optimizer, companions, meter, team))
                metrics = evaluate(model, data, split, autocast, team=team)
            if not math.isfinite(metrics["loss"]):
                raise Diverged(f"the {name} loss is not finite after {meter.when}")
            row |= {f"{name}_{metric}": value for metric, value in metrics.items()}
        for companion in companions:
            row |= companion.metrics()
        meter = Meter(team, meter.when)
        yield Progress(row, save_state(epoch + 1, model, optimizer, companions, meter, team))


def is_tested(epoch: int, epochs: int, every: int = 1) -> bool:
    """Whether a test follows an epoch, counted from 0."""
    return (epoch + 1) % every == 0 or epoch + 1 == epochs


def train_one_epoch(
    train_step: TrainStep, data: Feed, epoch: int, epochs: int, print_freq: int, meter: Meter, due: Callable[[int], bool]
) -> Iterator[None]:  # fmt: skip
    """What `meter` has not yet seen of a pass over the training split; yields after the steps that are `due`."""
    train_step.model.train()
    began, first, steps = time.perf_counter(), meter.steps, data.steps(data.training)
    name, disable = f"epoch {epoch + 1}/{epochs}", None if train_step.team.is_first else True
    with tqdm(total=steps, initial=first, desc=name, unit="batch", disable=disable, leave=False) as bar:
        for step, batch in enumerate(data.train(epoch, first), start=first + 1):
            meter.add(train_step(batch, (epoch + (step - 1) / steps) / epochs))
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


@torch.no_grad()
def evaluate(
    model: nn.Module, data: Feed, split, autocast=nullcontext, stopping: Callable[[], bool] = lambda: False,
    team: Team = ALONE,
) -> dict[str, float] | None:  # fmt: skip
    """Cross-entropy (`loss`), `top1_error` and `top5_error` in % over a split, each image counted once, by one of the
    processes, but for damaged ones, whose number is `left_out` where there are any. None where `stopping`, which is asked after each batch, said so."""
    team.align(model)
    model.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=data.device)
    for x, y in data.batches(split):
        if len(y):
            with autocast():
                logits = model(x).logits
            loss = F.cross_entropy(logits.float(), y, reduction="sum")
            sums += torch.stack(
                [value.double() for value in (loss, *count_errors(logits, y).values(), _number(len(y), y))]
            )
        if stopping():
            return None
    loss, top1, top5, images = team.sum(sums).tolist()
    left_out = {"left_out": len(split) - int(images)} if images < len(split) else {}
    return means({"loss": loss, "top1_error": top1, "top5_error": top5}, int(images)) | left_out
