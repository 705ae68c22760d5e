"""Residual networks of bottlenecks: He et al. 2016 (1512.03385), wide as in Zagoruyko & Komodakis 2016 (1605.07146).

WRN-50-2 is ResNet-50 with the stride on the 3×3 (as torchvision has it) and twice the inner channels, so that a
bottleneck's output is 2 times as wide as its 3×3. Swappable are all convolutions but the 7×7 stem, also those of the
shortcuts. Parameter count for 1000 classes, as torchvision's: 68,883,240.

    logits, taps, _ = WRN_50_2(classes=1000)(torch.randn(1, 3, 224, 224))
"""

from torch import Tensor, nn

from models.output import Output
from models.units import shortcut

EXPANSION = 2  # output channels of a bottleneck for each of its 3×3, here


class Bottleneck(nn.Module):
    """1×1, 3×3 with the stride, 1×1, each with batch-norm, added to the input (by a 1×1 where the shape changes).

    The 3×3 has `width` channels, the output `expansion` times as many.
    """

    def __init__(self, in_channels: int, width: int, stride: int, expansion: int = EXPANSION):
        super().__init__()
        out_channels = width * expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu3 = nn.ReLU(inplace=True)
        self.shortcut = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, expansion·width, H / stride, W / stride)."""
        residual = self.relu1(self.bn1(self.conv1(x)))
        residual = self.relu2(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return self.relu3(residual + (x if self.shortcut is None else self.shortcut(x)))


class WRN_50_2(nn.Module):
    """Four stages of 3, 4, 6, 3 bottlenecks, with 128 to 1024 channels in the 3×3. Taps: the end of each stage."""

    def __init__(self, classes: int = 1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.stages = nn.ModuleList()
        channels = 64
        for width, blocks, stride in ((128, 3, 1), (256, 4, 2), (512, 6, 2), (1024, 3, 2)):
            stage = [Bottleneck(channels, width, stride)]
            channels = width * EXPANSION
            stage += [Bottleneck(channels, width, 1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        taps = []
        for stage in self.stages:
            x = stage(x)
            taps.append(x)
        return Output(self.classifier(self.avgpool(x).flatten(1)), taps)

    def swappable(self) -> list[str]:
        """Return the dotted names of every convolution of every bottleneck."""
        return [f"stages.{name}" for name, module in self.stages.named_modules() if isinstance(module, nn.Conv2d)]

    def segments(self) -> list[str]:
        """Return the dotted names of the bottlenecks."""
        return [f"stages.{stage}.{index}" for stage, members in enumerate(self.stages) for index in range(len(members))]
