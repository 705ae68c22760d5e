"""Counts against the published ones, and the exact ones against what torch sees run."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families import ONE_EACH, STEADY
from kernels import counted_and_seen
from small_runs import ROOT, TINY
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import blocks
import count
from cli import options
from counting import costs as counting_costs
from layers.init import materialise
from layers.registry import parse_conv
from layers.spec import ConvSpec
from models.build import build
from models.registry import NETWORKS
from system.errors import SwapconvError

UNPUBLISHED = {"PermutedACDC", "Butterfly", "Monarch", "BTT", "Kronecker"}  # in that table
ROWS = list(csv.DictReader((Path(__file__).parent / "counts.csv").read_text().splitlines()))


def request(*arguments):
    return options.counting(arguments)


def test_the_published_table_is_there():
    assert len(ROWS) == 226 and len({row["network"] for row in ROWS}) == 4  # counting/test_networks.py has the others
    assert set(STEADY) - {row["conv"].split("_")[0] for row in ROWS} == UNPUBLISHED


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(filter(None, list(row.values())[:5])))
def test_published_counts(row):
    flags = [f"--wrn_{name}={row[name]}" for name in ("depth", "width") if row[name]]
    costs = counting_costs.summary(request(row["dataset"], "--network", row["network"], "--conv", row["conv"], *flags))
    assert costs["params"] == int(row["params"])
    assert f"{costs['mult_adds']:.5E}" == row["mult_adds"]
    assert f"{costs['crs_ratio']:.6f}" == row["crs_ratio"]


def unseen(network, layers, batch):
    """What is counted of maps that run the faster way less what torch sees of them."""
    total = 0
    for layer in layers:
        part = getattr(network.get_submodule(layer.name), "map", None)
        told, seen = counted_and_seen(part, math.prod(layer.output[1:]) * batch) or (0, 0)
        total += told - seen
    return total


PASSES = [("WideResNet", 128), ("DARTS", 1), ("WRN_50_2", 128), ("MobileNetV2", 7)]
# The short set has the first of these, and each conv on one of the others; the long set has each on one of the rest, by turns.
# DARTS computes with numbers, which takes long.
OTHERS = [each for each in NETWORKS if each not in dict(PASSES)]
ALIKE = [conv for conv in ONE_EACH if conv.startswith(("OriginalACDC", "PermutedACDC"))]  # whose counts are ACDC's


@pytest.mark.parametrize(
    "conv, network, batch",
    [
        pytest.param(conv, *each, marks=() if each[0] == "WideResNet" else pytest.mark.long)
        for place, conv in enumerate(ONE_EACH)
        for each in (PASSES[0], PASSES[1 + place % 3])
        if conv not in ALIKE or each[0] == "WideResNet"
    ]
    + [
        (conv, "WideResNet", 1)
        for conv in ("ACDC", "ACDC_2", "Generic_0.1", "TensorTrain_0.5_4", "Tucker_0.1", "Shuffle_8")
    ]
    + [(conv, OTHERS[place % len(OTHERS)], 3) for place, conv in enumerate(ONE_EACH)],
)
def test_exact_counts_are_what_torch_sees(conv, network, batch):
    """A forward pass of every network; without numbers, where that is faster."""
    device = "cpu" if network == "DARTS" else "meta"
    dataset, side = ("cifar10", 32) if NETWORKS[network].side == 32 else ("imagenet", 224)
    depth = ["--wrn_depth", "16"] if network == "WideResNet" else []  # all of its kinds of layers
    config = request(dataset, "--network", network, "--conv", conv, *depth)
    built = build(config).eval()
    costs = counting_costs.count(built, side, batch)
    assert costs == counting_costs.costs_of(config, batch)  # which builds one block of each kind, and no network
    built = materialise(built, seed=0) if device == "cpu" else built
    with FlopCounterMode(display=False) as counter:  # with gradients: without them matrices are kept
        built(torch.empty(batch, 3, side, side, device=device))
    assert costs.exact_of_batch == counter.get_total_flops() // 2 + unseen(built, costs.layers, batch)
    assert costs.mult_adds_exact == pytest.approx(costs.exact_of_batch / batch, rel=1e-12)


def test_stored_bytes_are_those_of_the_state():
    config = request("cifar10", "--conv", "SepHashed_0.1", "--wrn_depth", "16", "--wrn_width", "1")
    state = build(config).state_dict()
    batch_norms = sum(name.endswith("running_mean") for name in state)
    means = sum(tensor.numel() for name, tensor in state.items() if "running_" in name)
    stored = 4 * (counting_costs.summary(config)["params"] + means) + 8 * batch_norms + 8  # step counters, the seed
    assert counting_costs.summary(config)["stored_bytes"] == stored


def test_what_count_py_prints():
    command = [sys.executable, ROOT / "count.py", "cifar10", "--conv", "Conv", "--wrn_width", "10", "--wrn_depth", "28"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[:3] == ["Mult-Adds: 5.24564E+09", "Params: 3.64792E+07", "Sanity check, parameters: 3.64792E+07"]


def test_neither_counting_nor_training_nor_fitting_imports_what_it_does_not_need(workplace):
    """A compiler, a symbolic algebra system, scikit-learn: each takes as long to import as torch."""
    training = ["digits", "teacher", "-t", "t", *TINY, "--epochs", "1"]
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import count, main\n"
    code += f"for conv in {ONE_EACH}: count.main(['cifar10', '--wrn_depth', '10', '--conv', conv])\n"
    code += f"main.main({training} + ['--train_size', '32', '--optimizer', 'adamw'])\nimport torch, blocks\nfrom layers.spec import ConvSpec\n"
    code += f"for conv in {ONE_EACH}: blocks.block(conv, ConvSpec(16, 16, 3), name='a')"
    code += ".approximate(torch.randn(16, 16, 3, 3), effort=0.01)\n"
    code += "print({'torch._dynamo', 'torch.distributed.fsdp', 'sympy', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_block_alone():
    made = blocks.block("Generic_0.5", ConvSpec(3, 8, 3, padding=1))
    assert counting_costs.count(made, 32).params == sum(p.numel() for p in made.parameters())


def test_json_and_table(capsys):
    flags = ["cifar10", "--conv", "Shuffle_5", "--wrn_depth", "10", "--wrn_width", "1"]
    assert count.main([*flags, "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert {"network", "conv", "params", "mult_adds", "mult_adds_exact", "crs_ratio", "stored_bytes"} <= set(costs)
    assert "layers" not in costs
    assert count.main([*flags, "--json", "--table"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert sum(layer["parameters"] for layer in layers) == costs["params"]
    assert sum(layer["mult_adds"] for layer in layers) == costs["mult_adds"]
    assert count.main([*flags, "--table"]) == 0
    shown = capsys.readouterr().out
    assert "groups.0.0.conv1" in shown and "Shuffle g=4" in shown  # 5 is lowered to 4


@pytest.mark.parametrize("conv", ONE_EACH)
def test_a_wrong_formula_is_noticed(conv, monkeypatch):
    cls = type(blocks.block(conv, ConvSpec(16, 16, 3), name="a"))
    right = cls.parameter_count
    monkeypatch.setattr(cls, "parameter_count", lambda self: right(self) + 1)
    with pytest.raises(SwapconvError, match="the formulas give"):
        counting_costs.summary(request("cifar10", "--network", "DARTS", "--conv", conv))


def test_darts_where_as_published():
    config = request("cifar10", "--network", "DARTS", "--conv", "SepHashedFull_0.1", "--where", "separable|dilated")
    assert counting_costs.summary(config)["params"] == 3_036_568
    assert counting_costs.costs_of(config, 7) == counting_costs.count(build(config), 32, 7)


def test_the_auxiliary_head_is_in_neither_count_but_in_the_ratio():
    costs = counting_costs.summary(request("cifar10", "--network", "DARTS", "--conv", "ACDC"))
    assert (costs["params"], costs["reference_params"], costs["auxiliary_params"]) == (847_414, 3_349_342, 476_426)
    network = build(request("cifar10", "--network", "DARTS", "--conv", "ACDC"))
    numbers = [t for name, t in network.state_dict().items() if not name.startswith("auxiliary.")]
    assert costs["stored_bytes"] == sum(t.nbytes for t in numbers)
    assert costs["crs_ratio"] == (847_414 + 476_426) / (3_349_342 + 476_426)
    assert not any(layer["name"].startswith("auxiliary") for layer in costs["layers"]) and not costs["uncounted"]


def test_a_foreign_module():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, dilation=2, bias=True),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 36, 4),
    )
    costs = counting_costs.count(model, 16, batch=2)
    assert costs.params == 8 * 27 + 8 + 16 + 288 * 4 + 4
    assert costs.mult_adds == 8 * 27 * 49 + 8 * 36 + 288 * 4 + 4  # dilation is ignored: 7×7 for the convolution
    assert costs.mult_adds_exact == 8 * 27 * 36 + 288 * 4
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 4)  # and it still runs


def test_shares_of_a_rebuilt_matrix_are_spread():
    model = nn.ModuleDict({"a": nn.Conv2d(8, 8, 1)})
    blocks.substitute(model, parse_conv("Generic_1"))
    assert model["a"].exact_mult_adds(4, 4, 100) == 8 * 8 * 8 + 100 * 16 * 64
