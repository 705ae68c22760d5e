"""`substitute`: what it swaps in networks of any kind, what it refuses, and the seed that it saves."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import blocks
from blocks import block, substitute
from layers.base import Block
from layers.init import materialise
from layers.registry import parse_conv
from layers.spec import ConvSpec
from system.errors import RequestError


def test_partly_swapped_twice_and_beside_a_layer_called_key():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.key, self.query = nn.Linear(4, 4), nn.Linear(4, 4)

    model = Attention()
    substitute(model, parse_conv("Sep"))
    assert "substitution_seed" not in model.state_dict()  # a layer called key is no hash key
    with torch.device("meta"):
        model = Attention()
        substitute(model, parse_conv("SepHashed_0.5"), "key", seed=4)
        substitute(model, parse_conv("SepHashed_0.9"), "query", seed=4)
        with pytest.raises(RequestError, match="hashed by seed 4 already, not 5"):
            substitute(model, parse_conv("SepHashed_0.9"), "query", seed=5)
    built = Attention()
    substitute(built, parse_conv("SepHashed_0.5"), "key", seed=4)
    substitute(built, parse_conv("SepHashed_0.9"), "query", seed=4)
    late = materialise(model, seed=4).state_dict()
    assert all(torch.equal(late[name], value) for name, value in built.state_dict().items())


def test_substitute_takes_any_module():
    pair = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.Conv2d(8, 16, 1))
    model = nn.ModuleDict(
        {"stem": nn.Conv2d(3, 8, 3), "grouped": nn.Conv2d(8, 8, 3, groups=2), "pair": pair, "head": nn.Linear(16, 5)}
    )
    assert blocks.swappable(model) == ["stem", "pair", "head"]
    assert substitute(model, parse_conv("Generic_0.5"), "pair|head", seed=3) == ["pair", "head"]
    assert isinstance(model["stem"], nn.Conv2d) and isinstance(model["pair"], Block)
    assert model["pair"].spec == ConvSpec(8, 16, 3, 1, 1, 1, True)
    assert model["head"](torch.randn(7, 2, 16)).shape == (7, 2, 5)
    x = torch.randn(2, 16)
    dense = F.linear(x, model["head"].block.weight()[:, :, 0, 0], model["head"].block.effective_bias())
    torch.testing.assert_close(model["head"](x), dense)


def test_substitute_in_foreign_modules():
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert substitute(attention, parse_conv("Generic_0.5")) == ["linear1", "linear2"]  # what attention reads stays
    assert attention(torch.randn(2, 3, 8)).shape == (2, 3, 8)
    shared = nn.Linear(8, 8)
    tied = nn.ModuleDict({"a": shared, "b": shared})
    substitute(tied, parse_conv("Generic_0.5"))
    assert tied["a"] is tied["b"] and isinstance(tied["a"], blocks.BlockAsLinear)
    same = nn.ModuleDict({"a": nn.Conv2d(8, 6, 3, padding="same", dilation=2)})
    substitute(same, parse_conv("Sep"))
    assert same["a"](torch.randn(2, 8, 9, 9)).shape == (2, 6, 9, 9)
    with pytest.raises(RequestError, match="the network has no convolution and no Linear layer that can be swapped"):
        substitute(nn.Conv2d(3, 8, 3), parse_conv("Sep"))


def test_a_block_alone_is_the_one_in_a_network():
    network = nn.ModuleDict({"a": nn.Conv2d(8, 16, 3, bias=False)})
    substitute(network, parse_conv("SepHashed_0.5"), seed=3)
    alone = block("SepHashed_0.5", ConvSpec(8, 16, 3), seed=3, name="a")
    assert torch.equal(network["a"].weight(), alone.weight())


def test_substitute_refuses():
    for never in (nn.Conv2d(3, 4, (1, 3)), nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()):
        with pytest.raises(
            RequestError, match="the network has no convolution and no Linear layer that can be swapped"
        ):
            substitute(nn.ModuleDict({"a": never}), parse_conv("Sep"))
    for conv, told in {
        "Shuffle_2": "2 output channels",
        "SepHashed_0.1": "0 stored numbers for 6",
        "SepHashedFull_0.4": "of 21 numbers the depthwise convolution takes 27",
        "SepHashedFull_1": "27 stored numbers for 6",
        "SepHashedDecimate": "0 stored numbers for 6",
        "HashedDecimate": None,
    }.items():
        model = nn.ModuleDict({"a": nn.Conv2d(3, 2, 3)})
        if told is None:
            substitute(model, parse_conv(conv))
        else:
            with pytest.raises(RequestError, match=f"layer 'a' .3 -> 2. cannot be {conv}: {told}"):
                substitute(model, parse_conv(conv))
    with pytest.raises(RequestError, match="matches none"):
        substitute(nn.ModuleDict({"a": nn.Conv2d(3, 2, 3)}), parse_conv("Sep"), where="b")


@pytest.mark.parametrize("conv", ["SepHashed_0.5", "PermutedACDC"])
def test_a_state_drawn_by_another_seed_is_refused(conv):
    def network(seed):
        model = nn.ModuleDict({"a": nn.Conv2d(3, 8, 3), "b": nn.Conv2d(8, 8, 3)})
        substitute(model, parse_conv(conv), seed=seed)
        return model

    assert int(network(7).state_dict()["substitution_seed"]) == 7
    copy.deepcopy(network(1)).load_state_dict(pickle.loads(pickle.dumps(network(1))).state_dict())
    with pytest.raises(RuntimeError, match="saved with seed 1"):
        copy.deepcopy(network(2)).load_state_dict(network(1).state_dict())
