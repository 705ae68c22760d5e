"""Check taps, swappable layers, refusals, drop-path and recomputing (counts.csv and networks.csv hold the counts)."""

import copy
import io
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import blocks
from cli import options
from counting.costs import output_shapes
from layers import separable
from layers.init import materialise
from layers.registry import parse_conv
from models import build as models_build
from models.build import plain as build
from models.darts import dropped
from models.mobilenetv2 import multiple_of_8
from models.registry import NETWORKS
from system.errors import RequestError
from training.callbacks import DropPath
from training.recompute import recompute

WRN = {"network": "WideResNet", "wrn_depth": 22, "wrn_width": 0.5, "AT_split": 1}


def test_every_network_has_presets():
    assert all({"conv", "epochs", "batch_size", "lr", "schedule"} <= each.presets.keys() for each in NETWORKS.values())
    assert all({*each.building_flags} <= each.presets.keys() for each in NETWORKS.values())


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


def test_wide_resnet_swaps_both_convolutions_of_every_block():
    names = blocks.substitute(build(WRN, classes=10), parse_conv("Sep"))
    assert len(names) == 18 and names[0] == "groups.0.0.conv1" and names[-1] == "groups.2.2.conv2"


def config(network, *flags):
    dataset = "cifar10" if NETWORKS[network].side == 32 else "imagenet"
    return options.counting([dataset, "--network", network, *flags])


def made(network, conv, *flags):
    return materialise(models_build.build(config(network, "--conv", conv, *flags)), seed=0)


def test_wide_hashed_networks_are_small():
    stored = io.BytesIO()
    torch.save(made("WideResNet", "Hashed_0.01", "--wrn_depth", "28", "--wrn_width", "10").state_dict(), stored)
    assert 2.6e6 < stored.tell() < 2.9e6


@pytest.mark.parametrize(
    "network, swapped, taps",
    [
        ("DARTS", 18 * 11 + 20 * 2 + 2, [(144, 32), (288, 16)]),
        ("WRN_50_2", 52, [(256, 56), (512, 28), (1024, 14), (2048, 7)]),
        ("MobileNetV2", 35, [(24, 56), (32, 28), (64, 14), (160, 7)]),
    ],
)
def test_what_is_swapped_and_tapped(network, swapped, taps):
    with torch.device("meta"):
        bare = models_build.reference(config(network))
    found = output_shapes(bare, NETWORKS[network].side)
    assert [(tap.shape[1], tap.shape[2]) for tap in found.taps] == taps
    names = blocks.swappable(bare)
    assert len(names) == len(set(names)) == swapped
    rest = [n for n, m in bare.named_modules() if isinstance(m, nn.Conv2d) and not n.startswith(tuple(names))]
    expected = {"DARTS": ["stem.0", "auxiliary.2", "auxiliary.5"], "WRN_50_2": ["conv1"]}
    depthwise = ["stem.0", *(f"blocks.{index}.depthwise.0" for index in range(17))]
    assert rest == expected.get(network, depthwise)


def test_darts_in_training_and_not():
    network = build({"network": "DARTS"}, classes=10)
    assert sum(p.numel() for p in network.auxiliary.parameters()) == 476_426
    x = torch.randn(2, 3, 32, 32)
    assert network(x).auxiliary_logits.shape == (2, 10)
    network.drop_path = 0.9
    before = torch.get_rng_state()
    assert network.eval()(x).auxiliary_logits is None
    assert torch.equal(before, torch.get_rng_state())  # nothing is dropped


def test_paths_are_dropped_by_image():
    x = dropped(torch.ones(10_000, 3, 2, 2), 0.2)
    assert set(x.flatten().tolist()) == {0.0, 1.25}
    per_image = x.flatten(1)
    assert (per_image == per_image[:, :1]).all()
    assert x.mean().item() == pytest.approx(1, abs=0.02)


def test_identities_are_never_dropped(monkeypatch):
    import models.darts

    calls = []
    monkeypatch.setattr(models.darts, "dropped", lambda x, probability: calls.append(probability) or x)
    network = models.darts.DARTS(channels=4, cells=3)
    drop_path = DropPath(0.2)
    drop_path.before_epoch(SimpleNamespace(model=network, t=0.0))
    network(torch.randn(2, 3, 32, 32))
    assert calls == [] and drop_path.metrics() == {"drop_path": 0.0}
    drop_path.before_epoch(SimpleNamespace(model=network, t=0.75))
    network(torch.randn(2, 3, 32, 32))
    assert calls == [pytest.approx(0.15)] * (
        6 + 2 * 5
    )  # a normal cell has two identities, a reduction three: node 2 read
    assert drop_path.metrics() == {"drop_path": pytest.approx(0.15)}


