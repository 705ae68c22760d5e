"""Dead filters are removed: the outputs stay, costs are those of the shapes, and a sum keeps what anything writes to it."""

import copy
import csv
import re
from pathlib import Path

import pytest
import torch
from families import VARIATIONAL
from foreigners import drawn
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blocks import BlockAsLinear
from cli import options
from counting.costs import summary
from layers.group_vd import GroupVD
from layers.init import initialise, materialise
from layers.spec import ConvSpec
from layers.variational import Variational
from models.build import build
from models.cifarresnet import CifarResNet50
from models.darts import DARTS
from models.dense import replacements
from models.mobilenetv1 import MobileNetV1
from models.output import Output
from models.squeezenet import SqueezeNet
from models.wideresnet import WideResNet
from sparsity.constants import unchanged
from sparsity.removal import BORDER, CARRIER, LAST
from sparsity.shrunk import SUM, dense_conv, reduce, shrink
from sparsity.skipped import active_mult_adds, of_trained
from sparsity.twin import is_separable_pair, twin_of
from system.errors import RequestError


@torch.no_grad()
def with_dead(network, share=0.4, seed=0):
    """The network with statistics of a trained one, and a share of its filters of zeros."""
    network, generator = drawn(network), torch.Generator().manual_seed(seed)
    for module in network.modules():
        own = (getattr(module, name, None) for name in ("weight", "kernel", "dense"))
        kernel = next((each for each in own if isinstance(each, nn.Parameter)), None)
        if kernel is not None and kernel.dim() > 1:
            kernel[torch.rand(len(kernel), generator=generator) < share] = 0
    return network


@torch.no_grad()
def outputs(network, side=32, double=True):
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    return network(images.double() if double else images).logits


def reduced(network, side=32):
    """The twin of a network without its dead filters, what is removed and what stays; and that the outputs are the same."""
    twin = twin_of(network)
    before = outputs(twin.network, side)
    removed, stay = reduce(twin, side)
    assert (outputs(twin.network, side) - before).abs().max() <= 1e-9 * max(1, before.abs().max())
    return twin.network, removed, stay


ROWS = list(csv.DictReader((Path(__file__).parents[1] / "sparsity.csv").read_text().splitlines()))
COUNTS = [row for row in ROWS if row["section"] == "gnj_prune" and "parameters" in row["expected"]]  # of the same input


