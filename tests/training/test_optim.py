"""Weight decay groups by published numbers; optimizers and schedules by torch's and by their definitions."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from families import ONE_EACH
from torch.optim import lr_scheduler

import blocks
from cli import options
from layers.init import materialise
from layers.mixed import is_slowed
from layers.spec import ConvSpec
from main import schedule_of
from models.build import build
from training import structured_lr
from training.optim import SGD, Adam, AdamW, parameter_groups, set_learning_rate, sgd
from training.rates import Cosine, Linear, Restarts, Step

# How many numbers of WRN-28-10 decay with the ratio (the specification's integers, not what the blocks say).
SCALED = {"Conv": 0, "Sep": 0, "SepHashed_0.1": 411_136, "Generic_0.1": 832_256, "Shuffle_4": 540_320,
          "ACDC": 197_120, "TensorTrain_0.26": 305_848, "Tucker_0.25": 322_870}  # fmt: skip


@pytest.mark.parametrize("conv", ONE_EACH)
def test_families_that_are_slowed_name_parameters_of_theirs(conv):
    made = blocks.block(conv, ConvSpec(32, 32, 3, padding=1), name="a")
    slowed = blocks.slowed_parameters(made)
    assert bool(slowed) == is_slowed(conv) and slowed.keys() <= set(made.structured_parameters())
    assert not slowed or 0 < min(slowed.values()) < 1


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


def parameters():
    """Two groups of three parameters each, one of them channels-last."""
    torch.manual_seed(0)
    shapes = [(7, 5), (3,), (4, 3, 3, 3), (8, 2), (1,), (2, 6, 3, 3)]
    made = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    made[2].data = made[2].data.to(memory_format=torch.channels_last)
    return made


OPTIMIZERS = {
    "SGD": (SGD, {"momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
    "SGD without momentum": (SGD, {"momentum": 0.0}, torch.optim.SGD, {}),
    "Nesterov": (SGD, {"momentum": 0.8, "nesterov": True}, torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    "Adam": (Adam, {"momentum": 0.9}, torch.optim.Adam, {}),
    "AdamW": (AdamW, {"momentum": 0.85}, torch.optim.AdamW, {"betas": (0.85, 0.999)}),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


@every_optimizer
def test_it_is_torchs(name):
    """To the bit over 20 steps at changing rates, and each goes on from the state of the other."""
    cls, own, reference, its = OPTIMIZERS[name]
    pair = [parameters(), parameters()]
    groups = [
        [{"params": ps[:3], "weight_decay": 5e-2, "name": "plain"}, {"params": ps[3:], "weight_decay": 1e-2, "name": "structured"}]
        for ps in pair
    ]  # fmt: skip
    ours, theirs = cls(groups[0], 0.1, **own), reference(groups[1], lr=0.1, fused=True, **its)
    for step in range(20):
        if step == 10:
            theirs_then, ours_then = copy.deepcopy(theirs.state_dict()), copy.deepcopy(ours.state_dict())
            merged = zip(theirs_then["param_groups"], ours_then["param_groups"])
            theirs.load_state_dict({**ours_then, "param_groups": [{**both[0], "lr": both[1]["lr"]} for both in merged]})
            ours.load_state_dict(theirs_then)
        set_learning_rate(ours, 0.1 / (1 + step))
        for group in theirs.param_groups:
            group["lr"] = 0.1 / (1 + step)
        torch.manual_seed(step)
        for mine, other in zip(*pair):
            other.grad = torch.randn_like(other)
            mine.grad = other.grad.clone()
        ours.step(), theirs.step()
        assert all(map(torch.equal, *pair))
    assert ours.state_dict()["state"].keys() == (set() if "without" in name else set(range(6)))


def test_kept_matrices_see_every_optimizer():
    """The version counters are those that layers/kept.py looks at on a GPU."""
    for cls, own, *_ in OPTIMIZERS.values():
        (parameter, *_) = parameters()
        optimizer = cls([{"name": "plain", "params": [parameter], "weight_decay": 0.1}], 0.1, **own)
        for _ in range(2):
            before, parameter.grad = parameter._version, torch.ones_like(parameter)
            optimizer.step()
            assert parameter._version > before


def test_factors_on_the_rate_of_structured_parameters():
    """Of degree 6 a sixth, in a group of its own; 0 groups more where nothing is asked."""
    built = materialise(network("Tucker_0.5", "--wrn_depth", "10", "--wrn_width", "0.5"), seed=0)
    structured = blocks.structured_parameters(built)
    assert set(structured.values()) == {6}
    optimizers = {
        asked: SGD(parameter_groups(built, structured_lr.factors(built, asked), 5e-4, 0.2), 0.3, 0.9)
        for asked in (None, 0.5, "auto")
    }
    for asked, factor in ((None, 1.0), (0.5, 0.5), ("auto", 1 / 6)):
        set_learning_rate(optimizers[asked], 0.1)
        plain, slow = optimizers[asked].param_groups
        assert (plain["lr"], slow["lr"]) == (0.1, 0.1 * factor) and set(slow["params"]) == set(structured)
        assert (plain["weight_decay"], slow["weight_decay"]) == (5e-4, 5e-4 * 0.2)
    assert [group["params"] for group in optimizers[None].state_dict()["param_groups"]] == [
        group["params"] for group in optimizers["auto"].state_dict()["param_groups"]
    ]
    for conv, own in (("SepHashedDecimate", 1), ("HashedDecimate", 0.4), ("Hashed_0.5", 1)):
        hashed = materialise(network(conv, "--wrn_depth", "10", "--wrn_width", "1"), seed=0)
        names = {parameter: name for name, parameter in hashed.named_parameters()}
        for parameter, factor in structured_lr.factors(hashed, "shared").items():
            assert factor == (own if names[parameter].endswith("numbers") else 1)
    acdc = materialise(network("OriginalACDC", "--wrn_depth", "10", "--wrn_width", "0.5"), seed=0)
    given = structured_lr.factors(acdc, "shared")
    for name, parameter in acdc.named_parameters():
        assert given.get(parameter, 1) == (0.36 if name.endswith((".a", ".d")) else 1)  # 4/11
    assert structured_lr.factors(built, "shared") == structured_lr.factors(built, "auto")  # of Tucker
    mixed = parameter_groups(built, dict(zip(structured, [0.5, 1.0, 0.25, 0.5])), 0.0, 1.0)
    assert [(group["name"], group.get("lr_factor"), len(group["params"])) for group in mixed[1:]] == [
        ("structured", None, 1), ("structured", 0.5, 2), ("structured", 0.25, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("conv", ONE_EACH)
def test_the_degree_of_every_family(conv):
    """With the structured parameters twice as large, the kernel is 2^degree times as large."""
    made = blocks.block(conv, ConvSpec(8, 16, 3, padding=1))
    structured, before = blocks.structured_parameters(made), made.weight().detach().clone()
    with torch.no_grad():
        for parameter in structured:
            parameter.mul_(2)
    (degree,) = set(structured.values()) or {0}
    torch.testing.assert_close(made.weight().detach(), before * 2.0**degree, rtol=1e-4, atol=1e-6)


def by_torch(make, positions):
    """The rates that a scheduler of torch gives at these epochs, of which some are parts."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = make(optimizer)
    found = []
    for position in positions:
        optimizer.step()
        scheduler.step(position)
        found.append(scheduler.get_last_lr()[0])
    return found


