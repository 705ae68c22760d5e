"""Allocation: what a budget is shared by, how near the choice is to the best, and a run that begins with it."""

import doctest
import itertools
import json
import random
import re
import shutil

import pytest
import torch
from small_runs import TINY
from torch import nn

import count
import main
from blocks import substitute
from cli import options
from counting.budget import resolve
from counting.costs import summary
from layers.init import materialise
from layers.mixed import parse_name
from layers.registry import parse_conv, parse_family
from layers.spec import ConvSpec
from models.build import build
from models.output import Output
from record.checkpoint import load_run
from system.errors import RequestError
from training import allocate as training_allocate
from weights import allocation, curve
from weights.allocation import share_out
from weights.curve import Point
from weights.sensitivity import sensitivities

SMALL = ["digits", "teacher", "-t", "x", "--init_from", "t", "--allocate", "--fit_effort", "0.02", "--wrn_depth", "10"]


def request(conv, budget, *flags, width="0.5"):
    return options.training([*SMALL, "--wrn_width", width, "--conv", conv, "--budget", str(budget), *flags])


def trained(config, conv="Conv"):
    """A network as of a run, with running statistics of its own."""
    network = materialise(build({**config, "conv": conv}), seed=3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0), nn.init.uniform_(module.weight, 0.5, 1.5)
    return network


def images(batches=2):
    return [torch.randn(4, 3, 32, 32) for _ in range(batches)]


def test_shares_are_the_best_of_all_choices_at_the_budgets_that_they_fill():
    draw, filled = random.Random(0), 0
    for _ in range(30):
        curves = [[Point(size, draw.random() * 9 / size) for size in draw.sample(range(1, 9), 4)] for _ in range(3)]
        convex = [curve.hull(points) for points in curves]
        least = sum(points[0].parameters for points in convex)
        for room in range(least, least + 16):
            chosen = share_out(curves, room)
            assert sum(point.parameters for point in chosen) <= room
            best = min(
                sum(point.cost for point in choice)
                for choice in itertools.product(*convex)
                if sum(point.parameters for point in choice) <= room
            )
            rise = sum(point.cost for point in chosen)
            steepest = max((a.cost - b.cost for points in convex for a, b in itertools.pairwise(points)), default=0.0)
            assert best - 1e-12 <= rise <= best + steepest
            filled += rise <= best + 1e-12
    assert filled > 300  # of 480; the others have room that no step of the hulls fills
    assert doctest.testmod(curve).failed == doctest.testmod(allocation).failed == 0


