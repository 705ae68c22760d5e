"""Networks: golden counts stand in counts.csv; here taps, what may be swapped, and what cannot be."""

import pytest
import torch

import blocks
from errors import RequestError
from models import NETWORKS, build
from names import parse_conv

WRN = {"network": "WideResNet", "wrn_depth": 22, "wrn_width": 0.5, "AT_split": 1}


def test_every_network_has_a_preset():
    from options import IMAGE_SIDE, PRESETS

    assert set(NETWORKS) == set(PRESETS) == set(IMAGE_SIDE)


@pytest.mark.parametrize(
    "width, channels", [(1.0, (16, 32, 64)), (0.5, (8, 16, 32)), (1.3, (20, 41, 83)), (0.0625, (1, 2, 4))]
)
def test_wide_resnet_widths_and_taps(width, channels):
    logits, taps, auxiliary = build(WRN | {"wrn_width": width}, classes=7)(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 7) and auxiliary is None
    assert [tuple(tap.shape[1:]) for tap in taps] == [(c, s, s) for c, s in zip(channels, (32, 16, 8))]


@pytest.mark.parametrize("splits, at", [(1, [2]), (2, [0, 2]), (3, [0, 1, 2])])
def test_attention_splits(splits, at):
    network = build(WRN | {"AT_split": splits}, classes=10)
    assert sorted(network.tapped) == at
    taps = network(torch.randn(1, 3, 32, 32)).taps
    assert [tap.shape[2] for tap in taps] == [32] * splits + [16] * splits + [8] * splits


@pytest.mark.parametrize("depth", [27, 4, 0, -2, 11])
def test_wrong_depths(depth):
    with pytest.raises(RequestError, match=f"--wrn_depth {depth}: .* 6n [+] 4, such as"):
        build(WRN | {"wrn_depth": depth}, classes=10)


def test_wrong_width_and_split():
    with pytest.raises(RequestError, match="--wrn_width 0.05 leaves 0 channels"):
        build(WRN | {"wrn_width": 0.05}, classes=10)
    with pytest.raises(RequestError, match="--AT_split 4: .* 1 to 3 is allowed"):
        build(WRN | {"AT_split": 4}, classes=10)


@pytest.mark.parametrize("conv", ["Conv", "Sep", "Generic_0.1", "SepHashed_0.1", "Shuffle_4"])
def test_swapped_networks_train(conv):
    network = build(WRN, classes=10)
    names = blocks.substitute(network, parse_conv(conv))
    assert len(names) == 18 and names[0] == "groups.0.0.conv1" and names[-1] == "groups.2.2.conv2"
    output = network(torch.randn(4, 3, 32, 32))
    (output.logits.square().mean() + sum(tap.square().mean() for tap in output.taps)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_where_swaps_only_what_it_names():
    network = build(WRN, classes=10)
    assert len(blocks.substitute(network, parse_conv("Sep"), where=r"^groups\.2")) == 6
    assert isinstance(network.groups[1][0].conv1, torch.nn.Conv2d)
    assert isinstance(network.groups[2][0].conv1, blocks.Separable)


def test_initial_weights_depend_on_seed_and_name_alone():
    def network(conv, seed):
        with torch.device("meta"):
            built = build(WRN, classes=10)
            blocks.substitute(built, parse_conv(conv), "groups.0", seed)
        return blocks.materialise(built, seed)

    dense, swapped, other = network("Conv", 0), network("Generic_0.2", 0), network("Conv", 1)
    same = ("conv1.weight", "groups.2.1.conv2.weight", "classifier.weight")
    for name in same:
        assert torch.equal(dense.get_parameter(name), swapped.get_parameter(name))
        assert not torch.equal(dense.get_parameter(name), other.get_parameter(name))
    assert dense.groups[2][1].conv1.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)
    assert dense.classifier.bias.abs().sum() == 0 and dense.bn.running_var.eq(1).all() and dense.bn.weight.eq(1).all()