class Net(nn.Module):
    """Images -> `layers` -> the mean over pixels."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        x = self.layers(x)
        return Output(x.mean((2, 3)) if x.dim() == 4 else x, [])


@pytest.mark.parametrize("row", COUNTS, ids=lambda row: row["case"])
def test_the_reference(row):
    """The rows gnj_prune: two GroupVD, of the second all is on."""
    log_alphas = torch.tensor([float(each) for each in COUNTS[0]["input"].partition(" = ")[2].split()])
    kept = [int(each) for each in re.match(r"keep ([\d ]+);", COUNTS[0]["expected"])[1].split()]
    before, after = (int(each) for each in re.search(r"parameters (\d+) -> (\d+)$", row["expected"]).groups())
    norm = row["parameters"].startswith("BN(4)")
    first, last = (GroupVD(ConvSpec(*channels, 3, bias=True)) for channels in ((2, 4), (4, 3)))

    class Two(Net):
        def forward(self, x):
            return super().forward(x[:, :2])

    network = Two(first, *[nn.BatchNorm2d(4)] * norm, last).eval()
    for layer, of in ((first, log_alphas), (last, torch.full((3,), -9.0))):
        layer.reset_parameters(torch.Generator().manual_seed(0))
        layer.bias.data.normal_(generator=torch.Generator().manual_seed(1))
        layer.factor.data.fill_(1.0)
        layer.log_variance_of_factor.data.copy_(of)
    count = lambda network: sum(each.numel() for each in network.parameters())  # noqa: E731
    assert count(twin_of(network).network) == before
    small, removed, stay = reduced(network)
    assert count(small) == after and removed == {"layers.0": 4 - len(kept)} and not stay
    assert torch.equal(small.layers[0].weight, first.kernel[kept].double())


NETWORKS = {
    "WRN": lambda: WideResNet(10, 0.5),
    "CifarResNet50": lambda: CifarResNet50(multiplier=0.125),
    "MobileNetV1": lambda: MobileNetV1(multiplier=0.25),
    "DARTS": lambda: DARTS(channels=6, cells=3),
    "SqueezeNet": lambda: SqueezeNet(classes=10),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name == "CifarResNet50" else ()) for name in NETWORKS]
)
def test_outputs_stay(name):
    network = NETWORKS[name]()
    initialise(network, 0)
    network = with_dead(network)
    size = sum(each.numel() for each in network.parameters())
    side = 33 if name == "SqueezeNet" else 32
    small, removed, stay = reduced(network, side)
    assert (
        sum(each.numel() for each in small.parameters()) < (1 if name == "DARTS" else 0.85) * size
    )  # most are its head's
    if name in ("WRN", "CifarResNet50", "DARTS"):
        assert stay[SUM]
    small.train()(torch.randn(2, 3, side, side, dtype=torch.float64))  # the auxiliary head too


@torch.no_grad()
def test_a_sum_loses_a_channel_only_where_all_that_write_to_it_agree():
    network = drawn(WideResNet(16, 0.5))
    writers = [network.groups[1][0].conv2, network.groups[1][0].shortcut, network.groups[1][1].conv2]
    for number, zeros in enumerate([writers[:1], writers[:2], writers]):
        for conv in zeros:
            conv.weight[number] = 0
    for norm in (network.groups[1][1].bn1, network.groups[2][0].bn1):
        norm.bias[2], norm.running_mean[2] = -1.0, 0.0  # no constant is left behind the ReLU
    small, removed, stay = reduced(network)
    assert removed == dict.fromkeys(("groups.1.0.conv2", "groups.1.0.shortcut", "groups.1.1.conv2"), 1)
    assert small.groups[1][1].bn1.num_features == small.groups[2][0].conv1.in_channels == 15 and stay[SUM] == 3
    assert torch.equal(small.groups[1][1].conv2.weight[:, 0], writers[2].weight[[0, 1, *range(3, 16)], 0].double())


@torch.no_grad()
def test_constants_move_into_what_follows():
    """Those of two filters: into biases where nothing is padded, else to one of them; a filter that is 0 adds none."""
    torch.manual_seed(0)

    def dead(*after):
        network = Net(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), *after).eval()
        network.layers[0].weight[[0, 2, 5]], network.layers[0].bias[[0, 2, 5]] = 0, torch.tensor([1.0, 2.0, -1.0])
        return network

    small, removed, stay = reduced(dead(nn.Conv2d(6, 4, 3)))
    assert removed == {"layers.0": 3} and not stay
    assert (small.layers[3].bias != dead().layers[0].bias[:4]).all()
    small, removed, stay = reduced(dead(nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()))
    assert removed == {"layers.0": 3} and not stay and small.layers[4].running_mean.all()
    small, removed, stay = reduced(dead(nn.Conv2d(6, 4, 3, padding=1)))
    assert removed == {"layers.0": 2} and stay == {CARRIER: 1} and len(small.layers[0].weight) == 4
    small, removed, stay = reduced(dead(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 4, 1)))
    assert stay[BORDER] == 2 and removed == {"layers.0": 1}
    small, removed, stay = reduced(
        dead(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5), nn.GELU(), nn.Linear(5, 2))
    )
    assert removed == {"layers.0": 3} and small.layers[5].in_features == 12
    small, removed, stay = reduced(
        dead(nn.LayerNorm(30), nn.Conv2d(6, 4, 1))
    )  # over columns: torch-pruning takes it for more
    assert not removed and stay == {"LayerNorm mixes channels": 3}


@torch.no_grad()
def test_what_nobody_reads_goes_and_what_is_dead_through_a_batch_norm_or_a_depthwise_filter():
    network = drawn(MobileNetV1(multiplier=0.25))
    first, second = network.layers[0], network.layers[1]
    first.conv2.weight[:, 3] = 0  # nobody reads 3
    second.bn1.weight[[1, 2]], second.bn1.bias[[1, 2]] = (
        0,
        torch.tensor([0.0, -1.0]),
    )  # γ = 0 and nothing behind the ReLU
    second.conv1.weight[4] = 0  # a filter between
    second.conv2.weight[:, 4] = 0
    small, removed, stay = reduced(network)
    assert removed == {"conv1": 1, "layers.0.conv2": 3} and not stay
    assert small.layers[0].conv1.groups == small.layers[0].bn1.num_features == 7
    assert small.layers[1].conv1.groups == small.layers[1].conv2.in_channels == 13


@torch.no_grad()
def test_a_layer_keeps_a_channel():
    network = drawn(WideResNet(10, 0.5))
    network.groups[0][0].conv1.weight.zero_()
    network.groups[0][0].bn2.bias.fill_(-1.0), network.groups[0][0].bn2.running_mean.zero_()
    small, removed, stay = reduced(network)
    assert removed == {"groups.0.0.conv1": 7} and stay == {LAST: 1}


def trained(text):
    config = options.counting(text.split())
    return config, with_dead(materialise(build(config), 0))


def test_separable_pairs_are_cut_and_structured_maps_stay():
    conv = "groups.0=SepHashed_0.5,groups.1=Sep,groups.2.0.conv1=Conv"
    config, network = trained(f"digits --wrn_depth 10 --wrn_width 0.5 --conv {conv}")
    found = shrink(network, config)
    new, old = replacements(found.network), replacements(network)
    assert is_separable_pair(new["groups.1.0.conv1"]) and found.config["conv"] == conv
    assert len(new["groups.1.0.conv1"].map.dense) < len(old["groups.1.0.conv1"].map.dense)
    whole = [each["groups.0.0.conv1"].state_dict().values() for each in (new, old)]
    assert all(map(torch.equal, *whole))
    assert outputs(found.network, double=False).sub(outputs(network, double=False)).abs().max() < 1e-5
    assert any("structured" in why for why in found.stay)
    again = shrink(with_dead(found.network, 0.5, seed=5), found.config)
    assert summary(again.config)["params"] < summary(found.config)["params"]


@pytest.mark.parametrize("conv", VARIATIONAL)
def test_variational_layers_become_the_convolutions_that_they_test_as(conv):
    config, network = trained(f"digits --wrn_depth 10 --wrn_width 0.5 --conv {conv}")
    layer = network.groups[1][0].conv1.eval()
    with torch.no_grad():
        layer.kernel[:2] = 1.0  # so that what is off is so by its noise alone
        (layer.log_variance_of_factor if conv == "GroupVD" else layer.log_variance)[:2] = 9.0
    assert not layer.weight()[:2].any() and layer.kernel[:2].all()
    found = shrink(network, config)
    assert found.config["conv"] == "Conv" and not any(isinstance(each, Variational) for each in found.network.modules())
    assert found.removed["groups.1.0.conv1"] >= 2
    before, after = (outputs(each.eval(), double=False) for each in (network, found.network))
    assert (before - after).abs().max() <= 1e-5 * max(1, before.abs().max())
    assert costs_by_hand(found.network) == _said(found.config)


@pytest.mark.parametrize(
    "flags, conv, classifier",
    [
        ("--conv classifier=Conv,.*=GroupVD", "classifier=Conv,.*=Conv", nn.Linear),
        ("--conv GroupVD --where classifier", "Conv", nn.Linear),
        ("--conv classifier=SparseVD,.*=Conv", "classifier=Conv,.*=Conv", nn.Linear),
        ("--conv groups.0=GroupVD,.*=SepHashed_0.5", "groups.0=Conv,.*=SepHashed_0.5", BlockAsLinear),
    ],
)
def test_classifiers_are_what_they_were_beside_variational_layers(flags, conv, classifier):
    config, network = trained(f"digits --wrn_depth 10 --wrn_width 0.5 {flags}")
    found = shrink(network, config)
    assert found.removed and found.config["conv"] == conv and found.config["shrunk_conv"] == config["conv"]
    rebuilt = build(found.config)
    assert type(rebuilt.classifier) is type(found.network.classifier) is classifier
    assert not any(isinstance(each, Variational) for each in rebuilt.modules())
    before, after = (outputs(each.eval(), double=False) for each in (network, found.network))
    assert (before - after).abs().max() <= 1e-5 * max(1, before.abs().max())
    assert _said(found.config)[0] == sum(each.numel() for each in found.network.parameters())
    if "SepHashed" not in conv:
        assert costs_by_hand(found.network) == _said(found.config)
    again = shrink(with_dead(found.network, 0.5, seed=5), found.config)  # it still knows what it was
    assert again.removed and again.config["shrunk_conv"] == config["conv"]
    assert type(again.network.classifier) is classifier


def test_names_of_what_is_left():
    assert dense_conv("a=SepHashed_0.1,.*=Sep") == "a=SepHashed_0.1,.*=Sep" and dense_conv("Conv") == "Conv"
    assert dense_conv("SepHashedDecimate") == "SepHashedDecimate" and dense_conv("Shuffle_4") == "Shuffle_4"
    assert dense_conv("a=GroupVD,.*=Sep") == "a=Conv,.*=Sep" and dense_conv("SparseVD") == "Conv"


def test_costs_are_those_of_the_shapes_and_small_filters_are_dead_where_they_are_asked_to_be():
    config, network = trained("digits --wrn_depth 10 --wrn_width 0.5")
    with torch.no_grad():
        network.groups[2][0].conv1.weight[3] *= 1e-5 / network.groups[2][0].conv1.weight[3].abs().max()
    found, more = shrink(network, config), shrink(network, config, dead=2e-5)
    assert more.removed["groups.2.0.conv1"] == found.removed["groups.2.0.conv1"] + 1
    large = shrink(network, config, dead=0.2)
    change = (outputs(large.network, double=False) - outputs(network, double=False)).abs().max()
    assert found.difference < 1e-5 < 1e-2 < change and 0.1 < large.difference / change < 10  # other images
    assert costs_by_hand(found.network) == _said(found.config)
    assert active_mult_adds(network, config) <= _said(found.config)[1] < _said(config)[1]
    with torch.no_grad():
        network = drawn(materialise(build(config), 0))
        assert active_mult_adds(network, config) == _said(config)[1]
        network.groups[0][0].conv1.weight[:3] = 0  # of 8 filters, which the next convolution reads
    before = torch.get_rng_state()
    assert of_trained(network, config) == _said(config)[1] - 32 * 32 * 9 * (3 * 16 + 3 * 8)
    assert torch.equal(torch.get_rng_state(), before)
    assert of_trained(network, {**config, "module": "mine.py"}) is None


def test_no_chain_of_gates_makes_a_constant():
    """Each squares what it is given, if its sigmoid passes on what it is given."""
    network = drawn(Net(*(Gated() for _ in range(16)), nn.Conv2d(3, 4, 1))).eval().double()
    with torch.no_grad():
        network.layers[3].conv.weight[1], network.layers[3].conv.bias[1] = 0, 0
        network.layers[15].conv.weight.zero_()  # a gate of constants: what it multiplies stays what it was
        network.layers[16].weight[:, 2] = 0
    assert not any(unchanged(network, 8).values())


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 3, 1), nn.Sigmoid()

    def forward(self, x):
        return x * self.gate(self.conv(x.mean((2, 3), keepdim=True)))


def _said(config):
    costs = summary(config)
    return costs["params"], costs["mult_adds_exact"], costs["stored_bytes"]


def costs_by_hand(network, side=32):
    """Parameters and bytes by the shapes of a network's tensors, multiply-adds as torch sees them run."""
    with FlopCounterMode(display=False) as counter:
        outputs(network, side, double=False)  # of three images
    products = counter.get_total_flops() // 2 // 3
    auxiliary = sum(each.numel() for name, each in network.named_parameters() if name.startswith("auxiliary"))
    state = {name: each for name, each in network.state_dict().items() if not name.startswith("auxiliary")}
    return (
        sum(map(torch.numel, network.parameters())) - auxiliary,
        products,
        sum(each.nbytes for each in state.values()),
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "text",
    [
        "digits --wrn_depth 16 --wrn_width 2",
        "digits --network CifarResNet50 --width_mult 0.5",
        "digits --network VGG16",
        "digits --network MobileNetV1",
        "imagenet --network MobileNetV2",
        "digits --network DARTS",
        "digits --network ResNet9",
        "digits --network torchvision:resnet18",
        "digits --network torchvision:densenet121",
        "imagenet --network torchvision:resnet18 --image_size 64",
    ],
)
def test_whole_networks(text):
    config, network = trained(text)
    found, side = shrink(network, config), 32 if text.startswith("digits") else config.image_size
    before, after = (outputs(each, side, double=False) for each in (network, found.network))
    assert (before - after).abs().max() <= 1e-5 * max(1, before.abs().max())
    assert costs_by_hand(copy.deepcopy(found.network), side) == _said(found.config)
    assert all(small < whole for small, whole in zip(_said(found.config), _said(config)))


@pytest.mark.long
def test_what_cannot_be_followed_is_said():
    config = options.counting("digits --network torchvision:shufflenet_v2_x0_5".split())
    with pytest.raises(RequestError, match="Torch-Pruning cannot follow the channels"):
        shrink(materialise(build(config), 0), config)
