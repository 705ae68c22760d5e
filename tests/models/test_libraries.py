"""Networks that torchvision and timm build: names, counts, taps, swaps, runs, weights.

Small ones are tested here, others of all kinds in the long set. Twelve as people use them take 20 minutes: `-m by_hand`.
"""

import copy
import json
import pickle
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from foreigners import imagenet
from references import torchvision
from samples import write_own
from taught import taught_and_resumed
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import blocks
import count
from cli import options
from counting.costs import costs_of, summary
from counting.measure import counted, passed
from counting.operations import walk_operations
from distill import Distill, Supervised
from layers.init import materialise
from layers.registry import parse_conv
from models import library
from models.build import build, reference
from models.features import Kind, Layout, as_map, layout_of
from record.run import Found
from schedules.costs import pricing
from system.errors import RequestError
from training.recompute import recompute
from weights import of_library, origin, pretrained

SMALL = "torchvision:shufflenet_v2_x0_5"
TIMM = "timm:resnet18"
TWELVE = [
    *(f"torchvision:{name}" for name in ("vgg11_bn", "resnet18", "resnet50", "densenet121", "regnet_y_400mf")),
    *(f"torchvision:{name}" for name in ("efficientnet_b0", "convnext_tiny", "mobilenet_v3_small", "vit_b_16", "swin_t")),
    "torchvision:googlenet",
    TIMM,
]  # fmt: skip
KINDS = ["torchvision:googlenet", *(f"timm:test_{kind}" for kind in ("convnext", "efficientnet", "vit"))]
SOME = [
    *(pytest.param(each, marks=pytest.mark.long, id=each.replace(":", "_")) for each in KINDS),
    *(pytest.param(each, marks=pytest.mark.by_hand, id=each.replace(":", "_")) for each in TWELVE if each not in KINDS),
]
FAMILIES = ("Sep", "SepHashed_0.1", "Generic_0.2", "Tucker_0.5")


def config(network, *flags, dataset="digits"):
    if network.startswith("timm"):
        pytest.importorskip("timm")
    return options.counting([dataset, "--network", network, *flags])


def made(network, *flags):
    return materialise(build(config(network, *flags)), 0)


@pytest.mark.parametrize(
    "network, told",
    [
        ("torchvison:resnet18", "unknown network 'torchvison:resnet18'; did you mean 'torchvision:resnet18'?"),
        ("torchvision:", "has no name after its colon"),
        ("timm:resnet18.a1_in1k", "give timm:resnet18, and weights by --init_from"),
        ("timm:a b", "a name has letters, digits, - and _"),
        ("WideResNett", "did you mean 'WideResNet'?"),
    ],
)
def test_names_that_are_none(network, told):
    with pytest.raises(RequestError) as error:
        options.counting(["cifar10", "--network", network])
    assert told in str(error.value)


