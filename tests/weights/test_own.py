"""Files of safetensors that say of which network they are: what a hostile one says is refused in one line, and nothing runs."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from foreigners import drawn
from safetensors.torch import save_file

import blocks
from cli import options
from counting.costs import costs_of, summary
from layers.init import materialise
from models.build import build, reference
from system.errors import RequestError
from weights import load, own
from weights.exact import exactly


@pytest.fixture
def whole(workplace):
    """The configuration, the weights and the header of a small file."""
    config = {**options.counting("digits --wrn_depth 10 --wrn_width 0.25 --conv SepHashed_0.5".split()), "epochs": 1}
    state = drawn(materialise(build(config), 0)).state_dict()
    return config, state, own.described("x", config, state, {"test_top1_error": 12.5, "test_loss": math.nan})


def answer(state, header):
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, "w.safetensors", header)
    with pytest.raises(RequestError) as error:
        load("w.safetensors")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_it_is_read_as_a_checkpoint(whole):
    config, state, header = whole
    save_file(state, "w.safetensors", header)
    found = own.read("w.safetensors")
    assert (
        found["config"]["conv"] == "SepHashed_0.5"
        and found["rows"] == [{"test_top1_error": 12.5}]
        and found["epoch"] == 1
    )
    assert load("w.safetensors").config["wrn_width"] == 0.25
    save_file(state, "w.safetensors", {"format": "pt"})
    assert own.read("w.safetensors") is None  # another tool's


def test_a_path_of_the_configuration_stays_here(whole):
    config, state, _ = whole
    secret = {
        "data_dir": "/home/me/data",
        "init_from": "/home/me/w.pth",
        "data_folder": "/home/me/leaves",
        "teacher_checkpoint": "t",
    }
    secret = {**secret, "loss": "/home/me/loss.py:Loss", "module_digest": "0"}
    header = own.described("x", config | secret, state, {})
    assert "/home" not in str(header) and not secret.keys() & json.loads(header["config"]).keys()


HOSTILE = "(([a-z0-9.]*)*)*X"  # which takes years to match


@pytest.mark.parametrize(
    "changes",
    [
        {"where": "[01].conv1"},
        {"where": "conv1", "conv": "groups.[01]=SepHashed_0.5,conv1=Conv"},
        {"gate": "FBS_0.5", "gate_where": "conv[1]", "gate_weight": 1e-8},
    ],
)
def test_expressions_become_names(changes, workplace):
    flags = "digits --wrn_depth 10 --wrn_width 0.25 --conv SepHashed_0.5".split()
    config = {**options.counting(flags), "epochs": 2, "prune": ["x"], "compile": "evil", **changes}
    network = drawn(materialise(build(config), 0))
    save_file(
        network.state_dict(), "w.safetensors", own.described("x", config, network.state_dict(), {"epoch": 1, "step": 3})
    )
    found = own.read("w.safetensors")
    there, images = load("w.safetensors"), torch.randn(2, 3, 32, 32)
    assert torch.equal(there(images), network.eval()(images).logits)
    assert (found["epoch"], found["step"]) == (1, 3) and not {"prune", "compile"} & found["config"].keys()
    again = own.described("x", found["config"], found["model"], {})["config"]
    assert {**json.loads(again)} == {key: value for key, value in found["config"].items() if value not in (None, "")}


def test_biases_are_counted(workplace):
    """A dense export's biases are in every count: of what a run records, and of count.py."""
    for flags, of_conv in (("--wrn_depth 10 --wrn_width 0.25", "Conv"), ("--network DARTS", "{}=Conv")):
        config = options.counting(f"digits {flags}".split())
        first = blocks.swappable(reference(config))[0]
        config = {**config, "biased": first, "conv": of_conv.format(exactly([first]))}
        network = build(config)
        assert network.get_submodule(first).bias is not None
        costs = costs_of(config)
        assert costs.sanity + costs.auxiliary == sum(each.numel() for each in network.parameters())
        said, plain = (summary(each) for each in (config, config | {"biased": None}))
        assert said["reference_params"] == plain["reference_params"]


