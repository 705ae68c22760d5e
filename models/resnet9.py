"""ResNet-9: the residual network of nine layers that DAWNBench's fastest CIFAR-10 entries trained (Coleman et al. 2019).

A 3×3 stem to 64 channels; three stages, each a unit that doubles the channels and pools by 2, the first and the last
with a residual of two more units, which is added after its own ReLUs; a 4×4 max-pool; a linear classifier without bias,
whose logits are multiplied by 0.125. A unit is a 3×3 convolution, batch-norm and ReLU. Swappable are the seven
convolutions after the stem. Parameter count for 10 classes: 6,573,120.

    logits, taps, _ = ResNet9(classes=10)(torch.randn(2, 3, 32, 32))
"""

from torch import Tensor, nn

from models.output import Output
from models.units import unit

LOGIT_SCALE = 0.125


class Stage(nn.Module):
    """A unit that widens, a max-pool by 2 and, where it is residual, two units around which the input is added."""

    def __init__(self, in_channels: int, out_channels: int, residual: bool):
        super().__init__()
        self.widen = unit(in_channels, out_channels)
        self.pool = nn.MaxPool2d(2)
        self.residual = None
        if residual:
            self.residual = nn.Sequential(unit(out_channels, out_channels), unit(out_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / 2, W / 2)."""
        x = self.pool(self.widen(x))
        return x if self.residual is None else x + self.residual(x)


class ResNet9(nn.Module):
    """64 channels in the stem, 128, 256, 512 in the stages, for 32×32 images. Taps: the end of each stage."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.stem = unit(3, 64)
        self.stages = nn.ModuleList([Stage(64, 128, True), Stage(128, 256, False), Stage(256, 512, True)])
        self.pool = nn.MaxPool2d(4)
        self.classifier = nn.Linear(512, classes, bias=False)

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`. Of images larger than 32×32 the classifier gets the maxima over all."""
        x = self.stem(x)
        taps = []
        for stage in self.stages:
            x = stage(x)
            taps.append(x)
        return Output(LOGIT_SCALE * self.classifier(self.pool(x).amax((2, 3))), taps)

    def swappable(self) -> list[str]:
        """Return the dotted names of all convolutions but the stem."""
        return [f"stages.{name}" for name, module in self.stages.named_modules() if isinstance(module, nn.Conv2d)]

    def segments(self) -> list[str]:
        """Return the dotted names of the stem and the stages."""
        return ["stem", *(f"stages.{index}" for index in range(len(self.stages)))]
