"""Weight decay groups by published numbers, and schedules by their definitions."""

import math

import pytest
import torch

import blocks
from cli import options
from layers.init import materialise
from main import schedule_of
from models.build import build
from training.optim import set_learning_rate, sgd
from training.rates import Cosine, Step

# How many numbers of WRN-28-10 decay with the ratio (the specification's integers, not what the blocks say).
SCALED = {"Conv": 0, "Sep": 0, "SepHashed_0.1": 411_136, "Generic_0.1": 832_256, "Shuffle_4": 540_320,
          "ACDC": 197_120, "TensorTrain_0.26": 305_848, "Tucker_0.25": 322_870}  # fmt: skip


def network(conv, *flags):
    return build(options.counting(["cifar10", "--conv", conv, *flags]))


@pytest.mark.parametrize("conv, scaled", SCALED.items())
def test_how_many_numbers_decay_with_the_ratio(conv, scaled):
    built = network(conv, "--wrn_depth", "28", "--wrn_width", "10")
    optimizer = sgd(built, blocks.structured_parameters(built), 0.1, 0.9, 5e-4, 0.02)
    by_decay = {group["weight_decay"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    total = sum(p.numel() for p in built.parameters())
    assert by_decay == ({5e-4: total - scaled, 5e-4 * 0.02: scaled} if scaled else {5e-4: total})


@pytest.mark.parametrize("conv", ["SepHashed_0.1", "Shuffle_4"])
def test_rates_and_decays_after_steps(conv):
    built = materialise(network(conv, "--wrn_depth", "10", "--wrn_width", "0.5"), seed=0)
    optimizer, schedule = sgd(built, blocks.structured_parameters(built), 0.1, 0.9, 5e-4, 0.25), Cosine(0.1)
    for step in range(3):
        set_learning_rate(optimizer, schedule(step / 3))
        optimizer.zero_grad()
        built(torch.randn(2, 3, 32, 32)).logits.square().sum().backward()
        optimizer.step()
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (schedule(2 / 3), 5e-4),
        (schedule(2 / 3), 5e-4 * 0.25),
    ]


def test_the_scaled_decay_is_what_the_optimizer_applies():
    built = materialise(network("Generic_0.5", "--wrn_depth", "10", "--wrn_width", "0.5"), seed=0)
    structured = blocks.structured_parameters(built)
    optimizer = sgd(built, structured, 0.1, 0.0, 0.5, 0.1)
    before = {parameter: parameter.detach().clone() for parameter in built.parameters()}
    for parameter in built.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    chosen = {id(parameter) for parameter in structured}
    for parameter, old in before.items():
        rate = 0.5 * 0.1 if id(parameter) in chosen else 0.5
        torch.testing.assert_close(parameter.detach(), old * (1 - 0.1 * rate))


def rates(*flags):
    request = options.training(["cifar10", "teacher", "-t", "x", *flags])
    schedule = schedule_of(request)
    return [schedule(epoch / request.epochs) for epoch in range(request.epochs)]


def test_step_schedule_drops_in_the_epoch_itself():
    lr = rates()
    assert len(lr) == 200
    assert lr[0] == lr[59] == 0.1
    assert lr[60] == pytest.approx(0.02) and lr[119] == pytest.approx(0.02)
    assert lr[120] == pytest.approx(0.004) and lr[160] == lr[199] == pytest.approx(0.0008)


def test_steps_move_in_proportion():
    lr = rates("--epochs", "20")
    assert [lr.count(rate) for rate in sorted(set(lr), reverse=True)] == [6, 6, 4, 4]
    lr = rates("--epochs", "7", "--epoch_step", "[2,3]", "--lr", "1", "--lr_decay_ratio", "0.5")
    assert lr == [1, 1, 0.5, 0.25, 0.25, 0.25, 0.25]


def test_short_runs_start_at_the_full_rate():
    """The steps are at 30, 60 and 80 % of the run: no epoch before that share is slower."""
    assert rates("--epochs", "1") == [0.1]
    assert rates("--epochs", "2") == [0.1, pytest.approx(0.02)]
    assert [rates("--epochs", "15").count(r) for r in (0.1,)] == [5]  # 4.5, felt in epoch 5


def test_cosine_goes_to_zero_by_epoch():
    lr = rates("--schedule", "cosine", "--epochs", "10", "--lr", "0.2")
    assert lr == [pytest.approx(0.1 * (1 + math.cos(math.pi * epoch / 10))) for epoch in range(10)]
    assert Cosine(0.2)(1.0) == 0.0
    assert Step(0.1, (), 0.2)(0.9) == 0.1
