"""Every family on every network: as graphs of ONNX that onnxruntime computes as torch does, for batches of any size.

A network takes several families at once, each in a layer of its own, until all have had their turn; layers that are left stay
ordinary. In the short set is WideResNet; the long set has two others.
"""

import json
import re
from collections import deque

import onnx
import pytest
import torch
from families import ONE_EACH, VARIATIONAL
from foreigners import drawn
from small_runs import ROOT

from blocks import build_block, spec_of, swappable
from cli import options
from exporting import onnx_file, program_file
from exporting.export import Export, nbytes
from exporting.recorded import without_training
from layers.init import materialise
from layers.registry import parse_conv
from models.build import build, reference
from models.registry import NETWORKS
from record.checkpoint import digest
from system.configuration import Configuration
from weights.classifier import Classifier
from weights.origin import Origin

SIZES = {
    "WideResNet": ["--wrn_depth", "10", "--wrn_width", "1"],
    "MobileNetV1": ["--width_mult", "0.5"],
    "MobileNetV2": ["--width_mult", "0.5"],
    "CifarResNet50": ["--width_mult", "0.25"],
}
LONG = ("MobileNetV2", "SqueezeNet")  # the others are left to a person: DARTS takes a minute
REQUEST = {"dense": False, "with_preprocessing": False, "opset": 18}


def flags(network, conv=None):
    dataset = ["cifar10"] if NETWORKS[network].side == 32 else ["imagenet"]
    return [*dataset, "--network", network, *SIZES.get(network, []), *(["--conv", conv] if conv else [])]


def takes(family, spec):
    try:
        with torch.device("meta"):
            return build_block(parse_conv(family), spec) is not None
    except ValueError:
        return False


def turns(network, families):
    """Mixed names with each family once, in as many as the network has too few layers for all at once."""
    plain, left = reference(options.counting(flags(network))), deque(families)
    while left:
        parts = []
        for name in swappable(plain):
            family = next((each for each in left if takes(each, spec_of(plain.get_submodule(name)))), None)
            if family is not None:
                left.remove(family)
                parts.append(f"^{re.escape(name)}$={family}")
        assert parts, left
        yield ",".join(parts)


def trained(*arguments, **changes):
    config = {**options.counting([*arguments]), "epochs": 0, **changes}
    network = drawn(materialise(build(config), 0))
    return Classifier("x", Origin(network, digest(network.state_dict()), config=config))


def exported(network, write, path, **request):
    export = Export(Configuration(REQUEST | request), network)
    write(export, path)
    return export


def marks(network):
    return () if network == "WideResNet" else pytest.mark.long if network in LONG else pytest.mark.by_hand


@pytest.mark.parametrize("network", [pytest.param(each, marks=marks(each)) for each in NETWORKS])
def test_every_family_on_every_network(network, workplace):
    """`write` compares batches of 1, 3 and 8 with torch's; that it would find a difference is tested below."""
    size = {"image_size": 64} if NETWORKS[network].side == 224 else {}
    for conv in turns(network, ONE_EACH + VARIATIONAL):
        classifier = trained(*flags(network, conv), **size)
        export = exported(classifier, onnx_file.write, workplace / "x.onnx")
        with torch.no_grad():
            logits = classifier(export.exported.images(8))
        assert export.largest_error <= 1e-4 * min(1, logits.abs().max())  # small ones would all be within 1e-4


def test_a_file_holds_parameters_not_kernels(workplace):
    """What a program forms from parameters is not stored beside them; a table of a hash takes one or two bytes an entry."""
    classifier = trained(
        *flags("WideResNet", "groups.0=ACDC,groups.1=Hashed_0.1,conv1=Butterfly,conv2=TensorTrain_0.1")
    )
    exported(classifier, onnx_file.write, workplace / "x.onnx")
    stored = sum(onnx.numpy_helper.to_array(each).nbytes for each in onnx.load(workplace / "x.onnx").graph.initializer)
    entries = sum(each.spec.entries for each in classifier.network.modules() if hasattr(each, "shared"))
    assert stored <= nbytes(without_training(classifier.network)) + 2 * entries + 4000


def test_a_graph_says_what_it_is(workplace):
    classifier = trained(*flags("WideResNet", "Sep"))
    exported(classifier, onnx_file.write, workplace / "x.onnx", with_preprocessing=True, dense=True, opset=20)
    model = onnx.load(workplace / "x.onnx")
    (images,), (logits,) = model.graph.input, model.graph.output
    shapes = [
        [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim] for value in (images, logits)
    ]
    assert (images.name, logits.name, shapes) == ("images", "logits", [["batch", 3, 32, 32], ["batch", 10]])
    assert [each.version for each in model.opset_import if not each.domain] == [20]
    said = {each.key: each.value for each in model.metadata_props}
    assert said["digest"] == classifier.digest and said["form"] == "dense" and "pixels in 0..1;" in said["images"]
    assert json.loads(said["mean"]) == list(classifier.preprocess.mean)
    assert str(ROOT).encode() not in (workplace / "x.onnx").read_bytes()


@pytest.mark.parametrize("gate, write", [("Naive_0.5", onnx_file.write), ("FBS_0.5", program_file.write)])
def test_gated_networks(gate, write, workplace):
    """Which channels are open depends on the image; of equal scores the first are, in other programs too."""
    classifier = trained(*flags("WideResNet"), gate=gate, gate_where="groups.[01]", gate_weight=1e-8)
    exported(classifier, write, workplace / "x")
    assert str(ROOT).encode() not in (workplace / "x").read_bytes()


@pytest.mark.parametrize(
    "network", ["torchvision:resnet18", pytest.param("torchvision:vit_b_16", marks=pytest.mark.long)]
)
def test_networks_of_a_library(network, workplace):
    exported(trained("cifar10", "--network", network), program_file.write, workplace / "x.pt2")
    assert str(ROOT).encode() not in (workplace / "x.pt2").read_bytes()