@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_schedules_of_every_step_are_torchs():
    """At every step of 7 an epoch, as the loop asks for it, and exactly the full rate where a cycle begins."""
    steps = 7
    for first, mult, epochs in ((1, 1, 12), (3, 1, 29), (3, 2, 29), (10, 2, 49), (2, 3, 30)):
        schedule, points = Restarts(0.4, first, mult, epochs), [[0, 0], [2.5, 0.4], [epochs - 1, 0.05]]
        positions = [epoch + step / steps for epoch in range(epochs) for step in range(steps)]
        shares = [(epoch + step / steps) / epochs for epoch in range(epochs) for step in range(steps)]
        np.testing.assert_allclose(
            [schedule(t) for t in shares],
            by_torch(partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=first, T_mult=mult), positions),
            atol=1e-9,
        )
        assert all(schedule(epoch / epochs) == 0.4 for epoch in [0, *schedule.restarts()])
        assert schedule.restarts()[:2] == [each for each in (first, first + first * mult) if each < epochs]

        def factor(position, points=points):
            return float(np.interp(position, *zip(*points))) / 0.4

        np.testing.assert_allclose(
            [Linear(points, epochs)(t) for t in shares],
            by_torch(partial(lr_scheduler.LambdaLR, lr_lambda=factor), positions),
            atol=1e-9,
        )


@every_optimizer
def test_a_rate_in_a_tensor_is_the_rate(name, monkeypatch):
    """As on a GPU: to rounding of the rate, in the same tensor when it changes."""
    gpu, updated, empty = type("Device", (), {"type": "cuda"}), [], torch.empty
    cls, own, *_ = OPTIMIZERS[name]
    on_gpu = type("OnGPU", (cls,), {"_rate": lambda self, number, device: cls._rate(self, number, gpu)})
    monkeypatch.setattr(torch, "empty", lambda shape, device: empty(shape))
    for each in (cls, on_gpu):
        parameter, kept = torch.nn.Parameter(torch.linspace(-1, 1, 99)), set()
        optimizer = each([{"name": "plain", "params": [parameter], "weight_decay": 0.5}], 0.0, **own)
        for lr in (0.1, 0.1, 0.03):
            set_learning_rate(optimizer, lr)
            parameter.grad = torch.cos(parameter.detach())
            optimizer.step()
            kept.add(id(optimizer._rate(0, parameter.device)) if each is on_gpu else 0)
        updated.append(parameter.detach())
        assert len(kept) == 1
    torch.testing.assert_close(*updated, rtol=0, atol=0 if cls is SGD else 1e-7)


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
