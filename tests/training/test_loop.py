"""The loop: what it measures, when it stops, and that it goes on from any moment to the same end."""

import copy
import random

import numpy as np
import pytest
import torch
from results import same
from small_runs import TINY
from torch import nn

import main
from distill import LossOutput, Supervised
from input.augment import Augmentation
from input.batches import BatchPlan
from input.datasets import DATASETS
from input.memory import Data, Split
from input.places import find
from models.darts import DARTS
from models.output import Output
from record import run as record_run
from system.errors import Diverged
from training.callbacks import Callback, ClipGradient, DropPath
from training.loop import Progress, evaluate, fit
from training.metrics import errors
from training.optim import sgd
from training.rates import Cosine, Linear, Step
from training.step import TrainStep, count_hits


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x):
        return Output(self.linear(x.flatten(1)), [])


@pytest.fixture(scope="module")
def digits():
    plan = BatchPlan(Augmentation(flip=False), 64, seed=0, val_size=200)
    return Data(find("digits", None).read(1), DATASETS["digits"], plan)


def tiny(*callbacks, seed=0, criterion=None, **keywords):
    torch.manual_seed(seed)
    model = Tiny()
    return TrainStep(model, criterion or Supervised(), sgd(model, [], 0.01, 0.9, 5e-4, 1.0), callbacks, **keywords)


def test_until_stops_early_without_changing_the_schedule(digits):
    whole = list(fit(tiny(), digits, Cosine(0.01), epochs=3))
    first = list(fit(tiny(), digits, Cosine(0.01), epochs=3, until=2))
    assert [f.row["lr"] for f in first] == [f.row["lr"] for f in whole[:2]] and len(first) == 2
    second = list(fit(tiny(seed=9), digits, Cosine(0.01), epochs=3, resumed=first[-1].state))
    assert len(second) == 1 and same(second[0].state, whole[2].state)


class Draws(Callback):
    """Draws from every generator, in every stage, and remembers it."""

    def __init__(self):
        self.sum = 0.0

    def before_epoch(self, step):
        self.sum += random.random() + np.random.random() + torch.rand(()).item()

    before_step = after_backward = after_step = after_epoch = before_epoch

    def state_dict(self):
        return {"sum": self.sum}

    def load_state_dict(self, state):
        self.sum = state["sum"]


def test_darts_goes_on_from_every_moment(digits):
    """Drop-path, auxiliary head, clipping, a callback that draws: from each state within an epoch to the same end."""
    few = Split(*(part[:24] for part in (digits.training.images, digits.training.labels, digits.training.numbers)))
    data = copy.copy(digits)
    data.training, data.validation, data.test, data.batch_size = few, None, few, 4

    def run(resumed=None):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)
        model = DARTS(channels=4, cells=3)
        optimizer = sgd(model, [model.classifier.bias], 0.05, 0.9, 1e-3, 0.1)
        step = TrainStep(model, Supervised(), optimizer, [DropPath(0.9), ClipGradient(1.0), Draws()])
        moments = fit(step, data, Step(0.05, (0.5,), 0.1), 2, resumed, checkpoint_every=2)
        return [Progress(row, copy.deepcopy(state)) for row, state in moments]

    whole = run()
    assert [(moment.state["epoch"], moment.state["step"]) for moment in whole] == [
        (0, 2),
        (0, 4),
        (1, 0),
        (1, 2),
        (1, 4),
        (2, 0),
    ]
    assert [moment.row is None for moment in whole] == [True, True, False, True, True, False]
    for number, moment in enumerate(whole[:-1]):
        rest = run(moment.state)
        assert len(rest) == len(whole) - number - 1
        assert same(rest[-1].state, whole[-1].state) and same(rest[-1].row, whole[-1].row)


@pytest.mark.parametrize("when", [1, 5, 21, 23, 30])
def test_stopping_is_asked_after_every_step_and_test_batch(digits, when):
    """There are 21 steps, 4 batches to validate and 5 to test."""
    asked = []

    def run(**keywords):
        return fit(tiny(Recorder()), digits, Cosine(0.01), epochs=1, **keywords)

    first = next(run(should_stop=lambda: asked.append(1) or len(asked) >= when))
    assert first.row is None and first.state["step"] == min(when, 21) and len(asked) <= when + 1
    (whole,), (rest,) = run(), run(resumed=copy.deepcopy(first.state))
    assert same(rest.state, whole.state) and same(rest.row, whole.row)


