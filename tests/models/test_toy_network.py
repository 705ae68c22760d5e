"""A network of one file and one register call is counted, swapped, trained, resumed, approximated and recognised."""

import json
import shutil

import pytest
import torch
from results import rows_of, same_run, saved

import count
import main
from cli import options
from layers.init import materialise
from models import registry
from models.build import build
from models.registry import Network
from system.arguments import Flag, number
from system.errors import RequestError
from weights import matching

FILE = """
from torch import nn

from models.output import Output
from system.errors import RequestError


def read_size(convolutions, classifier):
    yield {"toy_channels": classifier[1]}


class Toy(nn.Module):
    def __init__(self, classes, channels, tapped):
        super().__init__()
        if channels < 1:
            raise RequestError(f"--toy_channels {channels:g}: 1 or more is allowed")
        self.tapped = tapped
        self.stem = nn.Conv2d(3, int(channels), 3, 4, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(int(channels), int(channels), 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(int(channels)) for _ in range(2))
        self.classifier = nn.Linear(int(channels), classes)

    def forward(self, x):
        x, taps = self.stem(x), []
        for conv, norm in zip(self.convs, self.norms):
            x = norm(conv(x)).relu()
            taps.append(x)
        return Output(self.classifier(x.mean((2, 3))), taps[-self.tapped :])

    def swappable(self):
        return ["convs.0", "convs.1"]

    def segments(self):
        return ["convs.0", "convs.1"]
"""
TOY = Network(
    "Toy", "toy_file:Toy", side=32,
    presets=dict(
        conv="Conv", toy_channels=8.0, toy_taps=1, batch_size=64, epochs=30, lr=0.05, schedule="cosine",
        weight_decay=1e-4,
    ),
    size={"channels": Flag("--toy_channels", number(float, 1, 100), "channels (preset: 8)")},
    taps={"tapped": Flag("--toy_taps", number(int, 1, 2), "taps (preset: 1)")},
    width="toy_channels", read_size="toy_file:read_size",
)  # fmt: skip
RUN = ["--network", "Toy", "--epochs", "2", "--train_size", "256"]
TEACHER = ["digits", "teacher", "-t", "toy", *RUN]
PARAMETERS = 3 * 8 * 9 + 8 + 2 * (8 * 8 * 9) + 2 * 2 * 8 + 8 * 10 + 10


@pytest.fixture
def toy(workplace, monkeypatch):
    """Write the file of the network and register it; undo both."""
    folder = workplace / "modules"
    folder.mkdir()
    (folder / "toy_file.py").write_text(FILE)
    monkeypatch.syspath_prepend(folder)
    registry.register(TOY)
    yield workplace
    del registry.NETWORKS["Toy"]


def counted(capsys, *flags):
    assert count.main(["digits", "--network", "Toy", *flags, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_is_counted_and_meets_a_budget(toy, capsys):
    costs = counted(capsys)
    assert (costs["params"], costs["toy_channels"], costs["crs_ratio"]) == (PARAMETERS, 8.0, 1.0)
    assert counted(capsys, "--conv", "SepHashed_0.5")["params"] < PARAMETERS
    assert counted(capsys, "--toy_channels", "16")["params"] == counted(capsys, "--budget", "5200")["params"]


def test_it_is_trained_and_resumed_to_the_bit(toy):
    assert main.main(TEACHER) == 0
    assert [row["epoch"] for row in rows_of(toy, "toy")] == [0, 1]
    whole = toy / "whole"
    for folder in ("checkpoints", "runs"):
        shutil.copytree(toy / folder, whole / folder)
    (toy / "checkpoints/toy.pt.previous").replace(toy / "checkpoints/toy.pt")  # as after the first epoch
    assert saved(toy, "toy")["epoch"] == 1
    assert main.main([*TEACHER, "--resume"]) == 0
    assert same_run(whole, toy, "toy")


def test_its_convolutions_are_swapped_and_approximated_and_taught(toy, capsys):
    assert main.main(TEACHER) == 0
    student = ["digits", "student", "-t", "toy", "-s", "s", *RUN, "--conv", "Generic_0.5", "--toy_taps", "2"]
    assert main.main([*student, "--init_from", "toy"]) == 0
    out = capsys.readouterr().out
    assert "convs.0" in out and "relative error" in out
    assert saved(toy, "s")["config"]["toy_channels"] == 8.0 and "loss_attention" in " ".join(rows_of(toy, "s")[-1])
    with pytest.raises(RequestError, match="--init_from toy: toy_channels is 16.0 here, 8.0 there"):
        main.main(["digits", "teacher", "-t", "x", *RUN, "--init_from", "toy", "--toy_channels", "16"])


def test_its_weights_by_other_names_are_recognised(toy):
    asked = options.training([*TEACHER, "--toy_channels", "5"])
    names = materialise(build(asked), 0).state_dict()
    theirs = {f"theirs.{name}": tensor for name, tensor in names.items()}
    found = matching.match("x.pth", theirs, options.training(TEACHER))
    assert found.config["network"] == "Toy" and found.config["toy_channels"] == 5
    assert "x.pth is a Toy (toy_channels 5):" in found.table
    assert all(torch.equal(found.state[name], tensor) for name, tensor in names.items())


def test_flags_of_other_networks_are_refused(toy):
    with pytest.raises(RequestError, match="--toy_channels is not a flag of --network WideResNet, but of Toy"):
        options.training(["digits", "teacher", "-t", "x", "--toy_channels", "4"])
    with pytest.raises(RequestError, match="--wrn_depth is not a flag of --network Toy, but of WideResNet"):
        options.training([*TEACHER, "--wrn_depth", "10"])


def test_what_cannot_be_registered():
    wrn = registry.NETWORKS["WideResNet"]
    with pytest.raises(ValueError, match="there is a network 'WideResNet' already"):
        registry.register(wrn)
    with pytest.raises(ValueError, match=r"has no presets of \['conv', 'toy_channels', 'toy_taps'\]"):
        registry.register(Network("Bare", "toy_file:Toy", 32, {}, TOY.size, TOY.taps))
    other = {"depth": Flag("--wrn_depth", int)}
    with pytest.raises(ValueError, match="mean something else already: .*--wrn_depth"):
        registry.register(Network("Other", "toy_file:Toy", 32, wrn.presets, other))


def test_without_it_the_command_line_is_as_before():
    with pytest.raises(RequestError, match="unknown flag '--toy_channels'"):
        options.training(["digits", "teacher", "-t", "x", "--toy_channels", "4"])
