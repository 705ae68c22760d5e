"""Weights under other names find their places: equal outputs and taps to the digit, or one line that refuses."""

import re

import pytest
import torch
from foreigners import ForeignWRN, changed, config, drawn, imagenet, small
from references import torchvision
from torch import nn

from layers.init import materialise
from models.build import build, reference
from system.errors import RequestError
from weights import matching
from weights.ordering import naturally

BLOCKS = {"WRN_50_2": "wide_resnet50_2", "MobileNetV2": "mobilenet_v2"}


def loaded(state, asked):
    """Our network with these weights, and the match."""
    found = matching.match("x.pth", state, asked)
    network = materialise(build(found.config), 0)
    network.load_state_dict(found.state)
    return network.eval(), found


@torch.no_grad()
def same_outputs(theirs, ours, tapped, side, tolerance=1e-4):
    features, x = [], torch.randn(2, 3, side, side)
    keep = lambda module, inputs, output: features.append(output)  # noqa: E731
    hooks = [module.register_forward_hook(keep) for module in tapped]
    expected, (logits, taps, _) = theirs(x), ours(x)
    for hook in hooks:
        hook.remove()
    assert len(taps) == len(features)
    for a, b in zip([logits, *taps], [expected, *features]):
        assert a.shape == b.shape and (a - b).abs().max() <= tolerance * b.abs().max() and b.std() > 0


def of_small_images(name):
    """A residual network of torchvision with a stem for 32×32 images."""
    network = torchvision.models.get_model(name, num_classes=10)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return network


@pytest.mark.parametrize("name, network", [("resnet18", "CifarResNet18"), ("resnet50", "CifarResNet50")])
def test_torchvisions_residual_networks_are_ours_on_small_images(name, network):
    theirs = drawn(of_small_images(name))
    ours, found = loaded(theirs.state_dict(), config("--network", network, dataset="cifar10"))
    assert found.config["network"] == network
    same_outputs(theirs, ours, tapped_in(theirs), 16, 1e-5)


def test_torchvisions_squeezenet_is_ours():
    """Also on images for which a max-pool rounds its output up."""
    theirs = drawn(torchvision.models.squeezenet1_1())
    ours, found = loaded(theirs.state_dict(), imagenet("WRN_50_2"))
    assert found.config["network"] == "SqueezeNet"
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    for side in (96, 70):
        same_outputs(theirs, ours, [theirs.features[place] for place in (4, 7, 12)], side, 1e-5)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_vgg_of_a_library_is_ours(library):
    models = torchvision.models if library == "torchvision" else pytest.importorskip("timm").models
    with torch.device("meta"):  # its own classifier has 124 million numbers
        features = models.vgg16_bn().features
    for module in features.to_empty(device="cpu").modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    theirs = drawn(nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)))
    ours, found = loaded(theirs.state_dict(), config("--network", "VGG16", dataset="cifar10"))
    assert found.config["network"] == "VGG16"
    same_outputs(theirs, ours, [theirs[0][place] for place in (5, 12, 22, 32, 42)], 32, 1e-5)  # before each pool


@pytest.mark.parametrize("name, width", [("mobilenetv1_100", 1), ("mobilenetv1_125", 1.25)])
def test_timms_first_mobilenet_is_ours(name, width):
    """Of timm's only the activation differs, which stops at 6."""
    theirs = drawn(pytest.importorskip("timm").create_model(name, act_layer=nn.ReLU))
    ours, found = loaded(theirs.state_dict(), imagenet("MobileNetV1"))
    assert found.config["width_mult"] == width
    same_outputs(theirs, ours, list(theirs.blocks), 224, 1e-5)


def tapped_in(network):
    if hasattr(network, "layer4"):
        return [network.layer1, network.layer2, network.layer3, network.layer4]
    if hasattr(network, "features"):  # torchvision's inverted residuals
        return [each for each in network.features if getattr(each, "stride", 0) == 2]
    return [stage[0] for stage in network.blocks if stage[0].conv_dw.stride[0] == 2]  # timm's


