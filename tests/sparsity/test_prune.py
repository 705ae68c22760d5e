"""Pruning while a network is trained: exact, for good, and resumed from every moment to the bit."""

import copy
from fractions import Fraction

import pytest
import torch
from few_digits import few_digits
from results import same
from torch import nn

import blocks
import sparsity.prune
from distill import Supervised
from layers.spec import ConvSpec
from models.output import Output
from sparsity import density
from sparsity.l1 import ProximalL1
from sparsity.prune import Prune, exact, kept_count, share_at
from sparsity.registry import parse_prune
from training.callbacks import Callback
from training.loop import Progress, fit
from training.optim import SGD, Adam, AdamW, parameter_groups
from training.rates import Cosine
from training.step import TrainStep

STEPS, EPOCHS = 7, 3


class Net(nn.Module):
    """A convolution, a structured one and a Linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, bias=False)
        self.structured = blocks.block("SepHashed_0.5", ConvSpec(8, 8, 3), name="structured")
        self.linear = nn.Linear(8, 10)

    def forward(self, x):
        return Output(self.linear(self.structured(self.conv(x).relu()).mean((2, 3))), [])


@pytest.fixture(scope="module")
def digits():
    return few_digits(200, 32)


class Noise(Callback):
    """Changes gradients after the pruner, as a user's callback may."""

    def after_backward(self, step):
        for parameter in step.model.parameters():
            parameter.grad.add_(1e-3)


class Watch(Callback):
    """Notes after every step which weights are not 0, and whether the optimizer keeps anything for the others."""

    def __init__(self, prune):
        self.prune, self.active, self.kept = prune, [], []

    def after_step(self, step):
        weights = self.prune.weights(step.model)
        self.active.append([(weight != 0).clone() for weight in weights])
        states = [(mask, step.optimizer.state[weight].values()) for weight, mask in zip(weights, self.prune.masks)]
        self.kept.append(
            all(not each[~mask].any() for mask, values in states for each in values if each.shape == mask.shape)
        )


def run(digits, name, cls, resumed=None, begin=1, end=None, **keywords):
    torch.manual_seed(1 if resumed else 0)
    model, prune = Net(), Prune(parse_prune(name), "", begin / EPOCHS, (begin if end is None else end) / EPOCHS)
    watch = Watch(prune)
    groups = parameter_groups(model, blocks.structured_parameters(model), 5e-4, 0.1)
    step = TrainStep(model, Supervised(), cls(groups, 1.0, 0.9, **keywords), [prune, Noise(), density.Density(), watch])
    moments = fit(step, digits, Cosine(0.05 if cls is SGD else 1e-2), EPOCHS, resumed, checkpoint_every=5)
    return [Progress(row, copy.deepcopy(state)) for row, state in moments], watch


@pytest.mark.parametrize(
    "name, cls, keywords",
    [
        ("TopK_0.3", SGD, {"nesterov": True}), ("TopK_0.3", Adam, {"begin": 0}), ("Magnitude_0.1", AdamW, {}),
        ("Gradual_0.3", Adam, {"end": 2}), ("Gradual_0.3", SGD, {"begin": 0, "end": 3}),
    ],
)  # fmt: skip
def test_pruned_weights_stay_zero_and_every_moment_is_resumed_to_the_bit(digits, name, cls, keywords, monkeypatch):
    monkeypatch.setattr(sparsity.prune, "EVERY", 3)
    whole, watch = run(digits, name, cls, **keywords)
    begin, method = STEPS * keywords.get("begin", 1), name.split("_")[0]
    active = [sum(int(mask.sum()) for mask in masks) for masks in watch.active]
    size = sum(mask.numel() for mask in watch.active[0])
    assert active[:begin] == [size] * begin and all(watch.kept)
    assert all((b <= a).all() for one, other in zip(watch.active, watch.active[1:]) for a, b in zip(one, other))
    if method == "Gradual":
        end = STEPS * keywords["end"]
        goal, moments = exact(0.3), [Fraction(step - step % 3, end - begin) for step in range(end - begin)]
        expected = [kept_count(share_at(goal, moment), size) for moment in moments]
        assert active[begin:] == expected + [kept_count(goal, size)] * (len(active) - end)
        assert whole[-1].row["active_fraction"] == kept_count(goal, size) / size
    else:
        assert len({*active[begin:]}) == 1 and (active[-1] == kept_count(exact(0.3), size) or method == "Magnitude")
        assert 0 < active[-1] < size
    row = whole[-1].row
    assert row["active_fraction"] * size == pytest.approx(
        sum(int(m.sum()) for m in whole[-1].state["callbacks"][0]["masks"])
    )
    for moment in whole[:-1]:
        rest, _ = run(digits, name, cls, moment.state, **keywords)
        assert same(rest[-1].state, whole[-1].state) and same(rest[-1].row, whole[-1].row)


def test_l1_shrinks_each_weight_by_its_own_rate(digits):
    """w ← sign(w)·max(|w| − lr·λ, 0), and no other parameter."""
    model = Net()
    factors = dict.fromkeys(blocks.structured_parameters(model), 0.5)
    step = TrainStep(model, Supervised(), SGD(parameter_groups(model, factors, 0.0, 1.0), 0.1, 0.9), [])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    ProximalL1(0.5, "^(conv|structured)$").after_step(step)
    by = {"conv.weight": 0.05, "structured.map.shared.numbers": 0.025, "structured.depthwise": 0.05}
    for name, parameter in model.named_parameters():
        old, less = before[name], by.get(name, 0.0)
        assert torch.equal(parameter, old.sign() * (old.abs() - less).clamp(min=0)), name
    assert 0 < density.counted(model).active < density.counted(model).prunable
