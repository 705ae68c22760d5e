"""Gates against ../gating.csv and their definitions, on networks of every kind, and trained in the real loop."""

import copy
import csv
import re
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from few_digits import few_digits
from results import same
from torch import nn

from cli import options
from counting.costs import costs_of, summary
from distill import Supervised
from gates.density import Density
from gates.gate import KINDS, largest, open_count
from gates.gates import Gates
from gates.registry import parse_gate
from gates.selection import Selection
from input.datasets import side_of
from layers.init import materialise
from models.build import build, swapped
from sparsity.twin import twin_of
from system.errors import RequestError
from training.freezing import freeze, trained
from training.loop import Progress, fit
from training.optim import SGD, parameter_groups
from training.rates import Cosine
from training.step import TrainStep
from weights import approximation

ROWS = list(csv.DictReader((Path(__file__).parents[1] / "gating.csv").read_text().splitlines()))
WHERE = {
    "every convolution": "", "both expands of fire 6 to 9": r"features\.(9|10|11|12)\.expand",
    "both expands of fire 9": r"features\.12\.expand",
    "the first convolution and both expands of fire 2 to 9": r"features\.0$|expand",
    "pointwise 9 to 13": r"layers\.(8|9|10|11|12)\.conv2", "the first convolution and every pointwise": "^conv1|conv2",
}  # fmt: skip


def counting(line: str) -> dict:
    """The configuration of a command line of count.py."""
    return dict(options.counting(line.split()))


def network_of(line: str, seed: int = 0) -> tuple[nn.Module, dict]:
    """The network of a command line of count.py, with initial weights."""
    config = counting(line)
    return materialise(build(config), seed).eval(), config


def image_of(config: dict, images: int = 2) -> torch.Tensor:
    return torch.randn(images, 3, side_of(config), side_of(config))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['network']}-{row['gated'][-12:]}-{row['density']}")
def test_published_rows(row):
    """What is planned, and what is measured where any channels are open, as many as the density says."""
    dataset = "cifar10" if row["network"] == "MCifarNet" else "imagenet"
    line = f"{dataset} --network {row['network']} --gate Naive_{row['density']}"
    config = counting(line) | {"gate_where": WHERE[row["gated"]]}
    costs, gates = summary(config), build(config).gates
    assert costs["gate_mult_adds"] == int(row["gate_mult_adds"])
    assert costs["mult_adds_gated"] == int(row["mult_adds"]) + int(row["gate_mult_adds"])
    for gate in gates.values():
        gate.mask = largest(torch.rand(3, gate.out_channels), open_count(gate.out_channels, float(row["density"])))
    assert gates.mult_adds().tolist() == [costs["mult_adds_gated"]] * 3


@pytest.mark.parametrize(
    "scores, count, expected",
    [
        ([0, 0, 0, 0], 2, [1, 1, 0, 0]), ([1, 1, 2, 1], 2, [1, 0, 1, 0]), ([3, 1, 2, 0], 1, [1, 0, 0, 0]),
        ([0, 5, 0, 0], 4, [1, 1, 1, 1]), ([0, 0, 0, 1], 3, [1, 1, 0, 1]),
    ],
)  # fmt: skip
def test_exactly_so_many_channels_are_open(scores, count, expected):
    both = torch.tensor([scores, scores[::-1]], dtype=torch.float32)
    mask = largest(both, torch.tensor(count))
    assert mask[0].int().tolist() == expected and mask.sum(1).tolist() == [count, count]
    assert open_count(100, 0.55) == 55 and open_count(10, 0.01) == 1 and open_count(64, Fraction(1, 3)) == 22