def test_weights_that_are_not_finite_are_never_kept(digits):
    """Though loss and gradient of the step before were."""
    step = tiny(Break(0.4, float("inf")), print_freq=100)
    moments = fit(step, digits, Cosine(0.01), 1, checkpoint_every=1)
    steps = []
    with pytest.raises(
        Diverged, match="the weights are not finite in epoch 1/1 at learning rate 0.01, first linear.bias"
    ):
        for moment in moments:
            steps.append(moment.state["step"])
            assert all(tensor.isfinite().all() for tensor in moment.state["model"].values())
    assert steps == list(range(1, 10))


def test_the_gradient_is_recorded_and_has_to_be_finite(digits):
    norms = []
    (moment,) = fit(tiny(Watch(norms), ClipGradient(0.01)), digits, Cosine(0.01), epochs=1)
    assert moment.row["gradient_norm"] == pytest.approx(sum(norms) / len(norms), rel=1e-5)
    assert moment.row["gradient_norm_max"] == pytest.approx(max(norms), rel=1e-5)

    step = tiny(Watch(norms), print_freq=1)
    step.model.linear.weight.register_hook(lambda gradient: gradient * (float("inf") if len(norms) == 30 else 1))
    with pytest.raises(
        Diverged, match="the gradient is not finite in step 10 of epoch 1/1 at learning rate 0.01: its norm"
    ):
        list(fit(step, digits, Cosine(0.01), epochs=1))


def test_metrics_are_right(digits):
    step = tiny()
    model = step.model
    (finished,) = fit(step, digits, Cosine(0.01), epochs=1)
    with torch.no_grad():
        for split, name in ((digits.test, "test"), (digits.validation, "val")):
            x = digits.normalise(split.images).permute(0, 3, 1, 2)
            logits = model(x).logits
            top1 = (logits.argmax(1) != split.labels).float().mean().item() * 100
            top5 = 100 - (logits.topk(5).indices == split.labels[:, None]).any(1).float().mean().item() * 100
            assert finished.row[f"{name}_top1_error"] == pytest.approx(top1, abs=1e-3)
            assert finished.row[f"{name}_top5_error"] == pytest.approx(top5, abs=1e-3)
            assert finished.row[f"{name}_loss"] == pytest.approx(
                nn.functional.cross_entropy(logits, split.labels).item(), rel=1e-4
            )
    assert evaluate(model, digits, digits.test)["top1_error"] == finished.row["test_top1_error"]
    assert finished.row["train_loss"] == finished.row["train_loss_cross_entropy"]


def test_errors_by_hand():
    logits = torch.arange(12.0).repeat(3, 1)  # the best is class 11, the first five are 7 to 11
    hits = count_hits(logits, torch.tensor([11, 7, 6])).tolist()
    assert hits == [1, 0, 0, 0, 1] and errors(hits, 3) == {"top1_error": 2, "top5_error": 1}


class Watch(Callback):
    """Notes the norm of every gradient."""

    def __init__(self, norms):
        self.norms = norms

    def after_backward(self, step):
        self.norms.append(torch.cat([p.grad.flatten() for p in step.model.parameters()]).norm().item())


class Break(Callback):
    """Sets a weight to something else, after the steps that come late."""

    def __init__(self, late, value):
        self.late, self.value = late, value

    def after_step(self, step):
        if step.t > self.late:
            step.model.linear.bias.data[0] = self.value


class Recorder(Callback):
    def __init__(self):
        self.calls = []

    def before_epoch(self, step):
        self.calls.append(("before_epoch", step.t))

    def after_backward(self, step):
        self.calls.append(("after_backward", step.t))

    def after_epoch(self, step):
        self.calls.append(("after_epoch", step.t))

    def metrics(self):
        return {"calls": len(self.calls)}

    def state_dict(self):
        return {"calls": len(self.calls)}

    def load_state_dict(self, state):
        self.calls = ["before"] * state["calls"]


def test_callbacks_go_along(digits):
    recorder = Recorder()
    finished = list(fit(tiny(recorder, Callback()), digits, Cosine(0.01), epochs=2))
    steps = digits.steps(digits.training)
    assert recorder.calls[0] == ("before_epoch", 0.0) and recorder.calls[steps + 2] == ("before_epoch", 0.5)
    assert recorder.calls[steps + 1] == ("after_epoch", 0.5) and recorder.calls[-1] == ("after_epoch", 1.0)
    assert recorder.calls[-2] == ("after_backward", (1 + (steps - 1) / steps) / 2)
    assert finished[0].row["calls"] == steps + 2 and finished[1].state["callbacks"] == [{"calls": 2 * steps + 4}, {}]
    resumed = Recorder()
    list(fit(tiny(resumed, Callback()), digits, Cosine(0.01), 2, finished[0].state))
    assert len(resumed.calls) == 2 * steps + 4


