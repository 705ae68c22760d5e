"""Matrices that are formed before a pass change nothing of it."""

import pytest
import torch
from torch import nn

from blocks import block
from layers.ahead import formed_ahead, maps_of
from layers.spec import ConvSpec

CONVS = [
    "SepHashed_0.3",
    "ACDC_4",
    "TensorTrain_0.5",
    "Tucker_0.5",
    "CP_0.5",
    "Butterfly",
    "Monarch_2",
    "Sep",
]


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_same_results_and_gradients(conv, precision):
    """Of a map that is used twice in a pass, too: the second time it forms its matrix itself."""
    torch.manual_seed(0)
    first, twice, last = (block(conv, ConvSpec(16, 16, 3, padding=1), name=name) for name in "abc")
    network, x = nn.Sequential(first, twice, twice, last), torch.randn(2, 16, 5, 5)
    found = []
    for ahead in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision is not torch.float32):
            with formed_ahead(maps_of(network) if ahead else []):
                assert not ahead or conv == "Sep" or any(each._kept.ahead is not None for each in maps_of(network))
                out = network(x)
        out.float().square().sum().backward()
        found.append([out, *(each.grad for each in network.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found))


def test_what_was_not_taken_is_forgotten():
    """Nothing of a pass that failed, or left a layer out, is in a later one, when parameters are others."""
    network = nn.ModuleList(block("SepHashed_0.3", ConvSpec(16, 16, 3, padding=1), name=name) for name in "ab")
    x = torch.randn(2, 16, 5, 5)
    with pytest.raises(RuntimeError), formed_ahead(maps_of(network)):
        network[0](x[:, :3])
    assert all(each._kept.ahead is None for each in maps_of(network))
    network[1].map.matrix = lambda: 1 / 0  # or forming them did
    with pytest.raises(ZeroDivisionError), formed_ahead(maps_of(network)):
        pass
    assert all(each._kept.ahead is None for each in maps_of(network))


def test_what_needs_no_gradient_is_kept_as_ever():
    frozen = block("SepHashed_0.3", ConvSpec(16, 16, 3, padding=1), name="a").requires_grad_(False)
    with formed_ahead(maps_of(frozen)):
        assert all(each._kept.ahead is None for each in maps_of(frozen))
