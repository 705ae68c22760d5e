"""Weight decay groups by published numbers, and schedules by their definitions."""

import copy
import math

import pytest
import torch

import blocks
from cli import options
from layers.init import materialise
from main import schedule_of
from models.build import build
from training.optim import SGD, set_learning_rate, sgd
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


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_it_is_torchs_sgd(momentum):
    """To the bit, and each goes on from the state of the other."""
    networks = [
        materialise(network("Generic_0.5", "--wrn_depth", "10", "--wrn_width", "0.25"), seed=0) for _ in range(2)
    ]
    groups = [
        [{"params": ps[:5], "weight_decay": 5e-4, "name": "plain"}, {"params": ps[5:], "weight_decay": 1e-4, "name": "structured"}]
        for ps in ([*each.parameters()] for each in networks)
    ]  # fmt: skip
    ours, theirs = SGD(groups[0], 0.1, momentum), torch.optim.SGD(groups[1], 0.1, momentum, fused=True)
    networks[0].load_state_dict(networks[1].state_dict())
    for step in range(4):
        if step == 2:
            theirs_then = copy.deepcopy(theirs.state_dict())
            defaults = {
                "dampening": 0,
                "nesterov": False,
                "maximize": False,
                "foreach": None,
                "differentiable": False,
                "fused": True,
            }
            state = copy.deepcopy(ours.state_dict())
            theirs.load_state_dict({**state, "param_groups": [defaults | group for group in state["param_groups"]]})
            ours.load_state_dict(theirs_then)
        for built, optimizer in zip(networks, (ours, theirs)):
            optimizer.zero_grad()
            torch.manual_seed(step)
            built(torch.randn(2, 3, 32, 32)).logits.square().sum().backward()
            optimizer.step()
        assert all(map(torch.equal, *(each.parameters() for each in networks)))


def test_a_rate_in_a_tensor_is_the_rate(monkeypatch):
    """As on a GPU: to the bit, in the same tensor when it changes."""
    gpu, updated = type("Device", (), {"type": "cuda"}), []
    monkeypatch.setattr(torch, "empty", lambda shape, device: torch.zeros(shape))
    monkeypatch.setattr(OnGPU, "_rate", lambda self, number, device: SGD._rate(self, number, gpu), raising=False)
    for cls in (SGD, OnGPU):
        parameter, kept = torch.nn.Parameter(torch.linspace(-1, 1, 99)), set()
        optimizer = cls([{"name": "plain", "params": [parameter], "weight_decay": 0.5}], 0.0, 0.9)
        for lr in (0.1, 0.1, 0.03):
            set_learning_rate(optimizer, lr)
            parameter.grad = torch.cos(parameter.detach())
            optimizer.step()
            kept.add(id(optimizer._rate(0, parameter.device)) if cls is OnGPU else 0)
        updated.append(parameter.detach())
        assert len(kept) == 1
    assert torch.equal(*updated)


class OnGPU(SGD):
    """As it would be on a GPU."""


def test_a_first_gradient_that_comes_late():
    early, late = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = SGD([{"name": "plain", "params": [early, late], "weight_decay": 0.5}], 0.1, 0.9)
    for step in range(2):
        early.grad, late.grad = torch.ones(3), torch.ones(3) if step else None
        optimizer.step()
    torch.testing.assert_close(late.detach(), torch.full((3,), 1 - 0.1 * 1.5))
    v = 0.9 * 1.5 + 1 + 0.5 * 0.85
    torch.testing.assert_close(early.detach(), torch.full((3,), 0.85 - 0.1 * v))


def test_a_state_of_another_network_is_refused():
    tiny, wider = (
        sgd(materialise(network("Conv", "--wrn_depth", "10", "--wrn_width", width), seed=0), [], 0.1, 0.9, 0.0, 1.0)
        for width in ("0.25", "0.5")
    )
    for parameter in wider.param_groups[0]["params"]:
        parameter.grad = torch.zeros_like(parameter)
    wider.step()
    with pytest.raises(ValueError, match="a momentum of"):
        tiny.load_state_dict(wider.state_dict())


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