SMALL = {
    "WideResNet": lambda: build(WRN, classes=10),
    "DARTS": lambda: build({"network": "DARTS"}, classes=10),
    "WRN_50_2": lambda: build({"network": "WRN_50_2"}, classes=10),
    "MobileNetV2": lambda: build({"network": "MobileNetV2", "width_mult": 0.5}, classes=10),
    "CifarResNet50": lambda: build({"network": "CifarResNet50", "width_mult": 0.125}, classes=10),
    "MobileNetV1": lambda: build({"network": "MobileNetV1", "dataset": "cifar10", "width_mult": 0.25}, classes=10),
}
LARGE = ("WRN_50_2", "CifarResNet18", "ResNet9", "VGG16")


@pytest.mark.parametrize(
    "network", [pytest.param(each, marks=pytest.mark.long if each in LARGE else ()) for each in NETWORKS]
)
def test_recomputed_activations_change_nothing(network):
    """Outputs, gradients, random draws and batch-norm statistics, to the bit, with fewer tensors kept."""
    torch.manual_seed(3)
    plain = SMALL.get(network, lambda: build({"network": network}, classes=10))()
    plain.drop_path = 0.3
    spared, results, kept = copy.deepcopy(plain), [], []
    recompute(spared)
    x = torch.randn(2, 3, 32, 32)
    for each in (plain, spared):
        sizes = {}
        pack = lambda tensor, sizes=sizes: sizes.update({tensor.data_ptr(): tensor.numel()}) or tensor  # noqa: E731
        torch.manual_seed(5)
        for _ in range(2):
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                output = each(x)
            kept.append(sum(sizes.values()))
            (output.logits.square().mean() + output.taps[0].square().mean()).backward()
        state = {**each.state_dict(), **{f"{name}.grad": p.grad for name, p in each.named_parameters()}}
        results.append({**state, "logits": output.logits.detach(), "random": torch.get_rng_state()})
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert (value is None and results[1][name] is None) or torch.equal(value, results[1][name]), name
    assert {int(value) for name, value in results[1].items() if name.endswith("num_batches_tracked")} <= {2}
    assert kept[2] < 0.6 * kept[0]


@pytest.mark.parametrize("multiplier, channels, last", [(1.0, 32, 1280), (0.35, 16, 1280), (1.4, 48, 1792)])
def test_mobilenet_multiplier(multiplier, channels, last):
    network = build({"network": "MobileNetV2", "width_mult": multiplier}, classes=3)
    assert network.stem[0].out_channels == channels and network.classifier.in_channels == last


def test_multiples_of_8():
    assert [multiple_of_8(c) for c in (1, 11, 12, 19, 20, 33.6, 44.8)] == [8, 16, 16, 24, 24, 32, 48]


def test_where_swaps_only_what_it_names():
    network = build(WRN, classes=10)
    assert len(blocks.substitute(network, parse_conv("Sep"), where=r"^groups\.2")) == 6
    assert isinstance(network.groups[1][0].conv1, torch.nn.Conv2d)
    assert isinstance(network.groups[2][0].conv1, separable.Separable)


def test_initial_weights_depend_on_seed_and_name_alone():
    def network(conv, seed):
        with torch.device("meta"):
            built = build(WRN, classes=10)
            blocks.substitute(built, parse_conv(conv), "groups.0", seed)
        return materialise(built, seed)

    dense, swapped, other = network("Conv", 0), network("Generic_0.2", 0), network("Conv", 1)
    same = ("conv1.weight", "groups.2.1.conv2.weight", "classifier.weight")
    for name in same:
        assert torch.equal(dense.get_parameter(name), swapped.get_parameter(name))
        assert not torch.equal(dense.get_parameter(name), other.get_parameter(name))
    assert dense.groups[2][1].conv1.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)
    assert dense.classifier.bias.abs().sum() == 0 and dense.bn.running_var.eq(1).all() and dense.bn.weight.eq(1).all()


@torch.no_grad()
def test_resnet9_from_its_definition():
    """Functions of torch on its tensors in the order of registration: units, pools, residuals, and logits times 0.125."""
    network = build({"network": "ResNet9"}, classes=10)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1), module.bias.normal_(0, 0.1)
    parts = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    *units, last = [*zip(parts[:-1:2], parts[1::2]), parts[-1]]

    def unit(x):
        conv, norm = units.pop(0)
        x = F.conv2d(x, conv.weight, padding=1)
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()

    x, expected = torch.randn(2, 3, 32, 32), []
    found, y = network.eval()(x), unit(x)
    for residual in (True, False, True):
        y = F.max_pool2d(unit(y), 2)
        y = y + unit(unit(y)) if residual else y
        expected.append(y)
    expected.append(0.125 * F.max_pool2d(y, 4).flatten(1) @ last.weight.T)
    for a, b in zip((*found.taps, found.logits), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert not units
