"""VGG-16 for small images: Simonyan & Zisserman 2015 (1409.1556), configuration D, with batch-norm and one linear layer.

Thirteen 3×3 convolutions with bias, each with batch-norm and ReLU, in five stages that a 2×2 max-pool ends; the mean
over the pixels that are left (one of a 32×32 image); a linear classifier. Swappable are all convolutions but the first.
Parameter count for 10 classes: 14,728,266.

    logits, taps, _ = VGG16(classes=10)(torch.randn(2, 3, 32, 32))
"""

from torch import Tensor, nn

from models.output import Output
from models.units import unit

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions


class VGG16(nn.Module):
    """The network for images of 32×32 and more. Taps: before each pool."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.features, self.pools = nn.ModuleList(), nn.ModuleList()
        channels = 3
        for out_channels, count in STAGES:
            widths = [channels] + [out_channels] * count
            self.features.append(nn.Sequential(*(unit(i, o, bias=True) for i, o in zip(widths[:-1], widths[1:]))))
            self.pools.append(nn.MaxPool2d(2))
            channels = out_channels
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`."""
        taps = []
        for stage, pool in zip(self.features, self.pools):
            taps.append(stage(x))
            x = pool(taps[-1])
        return Output(self.classifier(x.mean((2, 3))), taps)

    def swappable(self) -> list[str]:
        """Return the dotted names of all convolutions but the first."""
        return [f"features.{name}" for name, each in self.features.named_modules() if isinstance(each, nn.Conv2d)][1:]

    def segments(self) -> list[str]:
        """Return the dotted names of the convolutions with their batch-norms and ReLUs."""
        return [f"features.{stage}.{index}" for stage, units in enumerate(self.features) for index in range(len(units))]