@pytest.mark.parametrize("method", KINDS)
def test_definition(method):
    """The formulas, with loops; whom the gradients reach."""
    conv, norm = nn.Conv2d(5, 8, 3, padding=1), nn.BatchNorm2d(8)
    gate = KINDS[method](5, 8, 0.3, weight=0.5)
    gate.reset_parameters(torch.Generator().manual_seed(1))
    with torch.no_grad():
        gate.weight.normal_(), norm.bias.normal_()
    x = torch.randn(4, 5, 6, 6, requires_grad=True)
    gate.look(x)
    y = norm(conv(x))
    out, loss = gate.choose(y).relu(), gate.auxiliary_losses()["gate"]
    weight, bias, total = gate.weight.tolist(), gate.bias.tolist(), 0.0
    for image in range(4):
        pooled = [float(c.max() if method == "Naive" else c.abs().mean()) for c in x.detach()[image]]
        scores = [max(0.0, bias[o] + sum(weight[o][i] * pooled[i] for i in range(5))) for o in range(8)]
        kept = sorted(range(8), key=lambda channel: (-scores[channel], channel))[:3]
        for channel in range(8):
            scale = (scores[channel] if method == "FBS" else 1.0) * (channel in kept)
            assert torch.allclose(out[image, channel], (y[image, channel] * scale).relu(), atol=1e-5)
            maximum = float(y[image, channel].detach().relu().max())
            total += 0.5 / 32 * ((maximum - scores[channel]) ** 2 if method == "Naive" else scores[channel])
    assert loss.item() == pytest.approx(total, rel=1e-4)
    of_loss = torch.autograd.grad(loss, [gate.weight, conv.weight, x], retain_graph=True, allow_unused=True)
    assert of_loss[0].abs().sum() > 0 and of_loss[1] is None
    of_output = torch.autograd.grad(out.sum(), [gate.weight, conv.weight, x], allow_unused=True)
    if method == "Naive":
        assert of_loss[2] is None and of_output[0] is None and of_output[1].abs().sum() > 0
    else:
        assert of_loss[2].abs().sum() > 0 and all(each.abs().sum() > 0 for each in of_output)


NETWORKS = [
    "digits --network MCifarNet", "digits --wrn_depth 16 --wrn_width 1", "imagenet --network SqueezeNet --image_size 64",
    "digits --network MobileNetV1 --width_mult 0.25", "digits --network CifarResNet50 --width_mult 0.125", "digits --network ResNet9",
    "digits --network AllConv",
    "digits --wrn_depth 16 --wrn_width 1 --conv SepHashed_0.3", "digits --network MCifarNet --conv Generic_0.25",
    "digits --network torchvision:resnet18", "digits --network timm:resnet10t",
]  # fmt: skip
LARGE = [
    "digits --network VGG16", "digits --network DARTS", "imagenet --network torchvision:densenet121 --image_size 64",
    "imagenet --network torchvision:mobilenet_v3_small --image_size 64", "digits --network timm:efficientnet_b0",
]  # fmt: skip
EVERY = [*NETWORKS, *(pytest.param(line, marks=pytest.mark.long) for line in LARGE)]


@pytest.mark.parametrize("line", EVERY, ids=lambda line: line.replace("--", "")[:40])
def test_networks(line):
    """Closed channels are 0 wherever it is counted that nothing reads them; without closed ones the network is the ungated one."""
    if "timm:" in line:
        pytest.importorskip("timm")
    network, config = network_of(f"{line} --gate Naive_0.5")
    dense = materialise(swapped(config), 0).eval()
    bare = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("gates.")}
    assert same(bare, {name: tensor for name, tensor in dense.state_dict().items()})
    x, found = image_of(config), []
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.uniform_(-1, 1), module.running_mean.uniform_(-0.1, 0.1)
        gates: Gates = network.gates
        for costs, channels, _ in gates.costs:
            if isinstance(channels, Selection):
                costs.module.register_forward_pre_hook(
                    lambda _, given, channels=channels: found.append((channels(), given[0].abs()))
                )
        network(x)
        assert all((gate.mask.sum(1) == open_count(gate.out_channels, 0.5)).all() for gate in gates.values())
        for is_open, given in found:
            largest_there = given.amax((2, 3)) if given.dim() == 4 else given
            assert not largest_there[~is_open].any()
        assert found and (gates.mult_adds() < gates.exact + gates.own_mult_adds).all()
        for gate in gates.values():
            gate.set_density(1)
        dense.load_state_dict(
            {name: each for name, each in network.state_dict().items() if not name.startswith("gates.")}
        )
        assert torch.equal(network(x).logits, dense(x).logits)
        assert gates.mult_adds().tolist() == [costs_of(config).mult_adds_exact + gates.own_mult_adds] * len(x)