def test_gradients_are_clipped(digits):
    norms = []
    list(fit(tiny(ClipGradient(0.01), Watch(norms)), digits, Cosine(0.01), epochs=1))
    assert max(norms) <= 0.01001 and max(norms) > 0.009


@pytest.mark.parametrize("step", [0, 7, 20])
def test_a_loss_that_is_not_finite_names_its_step(digits, step):
    calls = []

    def criterion(model, x, y):
        output = Supervised()(model, x, y)
        calls.append(1)
        if len(calls) == step + 1:
            parts = output.parts | {"attention": output.loss * float("nan")}
            return LossOutput(sum(parts.values()), output.logits, parts)
        return LossOutput(output.loss, output.logits, output.parts | {"attention": output.loss * 0})

    with pytest.raises(Diverged, match=f"step {step + 1} of epoch 1/1 at learning rate 0.01: attention"):
        list(fit(tiny(criterion=criterion), digits, Cosine(0.01), epochs=1))


def test_a_diverged_run_keeps_its_last_good_checkpoint(workplace, capsys):
    """The rate of the second epoch is 1e30 times that of the first."""
    from cli import command

    flags = ["digits", "teacher", "-t", "t", *TINY, "--lr", "1e-3", "--schedule", "step", "--epoch_step", "[1]"]
    kept = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "schedule_of", lambda request: lambda t: 1e-3 if t == 0 else 1e30)
        save = record_run.Run.save
        patch.setattr(record_run.Run, "save", lambda run, *finished: (save(run, *finished), kept.update(snapshot()))[0])

        def snapshot():
            return {path: path.read_bytes() for path in workplace.glob("checkpoints/*")}

        assert command.run(lambda: main.main(flags)) == 3
    assert "the loss is not finite in step 2 of epoch 2/2 at learning rate 1e+30" in capsys.readouterr().err
    assert kept == snapshot() and len(kept) == 1


def test_a_test_loss_that_is_not_finite(digits):
    """A rate that changes within the epoch is told with its ends."""
    with pytest.raises(Diverged, match="the val loss is not finite after epoch 1/1 at learning rate 0 to 0.00952381"):
        list(fit(tiny(Break(0.95, float("nan"))), digits, Linear([[0, 0], [1, 0.01]], 1), epochs=1))


def test_every_group_trains_at_the_rate_of_the_schedule(digits):
    torch.manual_seed(0)
    model = Tiny()
    optimizer = sgd(model, [model.linear.bias], 0.5, 0.9, 5e-4, 0.1)
    rates = []
    for finished in fit(TrainStep(model, Supervised(), optimizer), digits, Cosine(0.01), epochs=3):
        rates.append(finished.row["lr"])
        assert [group["lr"] for group in optimizer.param_groups] == [finished.row["lr"]] * 2
        assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 5e-5]
    assert rates == [pytest.approx(rate) for rate in (0.01, 0.0075, 0.0025)]


def test_tested_every_few_epochs_and_after_the_last(digits):
    """The weights are those of a run that is tested more often; where it is resumed changes nothing."""

    def train(epochs=5, test_every=1, seed=0, **keywords):
        data = copy.copy(digits)
        data.test_every = test_every
        data.training, data.validation, data.test = (
            split.head(256) for split in (digits.training, digits.validation, digits.test)
        )
        return list(fit(tiny(seed=seed), data, Cosine(0.01), epochs=epochs, **keywords))

    often, seldom = train(), train(test_every=2)
    assert same(often[-1].state, seldom[-1].state)
    for each, other in zip(often, seldom):
        tested = other.row["epoch"] in (1, 3, 4)
        assert {key for key in other.row if key.startswith(("val_", "test_"))} == (
            {key for key in each.row if key.startswith(("val_", "test_"))} if tested else set()
        )
    first = train(until=2, test_every=2)
    rest = train(seed=9, resumed=first[-1].state, test_every=2)
    assert [same(each.row, other.row) for each, other in zip(rest, seldom[2:])] == [True] * 3
    assert ["test_loss" in each.row for each in train(epochs=3, test_every=9)] == [False, False, True]


def test_fewer_than_five_classes():
    logits = torch.tensor([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]])
    assert errors(count_hits(logits, torch.tensor([2, 0])).tolist(), 2) == {"top1_error": 1, "top5_error": 0}
