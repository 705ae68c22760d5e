"""Networks as others write and name them, and requests that take their weights."""

import torch
from torch import nn

from cli import options


def config(*flags, dataset="digits", mode=("teacher", "-t", "x")):
    return options.training([dataset, *mode, *flags])


def imagenet(network):
    return config("--network", network, dataset="imagenet")


@torch.no_grad()
def drawn(network):
    """With statistics that are not those of a network nobody has trained."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1), module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.0), module.bias.normal_(0, 0.1)
    return network.eval()


class ForeignBlock(nn.Module):
    """As others write and name it; only the parts that the mapping sees, and its own forward pass."""

    def __init__(self, i, o, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.convShortcut = nn.Conv2d(i, o, 1, stride, bias=False) if i != o else None

    def forward(self, x):
        first = torch.relu(self.bn1(x))
        x = x if self.convShortcut is None else self.convShortcut(first)
        return x + self.conv2(torch.relu(self.bn2(self.conv1(first))))


class ForeignGroup(nn.Module):
    def __init__(self, n, i, o, stride):
        super().__init__()
        self.layer = nn.Sequential(*(ForeignBlock(o if b else i, o, 1 if b else stride) for b in range(n)))

    def forward(self, x):
        return self.layer(x)


class ForeignWRN(nn.Module):
    def __init__(self, n=2, widths=(32, 64, 128), classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = ForeignGroup(n, 16, widths[0], 1)
        self.block2 = ForeignGroup(n, widths[0], widths[1], 2)
        self.block3 = ForeignGroup(n, widths[1], widths[2], 2)
        self.bn1, self.fc = nn.BatchNorm2d(widths[2]), nn.Linear(widths[2], classes)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(torch.relu(self.bn1(x)).mean((2, 3)))


def small(**changes):
    """The state dict of a WRN-10-0.25."""
    return drawn(ForeignWRN(**{"n": 1, "widths": (4, 8, 16), **changes})).state_dict()


def changed(**changes):
    """The small state with a tensor replaced, or without it where that is None."""
    state = small()
    state |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in state.items() if tensor is not None}