@pytest.mark.parametrize(
    "network, flags, told",
    [
        ("torchvision:resnet81", [], "torchvision has no 'resnet81'; did you mean 'torchvision:resnet18'?"),
        ("torchvision:fcn_resnet50", [], "torchvision has no 'fcn_resnet50'"),  # no classifier
        ("torchvision:alexnet", [], "alexnet does not take images of 32×32 .*; the next side that it takes is 64"),
        (SMALL, ["--taps", "layer9"], "--taps 'layer9' matches none of the modules that .* runs, such as 'conv1'"),
        (SMALL, ["--taps", "fc"], "--taps 'fc': what fc of .* returns has no rows and columns"),
        (SMALL, ["--budget", "1e5"], "has no number to find, and --network .* no width"),
        ("WideResNet", ["--taps", "x"], "--taps is not a flag of --network WideResNet, but of torchvision:NAME, timm:NAME"),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_met(network, flags, told):
    with pytest.raises(RequestError, match=told):
        count.main(["digits", "--network", network, *flags])


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    library._listed.cache_clear()
    with pytest.raises(RequestError, match="--network timm:resnet18 needs timm: pip install timm"):
        summary(options.counting(["digits", "--network", "timm:resnet18"]))


def test_the_same_networks_of_ours_cost_the_same():
    """But for the pool before the classifier of WRN_50_2, and the bias of MobileNetV2's, which is a convolution here."""
    pairs = {"squeezenet1_1": ("SqueezeNet", 0), "mobilenet_v2": ("MobileNetV2", 1000), "wide_resnet50_2": ("WRN_50_2", -2048 * 49)}  # fmt: skip
    for name, (ours, more) in pairs.items():
        theirs, here = (summary(config(each, dataset="imagenet")) for each in (f"torchvision:{name}", ours))
        assert theirs["mult_adds"] == here["mult_adds"] + more, name
        assert all(theirs[key] == here[key] for key in ("params", "mult_adds_exact", "stored_bytes")), name


def test_what_the_published_convention_does_not_know(workplace, capsys):
    """It is told, null in JSON, – in every table; the exact count stands."""
    request = ["digits", "--network", "torchvision:mobilenet_v3_small"]
    assert count.main(request) == 0 and count.main([*request, "--table"]) == 0
    text, table = capsys.readouterr().out.split("Mult-Adds: –")[1:]
    assert "does not know hardsigmoid, hardswish, mul)" in text and " –" in table
    assert count.main([*request, "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert costs["mult_adds"] is None and costs["mult_adds_exact"] > 1e6 and not costs["uncounted"]
    assert count.main([*request, "--compare", "Sep,ACDC"]) == 0
    assert capsys.readouterr().out.count(" –") == 2
    assert pricing(config("torchvision:mobilenet_v3_small"))(parse_conv("Sep")).mult_adds is None


def check_costs(network, convs=FAMILIES):
    """Counted from parts as from the built network, and as torch's counter counts it where nothing is swapped."""
    for conv in ("Conv", *convs):
        asked = config(network, "--conv", conv)
        there, parts = counted(build(asked), 32, 128)[0], costs_of(asked)
        assert (there.params, there.mult_adds, there.exact_of_batch, there.stored_bytes) == (
            parts.params, parts.mult_adds, parts.exact_of_batch, parts.stored_bytes,
        )  # fmt: skip
    bare = reference(config(network)).eval()
    for images in (1, 3):
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            bare(torch.empty(images, 3, 32, 32, device="meta"))
        assert flops.get_total_flops() == 2 * costs_of(config(network), images).exact_of_batch


def test_costs():
    check_costs(SMALL, ["Generic_0.2"])


def test_what_runs_once_for_all_images_counts_once():
    """The table of positions of Swin V2 does not depend on the images. Nor does a map in place of one of its two layers."""
    asked = config("torchvision:swin_v2_t", "--conv", "Generic_0.2", "--where", "cpb_mlp.0")
    network = build(asked).eval()
    layers = {layer.name: layer for layer in counted(network, 32, 3)[0].layers}
    shared = [layer for name, layer in layers.items() if layer.is_shared]
    assert len(shared) == 24 and all("cpb_mlp" in layer.name for layer in shared)
    assert costs_of(asked, 3).exact_of_batch == sum(layer.exact_of_batch for layer in layers.values())
    with FlopCounterMode(display=False) as flops:  # with gradients: without them matrices are kept
        network(torch.empty(3, 3, 32, 32, device="meta"))
    assert flops.get_total_flops() == 2 * costs_of(asked, 3).exact_of_batch


@pytest.mark.parametrize(
    "network, taps, staying",
    [
        ("torchvision:convnext_tiny", ["features.1", "features.3", "features.5"], {"of several groups": 18}),
        ("torchvision:vit_b_16", ["encoder.layers"], {"whose weights attention reads": 12}),
        ("torchvision:resnet18", ["relu", "layer1", "layer2", "layer3"], {}),
    ],
)
def test_taps_are_ends_of_stages_and_no_layer_norm(network, taps, staying):
    found = reference(config(network)).anatomy
    assert ([tap.name for tap in found.taps], found.staying) == (taps, staying)


def test_what_depends_on_the_side_and_on_memory():
    """Published weights for 384 pixels have more positions; a network may ask how a feature lies in memory."""
    published = pretrained.shapes("torchvision:vit_b_16:IMAGENET1K_SWAG_E2E_V1", "imagenet")
    assert published["encoder.pos_embedding"].shape == (1, 24 * 24 + 1, 768)
    given, last = torch.empty(2, 3, 8, 8, device="meta"), torch.channels_last
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    for x in (given, given.to(memory_format=last)):
        with walk_operations(network.to("meta").eval()):
            assert network(x).is_contiguous(memory_format=last) == x.is_contiguous(memory_format=last)


def test_a_refused_side_is_not_tried_again(monkeypatch):
    def refused():
        with pytest.raises(RequestError, match="alexnet does not take images of 48×48"):
            library.build(10, "torchvision:alexnet", 48)

    refused()
    monkeypatch.setattr(library, "_made", None)
    refused()


def test_only_the_head_may_have_other_classes():
    """Whose name another module's may begin with."""
    network = nn.ModuleDict({"fc_norm": nn.LayerNorm(6), "fc": nn.Linear(6, 10)})
    network.anatomy, network.auxiliary_heads = SimpleNamespace(heads=("fc",)), tuple
    state = {name: value[:4] for name, value in network.state_dict().items()}
    with pytest.raises(of_library.Misfit, match="fc_norm.weight is 4 there, 6 here"):
        of_library._check_shapes("w.pth", state, "timm:x", network)
    with pytest.raises(RequestError, match="w.pth is a timm:x of 4 classes, not of 10"):
        of_library._check_shapes("w.pth", {n: v for n, v in state.items() if "norm" not in n}, "timm:x", network)


@pytest.mark.parametrize("error, raised", [(ValueError("too small"), RequestError), (KeyError("a bug"), KeyError)])
def test_only_what_a_library_refuses_is_a_refusal(error, raised):
    """An error of our own code stays one."""

    class Fails(nn.Module):
        foreign, made = True, (10, "timm:x")

        def forward(self, x):
            raise error

    with pytest.raises(raised, match="cannot be counted at 32×32: too small|a bug"):
        passed(Fails(), 32)


class Own(nn.Conv2d):
    """A convolution that is no plain one."""


def test_convolutions_of_a_class_of_their_own():
    """They are counted by their operations, from the first one on; where nothing can be swapped, only Conv is right."""
    with torch.device("meta"):
        network = nn.Sequential(Own(3, 8, 3), nn.SiLU(), Own(8, 8, 1), nn.Flatten(), nn.Linear(8 * 900, 10))
    with walk_operations(network.eval()) as layers:
        network(torch.empty(1, 3, 32, 32, device="meta"))
    assert any("silu" in layer.outside for layer in layers)
    assert sum(layer.exact_of_batch for layer in layers) == 900 * (8 * 27 + 8 * 8) + 72000
    with pytest.raises(
        RequestError, match="--conv Sep: the network has no convolution and no Linear layer that can be"
    ):
        blocks.decided(parse_conv("Sep"), [])
    assert blocks.decided(parse_conv("Conv"), []) == {}


@torch.no_grad()
def test_structure_of_a_small_one():
    network = made(SMALL, "--conv", "Generic_0.5").eval()
    found, x = network.anatomy, torch.randn(2, 3, 32, 32)
    assert (found.stem, found.heads, found.auxiliary) == ("conv1.0", ("fc",), ())
    assert found.staying == {"of several groups": 19}
    assert [name for name, each in network.named_modules() if type(each) is nn.Conv2d and each.groups == 1] == [
        "conv1.0"
    ]
    output = network(x)
    assert [tap.name for tap in found.taps] == ["conv1", "maxpool", "stage2", "stage3"][: len(found.taps)]
    assert [tap.shape[2] for tap in output.taps] == [16, 8, 4, 2] and output.auxiliary_logits is None
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        twin.load_state_dict({name: torch.zeros_like(value) for name, value in network.state_dict().items()})
        assert not twin(x).taps[0].any() and network(x).taps[0].any()
    chosen = made(SMALL, "--taps", r"^stage[23]$|conv1\.0").eval()(x).taps
    assert [tap.shape[2] for tap in chosen] == [16, 4, 2]


def test_weights_start_as_the_librarys_own():
    """From the seed alone, whatever is swapped; the common generator stays where it stood."""
    before = torch.get_rng_state()
    plain, swapped, other = (
        made(SMALL),
        made(SMALL, "--conv", "SepHashed_0.5"),
        materialise(build(config(SMALL, "--seed", "1")), 1),
    )
    assert torch.equal(before, torch.get_rng_state())
    names = [name for name in plain.state_dict() if name in swapped.state_dict()]
    assert "fc.weight" in names and all(torch.equal(plain.state_dict()[n], swapped.state_dict()[n]) for n in names)
    assert not torch.equal(plain.fc.weight, other.fc.weight)
    assert plain.fc.weight.abs().max() <= 1024**-0.5  # torch's own uniform draw


def test_tokens_are_maps():
    """Class tokens are left out; channels may be last; a block takes the tokens of an image as its pixels."""
    x = torch.randn(2, 10, 4)
    layout = layout_of(x.shape, 2)
    assert layout == Layout(Kind.TOKENS, 3, 1)
    assert torch.equal(as_map(x, layout)[1, :, 2, 0], x[1, 1 + 2 * 3])
    last = torch.randn(2, 3, 3, 4)
    assert torch.equal(as_map(last, layout_of(last.shape, 2)), last.permute(0, 3, 1, 2))
    assert [layout_of(torch.Size(s), 2) for s in ((4, 9, 4), (2, 8, 3, 5), (2, 8), (2, 15, 4))] == [None] * 4
    model = nn.Sequential(nn.Linear(4, 6))
    blocks.substitute(model, parse_conv("Generic_0.5"))
    with torch.no_grad():
        dense = F.linear(last, model[0].block.weight()[:, :, 0, 0], model[0].block.effective_bias())
        torch.testing.assert_close(model(last), dense)
    assert blocks.substitute(nn.Sequential(nn.Linear(4, 6)), parse_conv("Conv")) == ["0"]


class Heads(nn.Module):
    """Logits of two auxiliary heads."""

    def forward(self, x):
        return library.Output(x, [], torch.stack([2 * x, 3 * x]))


def test_each_auxiliary_head_has_a_part_of_the_loss():
    x, y = torch.randn(4, 5), torch.randint(5, (4,))
    parts = Supervised()(Heads(), x, y).parts
    expected = 0.4 * (F.cross_entropy(2 * x, y) + F.cross_entropy(3 * x, y))
    torch.testing.assert_close(parts["auxiliary"], expected)


def test_recomputing_changes_nothing():
    torch.manual_seed(0)
    plain, x, gradients = made(SMALL), torch.randn(4, 3, 32, 32), []
    spared = copy.deepcopy(plain)
    recompute(spared)
    for each in (plain, spared):
        output = each(x)
        (output.logits.square().mean() + output.taps[1].square().mean()).backward()
        gradients.append([parameter.grad for parameter in each.parameters()])
    assert all(map(torch.equal, *gradients)) and not spared.tapped_features


@pytest.mark.parametrize("network", [SMALL, *SOME])
def test_it_is_taught_by_its_like_and_resumed_to_the_bit(network, workplace):
    config(network)  # skipped without timm
    # After few steps the statistics of a deep network are still those it began with, and its test loss may overflow.
    write_own(workplace / "leaves", count=2 if network == SMALL else 10, side=32)
    run = ["folder:leaves", "--network", network, "--batch_size", "3" if network == SMALL else "5", "--lr", "1e-3"]
    first, _ = taught_and_resumed(workplace, run, "Generic_0.2", *(("1", "1") if network == SMALL else ("4", "5")))
    assert ("train_loss_auxiliary" in first) == (network == "torchvision:googlenet")


@pytest.mark.parametrize("network", SOME)
def test_it_is_counted_and_swapped(network):
    check_costs(network)
    if network.startswith("torchvision"):
        whole = summary(config(network, dataset="imagenet"))
        weights = torchvision.models.get_model_weights(network.partition(":")[2])["IMAGENET1K_V1"]
        assert whole["params"] == weights.meta["num_params"]
        assert whole["mult_adds_exact"] / 1e9 == pytest.approx(weights.meta["_ops"], abs=1e-3)
    x, y = torch.randn(2, 3, 32, 32), torch.tensor([1, 2])
    teacher = made(network)
    for conv in FAMILIES:
        student = made(network, "--conv", conv)
        swapped = [each for each in student.modules() if getattr(each, "spec", None)]
        assert len(swapped) == len(student.swappable()) > 3
        loss, _, parts = Distill(teacher, 0.5, 1000.0, 4.0)(student, x, y)
        loss.backward()
        assert parts["attention"] > 0 and all(each.grad is not None for each in student.parameters())


@pytest.mark.parametrize("network", [SMALL, pytest.param(TIMM, marks=pytest.mark.long, id="timm")])
def test_its_own_weights(network, workplace, monkeypatch):
    """Published or in a file, for itself swapped; weights of other networks and classes are told in one line."""
    asked = config(network, "--conv", "SepHashed_0.5", dataset="imagenet") | {"init_from": network}
    whole = materialise(reference(asked).to_empty(device="cpu"), 3)
    state = {name: value for name, value in whole.state_dict().items() if "num_batches" not in name}
    for library_of in ("_of_torchvision", "_of_timm"):
        monkeypatch.setattr(pretrained, library_of, lambda source, name, fetch: state)
    torch.save(state, "w.pth")
    for source in (network, "w.pth"):
        found = origin.start_of(asked | {"init_from": source}, build(asked), Found(()))
        assert found.config["network"] == network and "have the library's own names" in found.mapping
        assert all(torch.equal(found.network.state_dict()[name], value) for name, value in state.items())
    for source, other, told in (
        ("w.pth", config(network), f"w.pth is a {network} of 1000 classes, not of 10 "),
        (network, config(network), f"{network} classifies imagenet, not digits"),
        ("torchvision:vgg11", imagenet("SqueezeNet"), "is no torchvision:vgg11: by their names .* left over"),
        ("torchvision:shufflenet_v2_x1_0", asked, "is no .*(images: stage2.0.* there, .* here|names .* left over)"),
    ):
        with pytest.raises(RequestError, match=told):
            origin.origin(source, other, "run")
    ours = origin.origin(network, imagenet("SqueezeNet"), "teacher", teaches=True)
    assert ours.config["network"] == network  # no network of ours takes these