def test_fbs_with_gains_of_one_is_the_plain_network():
    """Also where it starts from a trained one, whose batch-norms scale; without a gate there, the parameters are fewer by γ."""
    network, config = network_of("digits --network MCifarNet --gate FBS_1")
    plain = materialise(swapped(config), 1).eval()
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2), module.bias.uniform_(-1, 1)
        approximation.check(network, plain)
        approximation.approximate_network(network, plain)
        for gate in network.gates.values():
            gate.weight.zero_()
        x = image_of(config)
        assert torch.equal(network(x).logits, plain(x).logits)
    costs = summary(config)
    assert costs["params"] == sum(each.numel() for each in network.parameters()) == costs["params_sanity"]
    with pytest.raises(ValueError, match="gated by FBS there, nothing here"):
        approximation.check(plain, network)
    with pytest.raises(RequestError, match="no plain twin"):
        twin_of(network)


@pytest.fixture(scope="module")
def digits():
    return few_digits(200, 40)


def run(digits, name, resumed=None, where=None, warmup=0.0, parts=1, precision=None):
    torch.manual_seed(1 if resumed else 0)
    network, _ = network_of(f"digits --wrn_depth 10 --wrn_width 0.25 --gate {name}")
    if where is not None:
        freeze(network, where)
    groups = parameter_groups(network, {}, 5e-4, 1.0)
    keywords = {"precision": precision} if precision else {}
    density = Density(parse_gate(name).number, warmup)
    step = TrainStep(network, Supervised(), SGD(groups, 0.05, 0.9), [density], parts=parts, **keywords)
    moments = [
        Progress(row, copy.deepcopy(state))
        for row, state in fit(step, digits, Cosine(0.05), 2, resumed, checkpoint_every=5)
    ]
    return moments, network


@pytest.mark.parametrize("name, warmup", [("FBS_0.5", 0.75), ("Naive_0.75", 0.0)])
def test_trained_and_resumed_to_the_bit(digits, name, warmup):
    whole, network = run(digits, name, warmup=warmup)
    rows = [each.row for each in whole if each.row is not None]
    gates, density = network.gates, parse_gate(name).number
    at_half = density if not warmup else 1 - (1 - density) * 0.5 / warmup
    for row, open_share in zip(rows, (at_half, density)):
        counts = [open_count(gate.out_channels, open_share) for gate in gates.values()]
        assert row["gate_density"] == pytest.approx(sum(counts) / sum(gate.out_channels for gate in gates.values()))
        assert row["train_loss_gate"] > 0 and row["gate_loss"] > 0
    planned = gates.planned()  # of a network in which no gated channels are added
    assert rows[-1]["mult_adds_gated"] == planned < gates.exact + gates.own_mult_adds
    for moment in whole[:-1]:
        rest, _ = run(digits, name, moment.state, warmup=warmup)
        assert same(rest[-1].state, whole[-1].state) and same(rest[-1].row, whole[-1].row)


def test_frozen_parameters_and_statistics_stay_and_gates_move(digits):
    begun = network_of("digits --wrn_depth 10 --wrn_width 0.25 --gate Naive_0.5")[0].state_dict()
    whole, _ = run(digits, "Naive_0.5", where="^$", parts=2)
    moved = {name for name, tensor in whole[-1].state["model"].items() if not torch.equal(tensor, begun[name])}
    assert moved == {name for name in begun if name.startswith("gates.") and not name.endswith(".open")}
    whole, _ = run(digits, "Naive_0.5", where=r"groups\.2", precision=lambda: torch.autocast("cpu", torch.bfloat16))
    moved = {name for name, tensor in whole[-1].state["model"].items() if not torch.equal(tensor, begun[name])}
    assert moved == {name for name in begun if name.startswith(("gates.", "groups.2.")) and not name.endswith(".open")}
    with pytest.raises(RequestError, match="--train_where 'lienar' matches none of the parameters"):
        trained(swapped(counting("digits")), "lienar")


@pytest.mark.parametrize(
    "line, message",
    [
        ("digits --gate FBS_2", "'FBS_2' is not of the form FBS_d .0 < d <= 1"), ("digits --gate Niave_0.5", "did you mean Naive_d"),
        ("digits --gate FBS_0.5 --gate_where conv9", "matches none of the convolutions"),
        ("digits --gate FBS_0.5 --gate_where shortcut", "chooses groups.0.0.shortcut, .*which cannot be gated"),
        ("imagenet --gate Naive_0.5 --network torchvision:vit_b_16", "no convolution of this network has batch-norm or ReLU"),
        ("digits --gate_where conv", "--gate_where conv goes with --gate"),
    ],
)  # fmt: skip
def test_refused(line, message, capsys):
    with pytest.raises((RequestError, SystemExit)) as error:
        build(counting(line))
    assert re.search(message, str(error.value) + capsys.readouterr().err)
