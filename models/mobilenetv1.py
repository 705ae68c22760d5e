"""MobileNet: Howard et al. 2017 (1704.04861), table 1, for images of 224×224 and, with a stem of stride 1, of 32×32.

A 3×3 stem to 32 channels; thirteen depthwise separable convolutions (depthwise 3×3, 1×1, each with batch-norm and
ReLU) to 64 up to 1024 channels; the mean over pixels; a linear classifier. Swappable is every 1×1. Parameter counts:
4,231,976 for 1000 classes, as published; 3,217,226 for 10.

    logits, taps, _ = MobileNetV1(classes=10)(torch.randn(2, 3, 32, 32))
"""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from models.output import Output
from models.sizes import decimals, multiplied
from models.units import through

# output channels and stride of each separable convolution
LAYERS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
STEM = 32  # channels


def read_size(convolutions: Sequence[tuple[int, ...]], classifier: tuple[int, int]) -> Iterator[dict[str, float]]:
    """Yield each --width_mult that weights of these shapes, (o, i, h, w) and (o, i), may be of.

    int(1024·width_mult) channels enter the classifier, and int(32·width_mult) leave the stem.
    """
    stem = next((shape[0] for shape in convolutions if shape[1] == 3), 0)
    for width in decimals(classifier[1] / LAYERS[-1][0], (classifier[1] + 1) / LAYERS[-1][0]):
        if stem and int(STEM * width) == stem:
            yield {"width_mult": width}


class Separable(nn.Module):
    """Depthwise 3×3 with the stride, 1×1, each with batch-norm and ReLU. A swap replaces the 1×1 alone."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)))


class MobileNetV1(nn.Module):
    """int(multiplier · c) channels for each c of the paper. Taps: the last layer of each resolution.

    The stem has stride 1 for images of 32×32, and 2, as published, for those of 224×224.
    Raise RequestError for a multiplier that leaves no channels.
    """

    def __init__(self, classes: int = 10, multiplier: float = 1.0, stem_stride: int = 1):
        super().__init__()
        channels = multiplied(STEM, multiplier)
        self.conv1 = nn.Conv2d(3, channels, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.layers = nn.ModuleList()
        for base, stride in LAYERS:
            self.layers.append(Separable(channels, multiplied(base, multiplier), stride))
            channels = multiplied(base, multiplier)
        self.linear = nn.Linear(channels, classes)
        strides = [stride for _, stride in LAYERS[1:]] + [2]
        self.tapped = {index for index, next_stride in enumerate(strides) if next_stride == 2}

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`."""
        x = self.relu(self.bn1(self.conv1(x)))
        x, taps = through(self.layers, self.tapped, x)
        return Output(self.linear(x.mean((2, 3))), taps)

    def swappable(self) -> list[str]:
        """Return the dotted names of every 1×1 convolution."""
        return [f"layers.{index}.conv2" for index in range(len(self.layers))]

    def segments(self) -> list[str]:
        """Return the dotted names of the separable convolutions."""
        return [f"layers.{index}" for index in range(len(self.layers))]
