"""The only loop: `fit`, `train_one_epoch`, `evaluate`. It knows no method, no network and no dataset.

    step = TrainStep(model, Supervised(), optimizer)
    for row, state in fit(step, data, Cosine(0.1), epochs=30):
        print(row)

`fit` yields after each epoch, and within one where that is asked for, what a checkpoint needs. Its caller saves, and may leave.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from distributed.process_group import ALONE, Ranks
from input.batches import Feed
from system.errors import Diverged
from training.metrics import Meter, errors, means
from training.optim import set_learning_rate
from training.rates import Schedule, changes_within
from training.reestimation import reestimated
from training.state import load_state, save_state
from training.step import Precision, TrainStep, count_hits


class Progress(NamedTuple):
    """A moment from which training can go on.

    `row` holds the metrics of the epoch that has just ended, None within an epoch; `state` all that a resumed run needs, as
    plain types and tensors.
    """

    row: dict[str, float] | None
    state: dict


def never() -> bool:
    """Never stop."""
    return False


def fit(
    step: TrainStep,
    data: Feed,
    schedule: Schedule,
    epochs: int,
    resumed: dict | None = None,
    *,
    until: int | None = None,
    checkpoint_every: int | None = None,
    should_stop: Callable[[], bool] = never,
) -> Iterator[Progress]:
    """Train to `epochs`, or stop after epoch number `until` − 1 without changing the schedule; yield each finished epoch.

    Args: resumed: the last `state`; checkpoint_every: steps after which it yields within an epoch too; should_stop: asked after
    every step and test batch, whether to yield there. All ranks run this and yield at the same moments.
    Raises Diverged where a loss or a gradient is not finite, MachineFault where `resumed` does not fit.
    """
    first, meter = 0, Meter(step.ranks)
    if resumed is not None:
        first = load_state(resumed, step, meter)

    def is_due(number: int) -> bool:
        return should_stop() or (checkpoint_every is not None and number % checkpoint_every == 0)

    for epoch in range(first, epochs if until is None else min(until, epochs)):
        step.t = epoch / epochs
        lr = schedule(step.t)
        meter.when = f"epoch {epoch + 1}/{epochs} at learning rate {_rates(schedule, epoch, epochs, data)}"
        set_learning_rate(step.optimizer, lr)
        for callback in step.callbacks:
            callback.before_epoch(step)
        if meter.steps:  # of an epoch that was begun before: what before_epoch did since comes before these steps
            load_state(resumed, step, meter)
        was_trained = meter.steps == data.steps(data.training)  # resumed from a state that was kept in the evaluation
        for _ in train_one_epoch(step, data, schedule, epoch, epochs, meter, is_due):
            yield Progress(None, save_state(epoch, step, meter))
        step.t = (epoch + 1) / epochs
        for callback in step.callbacks if not was_trained else ():
            callback.after_epoch(step)
        row = {"epoch": epoch, "lr": lr, **meter.metrics()}
        if meter.images < len(data.training):
            row["train_left_out"] = len(data.training) - meter.images
        for name, test in _tests(step, data, epoch, epochs):
            metrics = test(should_stop=should_stop)
            if metrics is None:
                yield Progress(None, save_state(epoch, step, meter))
                metrics = test()
            row |= _named(name, metrics, meter.when)
        for callback in step.callbacks:
            row |= callback.metrics()
        meter = Meter(step.ranks, meter.when)
        yield Progress(row, save_state(epoch + 1, step, meter))


def _rates(schedule: Schedule, epoch: int, epochs: int, data: Feed) -> str:
    """Return the learning rate of an epoch in words, of one that changes within it that of its first and last step."""
    steps = data.steps(data.training)
    last = f" to {schedule((epoch + (steps - 1) / steps) / epochs):g}" if changes_within(schedule) else ""
    return f"{schedule(epoch / epochs):g}{last}"


def _tests(step: TrainStep, data: Feed, epoch: int, epochs: int) -> Iterator[tuple[str, Callable]]:
    """Yield what is evaluated after an epoch: a name, and a function that takes `should_stop` and returns what `evaluate` does."""
    for name, split in data.evaluated(epoch, epochs):
        yield name, partial(evaluate, step.model, data, split, step.precision, ranks=step.ranks)
    if data.reestimate_bn and epoch + 1 == epochs:
        yield "test_reestimated", partial(evaluate_reestimated, step, data, epochs)


def _named(split: str, metrics: dict[str, float], when: str) -> dict[str, float]:
    """Return the metrics of a split as an epoch's row has them: what the network observes in the test by its own name.

    Raise Diverged where the loss is not finite.
    """
    if not math.isfinite(metrics["loss"]):
        raise Diverged(f"the {split} loss is not finite after {when}")
    of_network = metrics.get("of_network", {})
    own = of_network if split == "test" else {f"{split}_{name}": value for name, value in of_network.items()}
    return {f"{split}_{name}": value for name, value in metrics.items() if name != "of_network"} | own


def train_one_epoch(
    train_step: TrainStep, data: Feed, schedule: Schedule, epoch: int, epochs: int, meter: Meter,
    is_due: Callable[[int], bool],
) -> Iterator[None]:  # fmt: skip
    """Train on what `meter` has not yet seen of the training split; yield after the steps that are due.

    The learning rate is set before each step where the schedule changes it within an epoch.
    """
    train_step.model.train()
    began, first, steps = time.perf_counter(), meter.steps, data.steps(data.training)
    name, disable = f"epoch {epoch + 1}/{epochs}", None if train_step.ranks.is_first else True
    with tqdm(total=steps, initial=first, desc=name, unit="batch", disable=disable, leave=False) as bar:
        for number, batch in enumerate(data.train(epoch, first), start=first + 1):
            train_step.t = (epoch + (number - 1) / steps) / epochs
            if changes_within(schedule):
                set_learning_rate(train_step.optimizer, schedule(train_step.t))
            meter.add(train_step(batch))
            if number % train_step.print_freq == 0 or number == steps:
                means = meter.read()
                bar.set_postfix(loss=f"{means['loss']:.4f}", error=f"{means['top1_error']:.2f}%", refresh=False)
                bar.update(number - bar.n)
            if is_due(number) and number < steps:
                meter.read()  # or what is kept might not be finite
                meter.seconds += time.perf_counter() - began
                yield
                began = time.perf_counter()
    meter.seconds += time.perf_counter() - began


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Feed,
    split,
    precision: Precision = nullcontext,
    should_stop: Callable[[], bool] = never,
    ranks: Ranks = ALONE,
) -> dict[str, float] | None:
    """Test a network on a split, each image once, by one of the ranks.

    Return cross-entropy (`loss`), `top1_error` and `top5_error` in %; `left_out`, the number of damaged images, where there are any;
    and `of_network`, means over the images of what modules of the network observe, where some do; None where `should_stop`, which is asked after each batch, said so.
    """
    ranks.broadcast_buffers(model)
    model.eval()
    observers = [module for module in model.modules() if hasattr(module, "observe")]  # such as gates
    for each in observers:
        each.begin()
    sums, images = torch.zeros(1 + 5, dtype=torch.float64, device=data.device), 0  # the loss, then hits
    for x, y in data.batches(split):
        if len(y):
            with precision():
                logits = model(x).logits
            sums[0] += F.cross_entropy(logits.float(), y, reduction="sum")
            hits = count_hits(logits, y)
            sums[1 : 1 + len(hits)] += hits
            images += len(y)
            for each in observers:
                each.observe()
        if should_stop():
            return None
    observed = {name: value for each in observers for name, value in each.sums().items()}
    every = torch.cat([sums, torch.stack([sums.new_tensor(images), *observed.values()])])
    every = ranks.all_reduce(every).tolist()
    loss, hits, images, own = every[0], every[1:6], int(every[6]), every[7:]
    left_out = {"left_out": len(split) - images} if images < len(split) else {}
    of_network = {"of_network": means(dict(zip(observed, own)), images)} if observed else {}
    return means({"loss": loss, **errors(hits, images)}, images) | left_out | of_network


def evaluate_reestimated(
    step: TrainStep, data: Feed, epochs: int, should_stop: Callable[[], bool] = never
) -> dict[str, float] | None:
    """Return what `evaluate` does of the test images, with batch-norm's statistics taken anew from training batches.

    Those are the first of the epochs that would follow, with their augmentation. Everything is as before then.
    """
    with reestimated(step.model, data, epochs, should_stop, step.ranks) as is_whole:
        if not is_whole:
            return None
        return evaluate(step.model, data, data.test, step.precision, should_stop, step.ranks)