@pytest.mark.parametrize(
    "network", [pytest.param(each, marks=pytest.mark.long if each == "WRN_50_2" else ()) for each in BLOCKS]
)
def test_torchvisions_networks_are_ours(network):
    theirs = drawn(torchvision.models.get_model(BLOCKS[network]))
    ours, found = loaded(theirs.state_dict(), imagenet(network))
    assert found.config["network"] == network
    same_outputs(theirs, ours, tapped_in(theirs), 224)


@pytest.mark.parametrize("network, name", [("WRN_50_2", "wide_resnet50_2"), ("MobileNetV2", "mobilenetv2_100")])
def test_timms_networks_are_ours(network, name):
    theirs = drawn(pytest.importorskip("timm").create_model(name))
    ours, _ = loaded(theirs.state_dict(), imagenet(network))
    same_outputs(theirs, ours, tapped_in(theirs), 96)


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.4])
def test_widths_of_mobilenet_are_found(width):
    """A student of another width is asked for; timm's widths are the same."""
    with torch.device("meta"):
        theirs = torchvision.models.mobilenet_v2(width_mult=width).state_dict()
    assert matching.match("x", theirs, imagenet("MobileNetV2")).config["width_mult"] == width
    assert matching.match("x", theirs, imagenet("WRN_50_2")).config["width_mult"] == width


@pytest.mark.parametrize("n, widths, depth, width", [(2, (32, 64, 128), 16, 2), (1, (20, 41, 83), 10, 1.3), (3, (4, 8, 16), 22, 0.25)])  # fmt: skip
def test_depth_and_width_of_wide_resnets_are_found(n, widths, depth, width):
    theirs = drawn(ForeignWRN(n, widths))
    ours, found = loaded(theirs.state_dict(), config())
    assert (found.config["wrn_depth"], found.config["wrn_width"]) == (depth, width)
    same_outputs(theirs, ours, [theirs.block1, theirs.block2, theirs.block3], 32)
    assert f"x.pth is a WideResNet (wrn_depth {depth}, wrn_width {width:g}):\ntheirs " in found.table
    rows = [line.split() for line in found.table.splitlines()[2:]]
    assert rows[:2] == [["conv1", "conv1", "16×3×3×3"], ["block1.layer.0.bn1", "groups.0.0.bn1", "16"]]
    assert rows[-1] == ["fc", "classifier", f"10×{widths[2]}"] and len(rows) == len({row[1] for row in rows})
    own = matching.match("x.pth", theirs.state_dict(), config("--wrn_depth", str(depth), "--wrn_width", str(width)))
    assert own.config == {**found.config, "wrn_width": width} and own.table == found.table


@pytest.mark.parametrize("head", [True, False])
def test_darts_by_other_names_with_or_without_its_head(head):
    asked = config("--network", "DARTS", dataset="cifar10")
    ours = materialise(reference(asked), 3)
    names = {"cells": "cell", "stem": "first", "operations": "_ops", "auxiliary": "auxiliary_head.features"}
    theirs = {re.sub(r"^\w+|operations", lambda m: names.get(m[0], m[0]), k): v for k, v in ours.state_dict().items()}
    theirs = {name: tensor for name, tensor in theirs.items() if head or not name.startswith("auxiliary")}
    found = matching.match("x", theirs, asked)
    built = materialise(build(found.config), 0)
    built.load_state_dict(found.state, strict=False)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(built.eval()(x).logits, ours.eval()(x).logits, atol=1e-5)
    assert ("no auxiliary head" in found.table) is not head


def exchanged(*names):
    """With the modules' tensors in another order: each named one comes before the one before it."""
    keys = list(small())
    a, b = ([key for key in keys if key.startswith(name + ".")] for name in names)
    order = [key for key in keys if key not in (*a, *b)]
    place = keys.index(a[0])
    return {key: small()[key] for key in [*order[:place], *b, *a, *order[place:]]}


