"""Masks against ../sparsity.csv and against sorting; what is prunable; what is counted."""

import csv
import re
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from families import ONE_EACH
from torch import nn

import blocks
from layers.spec import ConvSpec
from sparsity import density, masks
from sparsity.prune import exact, kept_count, share_at
from sparsity.weights import prunable
from system.errors import RequestError

ROWS = list(csv.DictReader((Path(__file__).parents[1] / "sparsity.csv").read_text().splitlines()))


def tensors(text):
    return [torch.tensor([float(number) for number in part.split()]) for part in text.split("|")]


def said(found):
    return " | ".join(" ".join(str(int(entry)) for entry in mask) for mask in found)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row["section"] in ("exact_topk", "threshold")], ids=lambda row: row["case"]
)
def test_the_reference(row):
    weights, expected = tensors(row["input"]), row["expected"].partition("mask ")[2]
    if row["section"] == "threshold":
        found = masks.above(weights, float(row["parameters"].partition(">")[2]))
    else:
        goal, n = (float(number) for number in re.findall(r"=([\d.]+)", row["parameters"]))
        count = int(re.search(r"=(\d+);", row["expected"])[1])
        assert kept_count(exact(goal), int(n)) == max(1, count)
        found = masks.largest(weights, count)
    assert said(found) == expected


def test_active_fractions_are_the_references():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Linear(2, 3))
    values = [*range(1, 10), *[0] * 7, 5e-4, -2], [1, 0, 0, -1, 1e-3, 2e-3], [0, 0, 0.5]
    with torch.no_grad():
        for parameter, given in zip((network[0].weight, network[2].weight, network[2].bias), values):
            parameter.copy_(torch.tensor(given).view_as(parameter))
    found = density.counted(network)
    nonzero, above = (row["expected"] for row in ROWS if row["section"] == "active_fraction")
    assert (
        f"only {found.active}/{found.prunable}=" in nonzero and f"parameters {found.active_parameters}/31=" in nonzero
    )
    assert f"only {found.above}/{found.prunable}=" in above
    assert found.layers == {"0": 11 / 18, "2": 4 / 6}
    assert found.sparse_bytes == (3 + 1) + 4 * 15 + 4 * (2 + 2 + 3) + 4 * (2 + 2) + 8


@pytest.mark.parametrize("count", [1, 2, 50, 99, 199, 200])
def test_exactly_so_many_of_several_tensors_with_ties(count):
    weights = [torch.randint(-3, 4, shape).float() for shape in ((5, 4, 3), (2, 2, 10), (100,))]
    weights[0] = weights[0].view(5, 4, 3, 1).contiguous(memory_format=torch.channels_last)
    found = torch.cat([mask.flatten() for mask in masks.largest(weights, count)])
    order = torch.cat([weight.flatten() for weight in weights]).abs().argsort(descending=True, stable=True)
    assert sorted(order[:count].tolist()) == found.nonzero().flatten().tolist()
    among = [weight.abs() > 1 for weight in weights]
    few = min(count, sum(int(mask.sum()) for mask in among))
    chosen = masks.largest(weights, few, among)
    assert sum(int(mask.sum()) for mask in chosen) == few
    assert all((mask <= allowed).all() for mask, allowed in zip(chosen, among))


def test_shares():
    goals = ((0.29, 100), (0.7, 10), (1.0, 7), (1e-9, 5))
    assert [kept_count(exact(share), count) for share, count in goals] == [29, 7, 7, 1]
    tenth, steps = exact(0.1), [Fraction(step, 10) for step in (0, 3, 5, 10)]
    shares = [share_at(tenth, step) for step in steps]
    assert shares == [1, Fraction(4087, 10000), Fraction(2125, 10000), tenth]
    assert [kept_count(share, 100_000) for share in shares] == [100_000, 40_870, 21_250, 10_000]


@pytest.mark.parametrize("conv", ONE_EACH)
def test_all_of_a_replaced_convolution_but_biases_is_prunable(conv):
    network = nn.Sequential(blocks.block(conv, ConvSpec(32, 32, 3, padding=1, bias=True), name="a"), nn.BatchNorm2d(32))
    (name,) = found = prunable(network)
    biases = sum(parameter.numel() for key, parameter in network[0].named_parameters() if key.endswith("bias"))
    assert name == "0" and sum(each.numel() for each in found[name]) == network[0].parameter_count() - biases


def test_a_users_convolution_names_its_biases():
    class Conv(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix, self.shift = (nn.Parameter(torch.zeros(3, 3)) for _ in range(2))

        def structured_parameters(self):
            return list(self.parameters())

        def biases(self):
            return [self.shift]

    network = nn.Sequential(Conv(), nn.Linear(2, 3))
    assert prunable(network) == {"0": [network[0].matrix], "1": [network[1].weight]}


def test_where():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3)))
    network[1][1].weight = network[1][0].weight  # shared: of the layer that comes first
    assert list(prunable(network)) == ["0", "1.0"] and list(prunable(network, r"^1\.")) == ["1.0"]
    with pytest.raises(
        RequestError, match="--prune_where 'layer' matches none of the layers with weights, such as '0'"
    ):
        prunable(network, "layer")