class Odd(nn.Module):
    """A stride, a dilation, a bias, a 1×1 that is called twice, a Linear on pixels; in-place functions after them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.twice = nn.Conv2d(4, 4, 1)
        self.wide = nn.Conv2d(4, 6, 3, padding=2, dilation=2, bias=False)
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        x = self.twice(torch.relu_(self.first(x)))
        x = torch.relu_(self.wide(self.twice(x.sin())))
        return Output(self.linear(x.permute(0, 2, 3, 1)).mean((1, 2)), [])


def test_sensitivities_are_traces_of_the_fisher_information():
    torch.manual_seed(0)
    network, x = Odd(), torch.randn(3, 3, 9, 9)
    layers = ["first", "twice", "wide", "linear"]
    exact = dict.fromkeys(layers, 0.0)
    for image in x:
        log_p = network(image[None]).logits.log_softmax(1)[0]
        for label in range(3):
            for name in layers:
                weight = network.get_submodule(name).weight
                (gradient,) = torch.autograd.grad(log_p[label], weight, retain_graph=True)
                exact[name] += log_p[label].exp().item() * gradient.square().sum().item() / len(x)
    found = sensitivities(network, layers, [x] * 150, seed=0)
    for name in layers:
        expected = exact[name] * network.get_submodule(name).weight.square().mean().item()
        assert found[name] == pytest.approx(expected, rel=0.25)
    assert found == sensitivities(network, layers, [x] * 150, seed=0) and all(
        p.grad is None for p in network.parameters()
    )
    substitute(
        network, parse_conv("Generic_1"), "wide|linear"
    )  # its kernels equal others, so only the names are the same
    assert all(value > 0 for value in sensitivities(network, layers, [x], seed=0).values())


@pytest.mark.parametrize(
    "conv, budget",
    [
        ("SepHashed", 3_500),
        ("Generic", 5_000),
        ("Kronecker", 3_500),
        pytest.param("ACDC", 6_000, marks=pytest.mark.long),
        ("Shuffle", 2_600),
        ("TensorTrain_x_4", 3_300),
        ("groups.0=Conv,groups.1.0.conv2=BTT,.*=SepHashed", 5_200),
    ],
)
def test_an_allocation_meets_its_budget_and_loses_less_than_one_number(conv, budget):
    config = request(conv, budget)
    if not conv.startswith("groups"):  # what one number for all layers achieves
        budget = resolve(config)[1].achieved
        config = request(conv, budget)
    found = allocation.allocate(config, trained(config), images())
    costs = summary({**config, "conv": str(found.conv)})
    assert costs["params"] == found.achieved <= budget == found.asked
    assert parse_name(str(found.conv)) == found.conv
    for row in found.rows:
        assert found.conv.of(row.layer) == row.conv and 0 <= row.error < 1.2 and row.sensitivity > 0
    if conv.startswith("groups"):
        assert found.uniform is None and str(found.conv).startswith("groups.0=Conv,groups.1.0.conv2=BTT_")
        assert len(found.rows) == 4
        return
    one = found.uniform
    assert one.achieved == summary({**config, "conv": str(one.conv)})["params"] == budget
    assert found.cost < one.cost
    assert f"one number for all: {one.conv}, " in allocation.report(
        found
    ) and f"{found.achieved:,} achieved" in allocation.report(found)


def test_curves_are_refined_next_to_their_cheapest_point():
    """Its share may lie anywhere on the step of a rank of 1, which ends 10⁸ times as high as it begins."""
    layer = curve.Curve("c", parse_family("Generic"), ConvSpec(64, 64, 3, padding=1))
    layer.limit(3_000), layer.prepare((torch.randn(64, 64, 3, 3), None), sensitivity=1.0, seed=0, effort=0.01)
    for number in layer.coarse():
        layer.fit(number)
    for place in (0, 1):
        for number in layer.between(layer.points()[place]):
            layer.fit(number)
    assert [point.parameters for point in layer.points()][:4] == [704, 832, 960, 1088]  # 9·64 + 128·r
    assert layer.between(layer.points()[1]) == []


def test_what_cannot_be_allocated():
    config = request("SepHashed", 100)
    with pytest.raises(
        RequestError, match=r"100 parameters is out of reach for SepHashed, a number a layer.*: 2,.* are in reach"
    ):
        allocation.allocate(config, trained(config), images())
    with pytest.raises(RequestError, match="out of reach .*: 2,.* are in reach"):
        allocation.allocate(config | {"budget": 10**6}, trained(config), images())
    config = request("Generic", 5_000)
    with pytest.raises(
        RequestError, match="--init_from t: groups.0.0.conv1 has a bias there, but no place for one here"
    ):
        allocation.allocate(config, trained(config, "SepHashed_0.5"), images())
    for conv in ("Sep", "groups.0=Conv,.*=Sep"):
        with pytest.raises(RequestError, match="has no number that --allocate could find"):
            request(conv, 7_000)


def test_patterns_of_layers_whose_names_hold_each_other():
    names = ["conv1", "conv11", "a+b"]
    found = {name: parse_conv(f"SepHashed_0.{number}") for number, name in enumerate(names, 1)}
    mixed = allocation.mixed(options.parse_open("SepHashed"), found, names)
    assert str(mixed) == "^conv1$=SepHashed_0.1,conv11=SepHashed_0.2,^a\\+b$=SepHashed_0.3"
    assert mixed.decide(names) == found and parse_name(str(mixed)) == mixed


def test_a_run_begins_with_an_allocation_and_goes_on_with_it(teacher, workplace, capsys, monkeypatch):
    shutil.copytree(teacher / "checkpoints", "checkpoints")
    run = ["digits", "student", "-t", "t", "-s", "s", *TINY, "--init_from", "t", "--allocate", "--fit_effort", "0.02"]
    run += ["--conv", "SepHashed", "--budget"]
    assert main.main([*run, "1750", "--epochs", "1", "--train_size", "32"]) == 0
    told, config = capsys.readouterr().out, load_run("s", "run")["config"]
    assert config["allocate"] == "SepHashed" and config["conv"].startswith("groups.0.0.conv1=SepHashed_")
    assert re.search(r"groups.0.0.conv1 +SepHashed_", told) and "s: mixed SepHashed " in told
    assert "one number for all: SepHashed_0." in told and summary(config)["params"] <= 1750

    monkeypatch.setattr(training_allocate.allocation, "allocate", None)  # never again
    assert main.main([*run, "1750", "--epochs", "1", "--train_size", "32", "--resume"]) == 0
    assert f"allocated when the run was begun: {config['conv']}" in capsys.readouterr().out
    with pytest.raises(RequestError, match=r"conv was SepHashed allocated at 1750, is SepHashed allocated at 1800"):
        main.main([*run, "1800", "--epochs", "1", "--train_size", "32", "--resume"])
    with pytest.raises(RequestError, match="the run 's' is finished: show its result with --resume"):
        main.main([*run, "1750", "--epochs", "1", "--train_size", "32"])
    assert capsys.readouterr().out == ""
    taught = ["digits", "student", "-t", "s", "-s", "of.s", *TINY, "--conv", "groups.0=Sep", "--dry_run", "--json"]
    assert main.main(taught) == 0
    said = capsys.readouterr()
    assert "taught by mixed SepHashed " in said.err and json.loads(said.out)
    assert main.main(["digits", "teacher", "-t", "s", "--evaluate"]) == 0
    assert config["conv"] in capsys.readouterr().out
    flags = ["digits", "--wrn_depth", "10", "--wrn_width", "0.25", "--conv", config["conv"], "--json"]
    assert count.main(flags) == 0 and json.loads(capsys.readouterr().out)["params"] == summary(config)["params"]