REFUSED = {
    "numbers fall": (lambda: exchanged("block1.layer.0.bn1", "block1.layer.0.bn2"), "in doubt, block1.layer.0.bn1 comes after block1.layer.0.bn2"),
    "missing module": (
        lambda: changed(block2__layer__0__conv2__weight=None),
        "against WideResNet (wrn_depth 10, wrn_width 0.25): of theirs nothing; of ours groups.1.0.conv2 (conv 8×8×3×3)",
    ),
    "missing tensor": (
        lambda: changed(block2__layer__0__bn2__running_var=None),
        "against WideResNet (wrn_depth 10, wrn_width 0.25): of theirs block2.layer.0.bn2 (weight 8, bias 8, running_mean 8); of ours groups.1.0.bn2 (batch-norm 8)",
    ),
    "extra tensor": (lambda: changed(temperature=torch.ones(1)), "of theirs temperature (weight 1); of ours nothing"),
    "wrong shape": (
        lambda: changed(block2__layer__0__conv2__weight=torch.zeros(8, 8, 5, 5)),
        "of theirs block2.layer.0.conv2 (conv 8×8×5×5)",
    ),
    "a bias": (lambda: changed(conv1__bias=torch.zeros(16)), "of theirs conv1 (conv with bias 16×3×3×3); of ours conv1 (conv 16×3×3×3)"),
    "classes": (lambda: small(classes=100), "x.pth is a WideResNet (wrn_depth 10, wrn_width 0.25) of 100 classes, digits has 10"),
    "nothing alike": (lambda: nn.Linear(3, 4).state_dict(), "x.pth fits no network for digits; left over are"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    state, told = REFUSED[case]
    with pytest.raises(RequestError) as error:
        matching.match("x.pth", state(), config())
    assert told in str(error.value) and len(str(error.value).splitlines()) == 1


def test_a_shortcut_that_has_changed_places():
    """In one block, with the convolution beside it, which has its shape."""
    with torch.device("meta"):
        state = torchvision.models.wide_resnet50_2().state_dict()
    names = list(state)
    places = [names.index(f"layer2.0.{name}.weight") for name in ("conv3", "downsample.0")]
    names[places[0]], names[places[1]] = names[places[1]], names[places[0]]
    with pytest.raises(
        RequestError, match=r"in doubt, both layer4.0.downsample.0 and layer2.0.conv3 would be shortcuts"
    ):
        matching.match("x", {name: state[name] for name in names}, imagenet("WRN_50_2"))


SORTED = {
    "WRN-16-2": (lambda: ForeignWRN().state_dict(), config),
    "WRN-10 of equal widths": (lambda: ForeignWRN(1, (16, 32, 64)).state_dict(), config),
    "more than ten blocks": (lambda: ForeignWRN(12, (4, 8, 16)).state_dict(), config),
    "WRN-50-2": (lambda: torchvision.models.wide_resnet50_2().state_dict(), lambda: imagenet("WRN_50_2")),
    "MobileNetV2": (lambda: torchvision.models.mobilenet_v2().state_dict(), lambda: imagenet("MobileNetV2")),
    "SqueezeNet": (lambda: torchvision.models.squeezenet1_1().state_dict(), lambda: imagenet("SqueezeNet")),
}


@pytest.mark.parametrize("case", SORTED)
@pytest.mark.parametrize("how", [sorted, lambda names: sorted(names, key=naturally)])
def test_sorted_names_find_their_order(case, how):
    """As a safetensors file has them; blocks of one shape are told by their numbers, shortcuts by those of other blocks."""
    state, asked = SORTED[case]
    with torch.device("meta"):
        state = state()
    expected, found = (
        matching.match("x", each, asked()) for each in (state, {name: state[name] for name in how(state)})
    )
    assert found.config == expected.config and found.state.keys() == expected.state.keys()
    assert all(
        found.state[name] is tensor or found.state[name].shape == tensor.shape
        for name, tensor in expected.state.items()
    )
    rows = [sorted(each.table.splitlines()[1:]) for each in (expected, found)]
    assert rows[0] == rows[1]


def functional(n, widths):
    """A WRN as a dict of tensors without modules: both convolutions before both batch-norms, no `.weight` of theirs."""
    state, named = ForeignWRN(n, widths).state_dict(), {}
    for name, tensor in state.items():
        name = re.sub(r"block(\d)\.layer\.", lambda m: f"group{int(m[1]) - 1}.block", name)
        name = re.sub(r"(conv|bn)(\d)", lambda m: f"{m[1]}{int(m[2]) - 1}", name).replace("convShortcut", "convdim")
        if "num_batches" not in name:
            named[re.sub(r"^bn0", "bn", name) if "bn" in name else re.sub(r"(conv\w+)\.weight", r"\1", name)] = tensor
    blocks = re.compile(r"group\d\.block\d")
    inner = ["conv0", "conv1", "bn0", "bn1", "convdim"]
    place = {name: number for number, name in enumerate(named)}

    def order(name):
        block = blocks.match(name)
        first = min(place[other] for other in place if other.startswith(block[0] + ".")) if block else place[name]
        return first, inner.index(name.split(".")[2]) if block else 0, place[name]

    return state, {name: named[name] for name in sorted(named, key=order)}


def test_a_network_without_modules():
    """Names without `.weight`, and another order in each block than that of registration."""
    state, named = functional(2, (32, 64, 128))
    assert (
        list(named)[:3] == ["conv0", "group0.block0.conv0", "group0.block0.conv1"] and "group0.block0.convdim" in named
    )
    expected, found = (matching.match("x", each, config()).state for each in (state, named))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items() if "num_batches" not in name)


def test_an_order_that_names_do_not_tell():
    """Two convolutions of one shape that are not numbered."""
    names = {"conv1": "left", "conv2": "right"}
    state = ForeignWRN(2, (16, 32, 64)).state_dict()
    renamed = {re.sub(r"(?<=\d\.)conv[12]", lambda m: names[m[0]], name): each for name, each in state.items()}
    with pytest.raises(RequestError) as error:
        matching.match("x", dict(sorted(renamed.items())), config())
    assert re.search(
        r"in doubt, \S+(left|right) and \S+(left|right) could each stand where the other does", str(error.value)
    )
    assert "by torch.save" in str(error.value) and matching.match("x", renamed, config()).config["wrn_depth"] == 16


def test_sorted_names_of_no_network_here():
    state = dict(sorted(changed(block2__layer__0__conv2__weight=torch.zeros(8, 8, 5, 5)).items()))
    with pytest.raises(
        RequestError, match=r"of theirs block2.layer.0.conv2 \(conv 8×8×5×5\); of ours groups.1.0.conv2"
    ):
        matching.match("x", state, config())


def test_groups_that_lie_across_ours():
    """A network that is not ours though it has as many modules of each shape: batch-norms behind the convolutions."""
    state = ForeignWRN(1, (16, 32, 64)).state_dict()
    moved = {re.sub(r"^bn1", "zz", name): each for name, each in state.items()}
    moved = {re.sub(r"block3\.layer\.0\.bn2", "block2.layer.0.bn9", name): each for name, each in moved.items()}
    with pytest.raises(RequestError, match="fits no network|in doubt"):
        matching.match("x", dict(sorted(moved.items())), config())


def test_our_own_names_may_come_in_any_order():
    asked = config("--wrn_depth", "10", "--wrn_width", "0.25")
    state = materialise(build(asked), 1).state_dict()
    found = matching.match("x", dict(sorted(state.items())), asked)
    assert all(torch.equal(found.state[name], tensor) for name, tensor in state.items())
