"""MobileNetV2: Sandler et al. 2018 (1801.04381), table 2, for images of 224×224.

A 3×3 stem, 17 inverted residuals (1×1 that expands, depthwise 3×3, linear 1×1), a 1×1 to 1280 channels, the mean over
pixels, and the classifier as a 1×1 convolution with a bias. Swappable is every 1×1, also the classifier. Parameter
count for 1000 classes, as published: 3,504,872.

    logits, taps, _ = MobileNetV2(classes=1000)(torch.randn(1, 3, 224, 224))
"""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from models.output import Output
from models.sizes import decimals
from system.errors import RequestError

# expansion t, output channels c, repeats n, stride of the first s
STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def multiple_of_8(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8 and at most a tenth too small, as the authors' networks round."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def read_size(convolutions: Sequence[tuple[int, ...]], classifier: tuple[int, int]) -> Iterator[dict[str, float]]:
    """Yield each --width_mult that weights of these shapes, (o, i, h, w) and (o, i), may be of.

    320·width_mult channels, to a multiple of 8, enter the last 1×1, whose output enters the classifier.
    """
    heads = [shape[1] for shape in convolutions if shape[2:] == (1, 1) and shape[0] == classifier[1]]
    for width in decimals((heads[0] - 4) / 320, (heads[0] + 4) / 320) if heads else ():
        if multiple_of_8(32 * width) == next((shape[0] for shape in convolutions if shape[1] == 3), None):
            yield {"width_mult": width}


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)


class InvertedResidual(nn.Module):
    """1×1 to t times the channels (none for t = 1), depthwise 3×3, linear 1×1; added to an input of the same shape."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int):
        super().__init__()
        hidden = in_channels * expansion
        self.stride = stride
        self.added = stride == 1 and in_channels == out_channels
        self.expand = None
        if expansion > 1:
            self.expand = nn.Sequential(_conv(in_channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True))
        depthwise = _conv(hidden, hidden, 3, stride, groups=hidden)
        self.depthwise = nn.Sequential(depthwise, nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True))
        self.project = nn.Sequential(_conv(hidden, out_channels, 1), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        residual = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        return x + residual if self.added else residual


class MobileNetV2(nn.Module):
    """All channels times `multiplier` (the last 1280 only if it is above 1). Taps: every block with stride 2.

    Raise RequestError for a multiplier that is not above 0 and at most 100.
    """

    def __init__(self, classes: int = 1000, multiplier: float = 1.0):
        super().__init__()
        if not 0 < multiplier <= 100:
            raise RequestError(f"--width_mult {multiplier:g}: above 0 and at most 100 is allowed")
        channels, last = multiple_of_8(32 * multiplier), multiple_of_8(1280 * max(1.0, multiplier))
        self.stem = nn.Sequential(_conv(3, channels, 3, 2), nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))
        self.blocks = nn.ModuleList()
        for expansion, base, repeats, stride in STAGES:
            for index in range(repeats):
                out_channels = multiple_of_8(base * multiplier)
                self.blocks.append(InvertedResidual(channels, out_channels, expansion, stride if index == 0 else 1))
                channels = out_channels
        self.head = nn.Sequential(_conv(channels, last, 1), nn.BatchNorm2d(last), nn.ReLU6(inplace=True))
        self.classifier = nn.Conv2d(last, classes, 1)

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`."""
        x = self.stem(x)
        taps = []
        for block in self.blocks:
            x = block(x)
            if block.stride == 2:
                taps.append(x)
        return Output(self.classifier(self.head(x).mean((2, 3), keepdim=True)).flatten(1), taps)

    def swappable(self) -> list[str]:
        """Return the dotted names of every 1×1 convolution."""
        convs = [(name, module) for name, module in self.named_modules() if isinstance(module, nn.Conv2d)]
        return [name for name, conv in convs if conv.kernel_size == (1, 1)]

    def segments(self) -> list[str]:
        """Return the dotted names of the inverted residuals."""
        return [f"blocks.{index}" for index in range(len(self.blocks))]
