"""Recipes in the loop: from every moment to the same end, at the rate of every step; batch-norm's statistics taken anew."""

import copy

import pytest
import torch
from results import same
from torch import nn

from distill import Supervised
from input.augment import Augmentation
from input.batches import BatchPlan
from input.datasets import DATASETS
from input.memory import Data
from input.places import find
from models.output import Output
from training.callbacks import Callback
from training.loop import Progress, evaluate, fit
from training.optim import SGD, Adam, AdamW, parameter_groups, sgd
from training.rates import Cosine, Linear, Restarts, Step, changes_within
from training.step import TrainStep


@pytest.fixture(scope="module")
def digits():
    plan = BatchPlan(Augmentation(flip=False), 64, seed=0, val_size=200)
    return Data(find("digits", None).read(1), DATASETS["digits"], plan)


class Normed(nn.Module):
    """A batch-norm between two linear maps."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 8, 8), nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 10)

    def forward(self, x):
        return Output(self.linear(self.norm(self.conv(x)).relu().mean((2, 3))), [])


RECIPES = {
    "sgdr": (Restarts(0.01, 1, 2, 3), SGD, {"nesterov": True}),
    "linear": (Linear([[0, 0], [1.5, 0.01], [3, 0]], 3), Adam, {}),
    "cosine": (Cosine(0.01), AdamW, {}),
    "step": (Step(0.01, (1 / 3,), 0.1), SGD, {}),
}


def few(digits, images):
    """The same in batches of 32, with so many images of each split."""
    data = copy.copy(digits)
    data.batch_size = 32
    data.training, data.validation, data.test = (
        split.head(images) for split in (digits.training, digits.validation, digits.test)
    )
    return data


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_go_on_from_every_moment(digits, name):
    """Ended by `until` or within an epoch: to the bit, and at the rate of the schedule at every step."""
    schedule, cls, keywords = RECIPES[name]
    data = few(digits, 200)  # 7 steps

    def run(resumed=None, **ends):
        torch.manual_seed(1 if resumed else 0)
        model, watch = Normed(), Rates()
        groups = parameter_groups(model, {model.linear.bias: 0.5}, 5e-4, 0.1)
        step = TrainStep(model, Supervised(), cls(groups, 1.0, 0.9, **keywords), [watch])
        moments = fit(step, data, schedule, 3, resumed, checkpoint_every=5, **ends)
        return [Progress(row, copy.deepcopy(state)) for row, state in moments], watch.seen

    whole, seen = run()
    assert [(moment.state["epoch"], moment.state["step"]) for moment in whole] == [
        (0, 5), (1, 0), (1, 5), (2, 0), (2, 5), (3, 0),
    ]  # fmt: skip
    shares = [(epoch + (step / 7 if changes_within(schedule) else 0)) / 3 for epoch in range(3) for step in range(7)]
    assert seen == [(schedule(t), schedule(t) * 0.5) for t in shares]
    assert [moment.row["lr"] for moment in whole[1::2]] == [schedule(epoch / 3) for epoch in range(3)]
    first, _ = run(until=2)
    assert [same(each.state, other.state) for each, other in zip(first, whole)] == [True] * 4
    for moment in (first[2], first[3]):
        rest, _ = run(moment.state)
        assert same(rest[-1].state, whole[-1].state) and same(rest[-1].row, whole[-1].row)


class Rates(Callback):
    """Notes the learning rates of every step."""

    def __init__(self):
        self.seen = []

    def before_step(self, step):
        self.seen.append(tuple(group["lr"] for group in step.optimizer.param_groups))


def test_reestimated_statistics_are_those_of_the_batches(digits):
    """By hand over more batches than an epoch has; of the last epoch alone, and nothing else changes."""

    def run(batches, **keywords):
        data = few(digits, 200)
        data.reestimate_bn = batches
        torch.manual_seed(0)
        model = Normed()
        step = TrainStep(model, Supervised(), sgd(model, [], 0.1, 0.9, 5e-4, 1.0))
        return data, model, list(fit(step, data, Cosine(0.1), epochs=2, **keywords))

    data, model, moments = run(8)
    _, _, plain = run(0)
    assert all(same(each.state, other.state) for each, other in zip(moments, plain))
    added = {"test_reestimated_loss", "test_reestimated_top1_error", "test_reestimated_top5_error"}
    assert moments[0].row.keys() == plain[0].row.keys() and moments[1].row.keys() - plain[1].row.keys() == added
    x = [batch.x for epoch in (2, 3) for batch in data.train(epoch) if len(batch.x) == 32][:8]
    with torch.no_grad():
        maps = [model.conv(each).transpose(0, 1).flatten(1).double() for each in x]
    own = model.norm.running_mean.clone()
    model.norm.running_mean = torch.stack([each.mean(1) for each in maps]).mean(0).float()
    model.norm.running_var = torch.stack([each.var(1) for each in maps]).mean(0).float()
    assert not torch.allclose(own, model.norm.running_mean, rtol=1e-3)
    found = {f"test_reestimated_{name}": value for name, value in evaluate(model, data, data.test).items()}
    assert {name: moments[1].row[name] for name in added} == pytest.approx(found, rel=1e-5)
    asked = []
    stopped = run(8, should_stop=lambda: asked.append(1) or len(asked) == 2 * (7 + 7 + 7) + 5)[2]
    assert [each.row is None for each in stopped] == [False, True, False]
    assert same(stopped[-1].state, moments[-1].state) and same(stopped[-1].row, moments[-1].row)
    assert same(stopped[1].state["model"], moments[1].state["model"])
