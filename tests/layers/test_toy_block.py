"""A new family is one file and one `register` call: a linear block, and a replacement that is not linear."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from results import refused, rows_of, same, saved
from small_runs import TINY

import count
import main
from blocks import block
from layers.base import Block, Replacement
from layers.registry import FAMILIES, Whole, parse_conv, parse_family, register
from layers.spec import ConvSpec
from system.errors import RequestError

TOYS = '''
import torch
from torch import nn

from layers.base import Block, Replacement
from layers.scale import dense_scale, draw_normal, rms
from layers.strided import conv2d


class Toy(Block):
    """A kernel whose o×(i·k²) matrix has rank n."""

    def __init__(self, spec, n, key=0):
        super().__init__(spec)
        self.u = nn.Parameter(torch.empty(spec.out_channels, n))
        self.v = nn.Parameter(torch.empty(n, spec.in_channels * spec.kernel_size**2))
        self.bias = nn.Parameter(torch.empty(spec.out_channels)) if spec.bias else None

    def forward(self, x):
        return conv2d(x, self.weight(), self.bias, self.spec.stride, self.spec.padding, self.spec.dilation)

    def weight(self):
        k = self.spec.kernel_size
        return (self.u @ self.v).view(self.spec.out_channels, self.spec.in_channels, k, k)

    def effective_bias(self):
        return self.bias

    def structured_parameters(self):
        return [self.u, self.v]

    def parameter_count(self):
        return self.u.numel() + self.v.numel() + (self.spec.out_channels if self.spec.bias else 0)

    def mult_adds(self, height, width):
        return self.spec.out_channels * self.v.shape[1] * self._published_pixels(height, width)

    def weight_mult_adds(self):
        return self.u.numel() * self.v.shape[1]

    def exact_mult_adds(self, height, width, batch):
        entries = self.spec.out_channels * self.v.shape[1]
        return self.weight_mult_adds() + entries * self._output_pixels(height, width) * batch

    @torch.no_grad()
    def reset_parameters(self, generator=None):
        for part in (self.u, self.v):
            draw_normal(part, 1.0, generator)
        self.u.mul_(dense_scale(self.spec.out_channels * self.spec.kernel_size**2) / rms(self.weight()))
        if self.bias is not None:
            self.bias.zero_()

    def setting(self):
        return f"n={self.u.shape[1]}"


class Gate(Replacement):
    """A convolution times its own sigmoid, with a loss on its kernel."""

    def __init__(self, spec, key=0):
        super().__init__(spec)
        k = spec.kernel_size
        self.kernel = nn.Parameter(torch.empty(spec.out_channels, spec.in_channels, k, k))

    def forward(self, x):
        x = conv2d(x, self.kernel, None, self.spec.stride, self.spec.padding, self.spec.dilation)
        return x * x.sigmoid()

    def auxiliary_losses(self):
        return {"gate": 0.01 * self.kernel.pow(2).mean()}

    def parameter_count(self):
        return self.kernel.numel()

    def mult_adds(self, height, width):
        return self.kernel.numel() * self._published_pixels(height, width)

    def exact_mult_adds(self, height, width, batch):
        return self.kernel.numel() * self._output_pixels(height, width) * batch

    def reset_parameters(self, generator=None):
        draw_normal(self.kernel, 0.1, generator)
'''
RUN = [*TINY, "--train_size", "64"]
SIZE = ["--wrn_depth", "10", "--wrn_width", "0.25"]


@pytest.fixture
def toys(workplace, monkeypatch):
    """Register the two families; forget them after the test."""
    (workplace / "toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = dict(FAMILIES)
    register("Toy", "toys:Toy", (Whole("n", 1),))
    register("Gate", "toys:Gate")
    yield workplace
    FAMILIES.clear()
    FAMILIES.update(before)
    sys.modules.pop("toys", None)


def counted(capsys, *flags):
    assert count.main(["digits", *SIZE, *flags, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def resumed(name, *flags):
    """Train a run, and again from the checkpoint after its first epoch; return both ends."""
    assert main.main(["digits", "teacher", "-t", name, *RUN, *flags]) == 0
    whole, rows = saved(Path.cwd(), name), rows_of(Path.cwd(), name)
    os.replace(f"checkpoints/{name}.pt.previous", f"checkpoints/{name}.pt")
    assert saved(Path.cwd(), name)["epoch"] == 1
    assert main.main(["digits", "teacher", "-t", name, *RUN, *flags, "--resume"]) == 0
    assert same(saved(Path.cwd(), name), whole) and same(rows_of(Path.cwd(), name), rows)
    return rows


def test_a_toy_block(toys, teacher, capsys):
    assert str(parse_conv("Toy_02")) == "Toy_2" and str(parse_family("Toy").named(3)) == "Toy_3"
    with pytest.raises(RequestError, match="not of the form Toy_n .n >= 1, whole."):
        parse_conv("Toy_0")
    made = block("Toy_2", ConvSpec(6, 8, 3, stride=2, padding=1), name="a")
    assert isinstance(made, Block) and made(torch.randn(2, 6, 9, 9)).shape == (2, 8, 5, 5)

    costs = counted(capsys, "--conv", "Toy_2")
    assert costs["params"] == costs["params_sanity"] < costs["reference_params"]
    budget = counted(capsys, "--conv", "Toy", "--budget", str(counted(capsys, "--conv", "Toy_3")["params"]))
    assert (budget["conv"], budget["budget"]["asked"]) == ("Toy_3", budget["params"])

    rows = resumed("toy", "--conv", "Toy_2")
    assert len(rows) == 2 and "structured" in capsys.readouterr().out

    shutil.copytree(teacher, toys, dirs_exist_ok=True)
    assert main.main(["digits", "teacher", "-t", "near", *RUN, "--conv", "Toy_2", "--init_from", "t"]) == 0
    assert capsys.readouterr().out.count("approximated") == 6


def test_a_toy_that_is_not_linear(toys, teacher, capsys):
    made = block("Gate", ConvSpec(6, 8, 3, padding=1), name="a")
    assert isinstance(made, Replacement) and not isinstance(made, Block)
    costs = counted(capsys, "--conv", "Gate")
    assert costs["params"] == costs["params_sanity"] and not costs["uncounted"]

    for row in resumed("gate", "--conv", "Gate"):
        assert 0 < row["train_loss_gate"] < 0.1
        assert row["train_loss"] == pytest.approx(row["train_loss_gate"] + row["train_loss_cross_entropy"], rel=1e-5)

    shutil.copytree(teacher, toys, dirs_exist_ok=True)
    capsys.readouterr()
    flags = ["digits", "teacher", "-t", "x", *RUN]
    _, told = refused(capsys, main.main, *flags, "--conv", "Gate", "--init_from", "t")
    assert told == "error: --init_from t: groups.0.0.conv1 is a Gate, which cannot approximate a kernel"
    _, told = refused(capsys, main.main, *flags, "--conv", "Sep", "--init_from", "gate")
    assert told == "error: --init_from gate: groups.0.0.conv1 is a Gate there, which equals no kernel"
    assert main.main([*flags, "--conv", "Gate", "--init_from", "gate"]) == 0
    assert capsys.readouterr().out.count("copied") == 6


def test_a_users_replacement_is_counted(toys, capsys):
    conv = "from toys import Gate\nfrom layers.spec import ConvSpec\n\nclass Conv(Gate):\n"
    (toys / "mine.py").write_text(
        conv + "    def __init__(self, **given):\n        super().__init__(ConvSpec(**given))\n"
    )
    costs, gate = counted(capsys, "--module", "mine.py"), counted(capsys, "--conv", "Gate")
    assert not costs["uncounted"]
    assert [costs[key] for key in ("params", "mult_adds", "mult_adds_exact")] == [
        gate[key] for key in ("params", "mult_adds", "mult_adds_exact")
    ]


@pytest.mark.parametrize(
    "name, target, told",
    [
        ("ACDC", "toys:Toy", "there is a family 'ACDC' already, built by layers.acdc:ACDC"),
        ("Toy_2", "toys:Toy", "'Toy_2' cannot name a family"),
        ("", "toys:Toy", "'' cannot name a family"),
        ("Toy", "toys.Toy", "the target 'toys.Toy' of Toy is not of the form module:class"),
    ],
)
def test_register_refuses(name, target, told):
    before = dict(FAMILIES)
    with pytest.raises(ValueError, match=told):
        register(name, target)
    assert before == FAMILIES
    with pytest.raises(RequestError, match="unknown conv 'Tox_2'"):
        parse_conv("Tox_2")
