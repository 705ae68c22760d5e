"""What docs/python.md imports: load, swap, count, frame and draw, on networks and runs that are not ours."""

import tomllib
from pathlib import Path

import pytest
import torch
import torchvision
from results import rows_of
from torch import nn

import main
from counting import count
from models.dense import replacements
from schedules import draw, frame
from system.errors import RequestError
from weights import load, swap

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def resnet():
    return torchvision.models.resnet18(num_classes=10)


def test_swap(resnet):
    """Returns a copy with the layers that a pattern finds, new or near the kernels that they replace."""
    small = swap(resnet, "layer3=SepHashed_0.1,layer4=Generic_0.25", where="conv", seed=1)
    found = replacements(small)
    assert len(found) == 8 and all(name.startswith(("layer3.", "layer4.")) for name in found)
    assert not replacements(resnet) and torch.equal(small.conv1.weight, resnet.conv1.weight)
    assert small(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    x = torch.randn(2, 3, 64, 64)
    near = swap(resnet, "Hashed_0.9", where="layer4.1.conv2", approximate=True).eval()
    new = swap(resnet, "Hashed_0.9", where="layer4.1.conv2").eval()
    with torch.no_grad():
        wanted = resnet.eval()(x)
        apart, other = ((each(x) - wanted).norm() / wanted.norm() for each in (near, new))
    assert apart < 0.7 * other
    assert not any(each.training for each in swap(resnet.eval(), "SparseVD", where="layer3").modules())
    for conv, where, words in (("Sepp", "", "did you mean Sep?"), ("Sep", "layer9", "matches none of the layers")):
        with pytest.raises(ValueError) as refused:
            swap(resnet, conv, where)
        assert words in str(refused.value)


def test_count(resnet):
    """Counts any network, which is left as it was; a structured one costs what its formulas say."""
    resnet.train().bn1.eval()
    costs = count(resnet, 64)
    assert costs.params == sum(each.numel() for each in resnet.parameters())
    assert costs.mult_adds_exact == 148_557_824 - 990 * 512  # those of 1000 classes, less what 990 cost
    assert resnet.training and not resnet.bn1.training and resnet.layer1[0].bn1.training
    assert count(swap(resnet, "Sep", where="layer"), 64).mult_adds_exact < costs.mult_adds_exact / 3
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = attention

        def forward(self, x):
            return self.layers(x.flatten(2).mean(1).view(-1, 8, 8))

    assert count(Tokens(), 8).params == sum(each.numel() for each in attention.parameters())
    with pytest.raises(RequestError, match="ResNet cannot be counted at 1×1|nothing is left"):
        count(nn.Sequential(nn.Conv2d(3, 4, 3)), 1)


MISTAKES = {
    "side is '32': a whole number": lambda model: count(model, "32"),
    "side is -1: a whole number": lambda model: count(model, -1),
    "batch is 0: a whole number": lambda model: count(model, 32, batch=0),
    "a torch.nn.Module is wanted, not str": lambda model: swap("name", "Sep"),
    "where: '(' is not a regular expression": lambda model: swap(model, "Sep", where="("),
    "conv is None: a text": lambda model: swap(model, None),
    "seed is -1: a whole number": lambda model: swap(model, "Sep", seed=-1),
    "where 'nope' matches none": lambda model: swap(model, "Sep", where="nope"),
    "is wanted, not None": lambda model: load(None),
    "device 'blah': ": lambda model: load("conv", device="blah"),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_in_python(resnet, workplace, words):
    with pytest.raises(RequestError) as refused:
        MISTAKES[words](resnet)
    assert words in str(refused.value) and "--" not in str(refused.value)


def test_runs_frame_and_figures(workplace):
    """The table of all runs with the types of its columns, the axes of a kind of figure of some; a run is loaded and swapped."""
    tiny = ["--wrn_depth", "10", "--wrn_width", "0.25", "--train_size", "64", "--epochs", "1"]
    for conv in ("Conv", "Sep"):
        assert main.main(["digits", "teacher", "-t", conv.lower(), "--conv", conv, *tiny]) == 0
    runs = frame()
    assert list(runs.name) == ["conv", "sep"] and runs.params.dtype == "Int64" and runs.taught.dtype == "boolean"
    assert runs.test_top1_error[1] == pytest.approx(rows_of(workplace, "sep")[-1]["test_top1_error"], abs=1e-4)
    (axes,) = draw(runs[runs.conv == "Sep"], "mult_adds")
    assert "mult-adds" in axes.get_xlabel() and len(axes.texts) + len(axes.figure.texts) > 1
    trained = load("conv")
    swapped = swap(trained, "Sep", where="groups")
    assert count(trained, trained.side).params == runs.params[0] and count(swapped, 32).params == runs.params[1]
    assert swapped.config.conv == "Conv, then Sep" and swap(trained, "Sep", where=r"^groups\.2").wrapped.swappable()
    assert trained.config.conv == "Conv" and swapped(torch.zeros(2, 3, 32, 32)).shape == (2, len(trained.classes))
    wrong = {"parms": "did you mean 'params'?", "curves": "there is nothing to draw as 'curves'"}
    for kind, words in wrong.items():
        with pytest.raises(RequestError) as refused:
            draw(runs, kind)
        assert words in str(refused.value)


def test_what_pip_installs():
    """All modules of the root, under the names that they have here."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert sorted(settings["tool"]["setuptools"]["py-modules"]) == sorted(path.stem for path in ROOT.glob("*.py"))
