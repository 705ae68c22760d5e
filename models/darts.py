"""DARTS: Liu, Simonyan & Yang 2018 (1806.09055), the CIFAR-10 network of the second-order cell (figures 4 and 5).

A 3×3 stem; 20 cells with 36 channels a node, of which the 7th and the 14th halve the image and double the channels; the
mean over pixels; a linear classifier. In training an auxiliary head follows the second reduction. Swappable are both
separable convolutions of `sep_conv_3x3`, that of `dil_conv_3x3` and every 1×1 of the cells. Parameter counts for 10
classes, as published: 3,349,342, and 476,426 of the auxiliary head, which are not counted.

    logits, taps, auxiliary_logits = DARTS(classes=10)(torch.randn(2, 3, 32, 32))
"""

import torch
from torch import Tensor, nn

from models.output import Output

# (operation, node that it reads): two for each of the nodes 2, 3, 4, 5; nodes 0 and 1 are the two cells before
NORMAL = [
    ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
    ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2),
]  # fmt: skip
REDUCE = [
    ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
    ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1),
]  # fmt: skip
NODES = 4  # a cell concatenates their outputs


def separable(channels: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return a depthwise 3×3 and a 1×1, which a swap replaces together."""
    depthwise = nn.Conv2d(channels, channels, 3, stride, dilation, dilation, groups=channels, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(channels, channels, 1, bias=False))


class SepConv(nn.Module):
    """ReLU, separable 3×3 with the stride, batch-norm, twice."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.relu1 = nn.ReLU()  # not in place: other operations read its input
        self.separable1 = separable(channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.separable2 = separable(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, channels, H / stride, W / stride)."""
        x = self.bn1(self.separable1(self.relu1(x)))
        return self.bn2(self.separable2(self.relu2(x)))


class DilConv(nn.Module):
    """ReLU, separable 3×3 of dilation 2, batch-norm."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.relu = nn.ReLU()
        self.dilated = separable(channels, stride, dilation=2)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, channels, H / stride, W / stride)."""
        return self.bn(self.dilated(self.relu(x)))


class ReLUConvBN(nn.Module):
    """ReLU, 1×1, batch-norm."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H, W)."""
        return self.bn(self.conv(self.relu(x)))


class FactorizedReduce(nn.Module):
    """ReLU, two 1×1 of stride 2 with half the channels each, the second on the input shifted by a pixel; batch-norm."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, H / 2, W / 2)."""
        x = self.relu(x)
        return self.bn(torch.cat([self.conv1(x), self.conv2(x[:, :, 1:, 1:])], 1))


def operation(name: str, channels: int, stride: int) -> nn.Module:
    """Return the operation that a genotype names. Raise ValueError for an unknown name."""
    match name:
        case "sep_conv_3x3":
            return SepConv(channels, stride)
        case "dil_conv_3x3":
            return DilConv(channels, stride)
        case "max_pool_3x3":
            return nn.MaxPool2d(3, stride, padding=1)
        case "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    raise ValueError(f"unknown operation {name!r}")


class Cell(nn.Module):
    """Four nodes, each the sum of two operations; their concatenation is the output.

    In a reduction cell the operations on the two inputs have stride 2.
    """

    def __init__(self, channels_before: int, in_channels: int, channels: int, reduces: bool, after_reduction: bool):
        super().__init__()
        self.preprocess0 = (FactorizedReduce if after_reduction else ReLUConvBN)(channels_before, channels)
        self.preprocess1 = ReLUConvBN(in_channels, channels)
        genotype = REDUCE if reduces else NORMAL
        self.reads = [node for _, node in genotype]
        self.operations = nn.ModuleList(
            operation(name, channels, 2 if reduces and node < 2 else 1) for name, node in genotype
        )

    def forward(self, before: Tensor, x: Tensor, drop_path: float) -> Tensor:
        """Map the outputs of the two cells before to (B, 4·channels, H, W), halved in a reduction cell.

        `drop_path` is the probability that a path of one image is dropped.
        """
        nodes = [self.preprocess0(before), self.preprocess1(x)]
        for first in range(0, 2 * NODES, 2):
            paths = []
            for operation, node in list(zip(self.operations, self.reads))[first : first + 2]:
                path = operation(nodes[node])
                if drop_path and not isinstance(operation, nn.Identity):
                    path = dropped(path, drop_path)
                paths.append(path)
            nodes.append(paths[0] + paths[1])
        return torch.cat(nodes[2:], 1)


def dropped(x: Tensor, probability: float) -> Tensor:
    """Set each image's path to 0 with this probability, else divide by 1 − it: Larsson et al. 2017 (1605.07648)."""
    kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= probability
    return x * (kept / (1 - probability)).to(x.dtype)


class AuxiliaryHead(nn.Sequential):
    """A classifier on 8×8 features: 5×5 average pool of stride 3, 1×1 to 128, 2×2 to 768 channels, linear."""

    def __init__(self, channels: int, classes: int):
        super().__init__(
            nn.ReLU(), nn.AvgPool2d(5, 3), nn.Conv2d(channels, 128, 1, bias=False), nn.BatchNorm2d(128),
            nn.ReLU(inplace=True), nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768),
            nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(768, classes),
        )  # fmt: skip


class DARTS(nn.Module):
    """`cells` cells of `channels` channels a node for 32×32 images. Taps: the output of the cell before each reduction.

    The attribute `drop_path`, 0 at first, is the probability that a path is dropped in training; the callback DropPath
    sets it.
    """

    def __init__(self, classes: int = 10, channels: int = 36, cells: int = 20):
        super().__init__()
        self.drop_path = 0.0
        self.reductions = (cells // 3, 2 * cells // 3)
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels))
        self.cells = nn.ModuleList()
        before = now = 3 * channels
        for index in range(cells):
            reduces = index in self.reductions
            channels *= 2 if reduces else 1
            self.cells.append(Cell(before, now, channels, reduces, index - 1 in self.reductions))
            before, now = now, NODES * channels
            if index == self.reductions[1]:
                self.auxiliary = AuxiliaryHead(now, classes)
        self.classifier = nn.Linear(now, classes)

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`, with auxiliary logits in training."""
        before = x = self.stem(x)
        taps, auxiliary_logits = [], None
        drop_path = self.drop_path if self.training else 0.0
        for index, cell in enumerate(self.cells):
            if index in self.reductions:
                taps.append(x)
            before, x = x, cell(before, x, drop_path)
            if index == self.reductions[1] and self.training:
                auxiliary_logits = self.auxiliary(x)
        return Output(self.classifier(x.mean((2, 3))), taps, auxiliary_logits)

    def swappable(self) -> list[str]:
        """Return the dotted names of the separable pairs and of the 1×1 convolutions of the cells."""
        found: list[str] = []
        for name, module in self.cells.named_modules(prefix="cells"):
            pair = isinstance(module, nn.Sequential)
            if pair or (isinstance(module, nn.Conv2d) and name.rpartition(".")[0] not in found):
                found.append(name)
        return found

    def classifiers(self) -> list[str]:
        """Return the dotted name of the classifier, without that of the auxiliary head."""
        return ["classifier"]

    def segments(self) -> list[str]:
        """Return the dotted names of the cells."""
        return [f"cells.{index}" for index in range(len(self.cells))]
