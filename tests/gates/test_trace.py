"""Followed channels of networks that have one way each: what is counted closed is 0, and nothing else of the network changes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cli import options
from counting.costs import summary
from gates.attach import attach
from gates.selection import Selection
from gates.trace import follow
from layers.init import initialise, materialise
from models.build import build
from models.output import Output


def aliased(change):
    def middle(y):
        change(y)
        return y

    return middle


MIDDLES = {
    "split": lambda y: torch.cat(y.split([2, 9, 5], 1)[::-1], 1),
    "chunk": lambda y: torch.cat(y.chunk(3, 1)[::-1], 1),
    "hardtanh above 0": lambda y: F.hardtanh(y, 0.5, 6),
    "hardtanh": lambda y: F.hardtanh(y, -1, 1),
    "relu6": F.relu6,
    "a part by name": lambda y: torch.add(y, other=y),
    "a part in place": aliased(lambda y: y[:, :4].add_(1)),
    "a view in place": aliased(lambda y: y.view(len(y), -1).add_(1)),
    "its data in place": aliased(lambda y: y.data.add_(1)),
    "an item in place": aliased(lambda y: y.__setitem__((slice(None), 3), 1.0)),
    "a difference in place": aliased(lambda y: y.detach().__iadd__(1)),
    "a sum with a number": lambda y: y + 1,
    "a norm without shift": nn.BatchNorm2d(16, affine=False),
    "group norm": nn.GroupNorm(4, 16),
}
OPENED = {
    "hardtanh above 0",
    "a view in place",
    "its data in place",
    "a difference in place",
    "a sum with a number",
    "group norm",
    "a part in place",
    "an item in place",
}


class Net(nn.Module):
    """A gated convolution, something between, and a convolution that reads it. One batch-norm may run twice."""

    def __init__(self, middle, twice=False):
        super().__init__()
        self.first, self.bn, self.middle = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), middle
        self.reader, self.last = nn.Conv2d(16, 16, 3), nn.Conv2d(16, 10, 1)
        self.shared = nn.BatchNorm2d(16) if twice else None

    def forward(self, x):
        y = self.middle(torch.relu(self.bn(self.first(x))))
        if self.shared is not None:
            y = self.shared(y)
        y = self.reader(y)
        if self.shared is not None:
            y = self.shared(y)
        return Output(self.last(torch.sigmoid(y)).mean((2, 3)), [])


def gated(network, gate="FBS_0.5"):
    config = options.counting(["digits", "--gate", gate, "--gate_where", "first"])
    initialise(network, 0)
    attach(network, config)
    for each in network.gates.values():
        each.reset_parameters()
    return network.eval()


@pytest.mark.parametrize("name", [*MIDDLES, "twice"])
def test_what_is_counted_closed_is_0(name):
    network = gated(Net(MIDDLES.get(name, nn.Identity()), twice=name == "twice"))
    (read,) = (read for read in follow(network, 32, ["first"]).reads if read.name == "reader")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.bias is not None:
                module.bias.uniform_(0.5, 1)
    assert any(read.channels) == (name not in {*OPENED, "twice"})
    select, seen = Selection(read.channels, network.gates.by_name()) if any(read.channels) else None, []
    network.reader.register_forward_pre_hook(lambda _, given: seen.append(given[0].abs().amax((2, 3))))
    with torch.no_grad():
        network(torch.randn(3, 3, 32, 32))
    if select is not None:
        assert not seen[0][~select()].any() and (~select()).any()


def test_a_norm_without_a_shift_gets_that_of_fbs():
    network = Net(nn.Identity())
    network.bn = nn.BatchNorm2d(16, affine=False)
    plain = copy.deepcopy(network).eval()
    gated(network)
    assert network.bn.bias.requires_grad and not network.bn.bias.any() and network.gates.fixed_scales == -16
    gate, x = network.gates["first"], torch.randn(2, 3, 12, 12)
    gate.set_density(1)
    with torch.no_grad():
        gate.weight.zero_()
        plain.load_state_dict(network.state_dict(), strict=False)
        assert torch.equal(network(x).logits, plain(x).logits)


def test_fixed_scales_of_a_new_library_network_are_1():
    """timm's residual blocks start with a scale of 0, at which one that is not trained would stay."""
    pytest.importorskip("timm")
    for gate, value in (("FBS_0.5", 1.0), ("Naive_0.5", 0.0)):
        network = materialise(build(options.counting(["digits", "--network", "timm:resnet10t", "--gate", gate])), 0)
        assert network.layer1[0].bn2.weight.eq(value).all()


@pytest.mark.parametrize("conv", ["TensorTrain_0.5", "ACDC", "Generic_0.5"])
def test_a_batch_shares_the_forming_of_matrices(conv):
    costs = summary(
        dict(options.counting(["digits", "--conv", conv, "--gate", "Naive_1", "--wrn_depth", "10"])), batch=1
    )
    assert costs["mult_adds_gated"] == costs["mult_adds_exact"] + costs["gate_mult_adds"]


def test_a_layer_of_which_nothing_is_known_spares_nothing(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nclass Conv(nn.Conv2d):\n    def __init__(self, *args, **kwargs):\n        super().__init__(*args, **kwargs)\n"
        "        self.norm = nn.GroupNorm(1, self.out_channels)\n    def forward(self, x):\n        return self.norm(super().forward(x))\n"
    )
    line = ["digits", "--network", "AllConv", "--module", str(tmp_path / "mine.py"), "--gate"]
    gated, whole = (summary(dict(options.counting([*line, gate]))) for gate in ("Naive_0.5", "Naive_1"))
    assert whole["mult_adds_gated"] == whole["mult_adds_exact"] + whole["gate_mult_adds"]
    assert 0 < gated["mult_adds_gated"] < whole["mult_adds_gated"]