CONFIGS = [
    ({"network": "WideResNett"}, "its network 'WideResNett' is not known; did you mean 'WideResNet'?"),
    ({"network": ["WideResNet"]}, r"its network is \['WideResNet'\]"),
    ({"network": "timm:../../x"}, "its network 'timm:../../x' is not known"),
    ({"network": "torchvision:nothing"}, "torchvision has no 'nothing'"),
    ({"dataset": "cifar11"}, "its dataset 'cifar11' is not known; did you mean 'cifar10'?"),
    ({"dataset": "folder:/etc"}, "its dataset 'folder:/etc' is not known"),
    ({"conv": "SepHashed_7"}, "conv 'SepHashed_7' is not of the form"),
    ({"conv": None}, "it does not say its conv"),
    ({"network": "evil.py:Net"}, "it would run the file 'evil.py', which no file of weights may"),
    ({"module": "evil.py"}, "it would run the file 'evil.py', which no file of weights may"),
    ({"wrn_depth": 10**9}, "its wrn_depth: '1000000000' is not a whole number of at least 1 and at most 10000"),
    ({"wrn_depth": "import os"}, "its wrn_depth is 'import os'"),
    ({"wrn_depth": None}, "no network is built so"),
    ({"wrn_depth": 11}, "w.safetensors says of itself what cannot be"),
    ({"wrn_width": {"a": 1}}, "its wrn_width is {'a': 1}"),
    ({"seed": 2**70}, "its seed: "),
    ({"seed": 1}, "substitution_seed is 0, of the network 1"),
    ({"epochs": None}, "it does not say its epochs"),
    ({"epochs": "1"}, "its epochs is '1'"),
    ({"epochs": -5}, "its epochs: '-5' is not a whole number of at least 0"),
    ({"epochs": True}, "its epochs is True"),
    ({"image_size": 2 * 10**9}, "its image_size: '2000000000' is not a whole number"),
    ({"data_classes": 2 * 10**9}, "its data_classes: '2000000000' is not a whole number"),
    ({"data_std": [0, 1, 1]}, "its data_std: '0' is not a number above 0"),
    ({"data_std": [None, 1, 1]}, "not three numbers"),
    ({"labelled": "evil"}, "its labelled: unknown way"),
    ({"loss": "evil.py:Net"}, "it would run the file 'evil.py', which no file of weights may"),
    ({"where": HOSTILE}, "is not names of layers"),
    ({"gate": "FBS_0.5", "gate_where": HOSTILE, "gate_weight": 0.1}, "its gate_where: .* is not names of layers"),
    ({"taps": HOSTILE}, "its taps: .* is not names of layers"),
    ({"conv": f"{HOSTILE}=Conv"}, "its conv: .* is not the name of a conv"),
    ({"conv": "[" * 400_000 + "=Conv"}, "its conv: .* is not the name of a conv"),
    ({"shrunk_conv": f"{HOSTILE}=SparseVD"}, "its shrunk_conv: .* is not the name of a conv"),
    ({"widths": "conv1:99"}, "the layer 'conv1' of a shrunk network has"),
    ({"widths": "conv1:a"}, "no network is built so"),
    ({"biased": "evil"}, "the network has no convolution 'evil'"),
    ({"gate": "Evil_1"}, "Evil"),
    ({"where": "("}, "says of itself what cannot be"),
    ({"data_mean": [1, 2]}, r"its data_mean is \[1, 2\]"),
]


@pytest.mark.parametrize("changes, said", CONFIGS, ids=lambda value: str(value)[:40])
def test_a_configuration_that_cannot_be(changes, said, whole):
    config, state, header = whole
    Path("evil.py").write_text("open('ran', 'w')")
    told = answer(state, header | {"config": json.dumps(config | changes)})
    assert "w.safetensors" in told and re.search(said, told), told
    assert not Path("ran").exists()


def test_a_header_and_tensors_that_cannot_be(whole):
    config, state, header = whole
    name = "groups.0.0.conv1.map.shared.numbers"
    for trained in ({"epoch": 2, "step": 0}, {"epoch": -1, "step": 0}, {"epoch": 1, "step": 5}, {"epoch": 0}):
        told = answer(state, header | {"trained": json.dumps(trained)})
        assert "its training has come to epoch" in told or "its epoch: '-1'" in told, told
    assert "it has no 'trained'; a file of an earlier version" in answer(
        state, {k: v for k, v in header.items() if k != "trained"}
    )
    assert "its 'config' is no JSON" in answer(state, header | {"config": "{"})
    assert "its 'config' is no JSON" in answer(state, header | {"config": "[" * 100_000})
    assert "its 'config' is list, not an object" in answer(state, header | {"config": "[]"})
    assert "it has no 'config'" in answer(state, {own.MARK: "1"})
    assert "has format '2' of swapconv's" in answer(state, header | {own.MARK: "2"})
    assert "another digest than it says" in answer(state | {name: state[name] + 1}, header)
    assert f"first {name}" in answer({key: each for key, each in state.items() if key != name}, header)
    assert "1 tensors are not of it, first more" in answer(state | {"more": torch.ones(2)}, header)
    assert f"{name} is float16 (" in answer(state | {name: state[name].half()}, header)
    assert f"{name} is float32 (1,)" in answer(state | {name: state[name][:1]}, header)
    infinite = state | {name: state[name] * math.inf}
    assert "not finite" in answer(infinite, own.described("x", config, infinite, {}))
