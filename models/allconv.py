"""AllConv: a small network of convolutions alone, for 32×32 images.

Springenberg et al. 2015, Striving for simplicity (1412.6806): as All-CNN-C with a quarter of the channels, batch-norm
and a linear classifier. Nine convolutions with bias: seven of 3×3, then two of 1×1. The third and the sixth halve the
image. Each has batch-norm (but for the last) and ReLU; then come the mean over pixels and the classifier. Swappable are
all convolutions but the first. Parameter count for 10 classes: 89,674.

    logits, taps, _ = AllConv(classes=10)(torch.randn(2, 3, 32, 32))
"""

from torch import Tensor, nn

from models.output import Output
from models.units import through, unit

# output channels, kernel size and stride of each convolution
LAYERS = [(24, 3, 1), (24, 3, 1), (24, 3, 2), (48, 3, 1), (48, 3, 1), (48, 3, 2), (48, 3, 1), (48, 1, 1), (48, 1, 1)]


class AllConv(nn.Module):
    """Taps: after each convolution that halves the image, and after the last."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.features = nn.ModuleList()
        channels = 3
        for out_channels, kernel_size, stride in LAYERS[:-1]:
            self.features.append(unit(channels, out_channels, kernel_size, stride, bias=True))
            channels = out_channels
        last, kernel_size, _ = LAYERS[-1]
        self.features.append(nn.Sequential(nn.Conv2d(channels, last, kernel_size), nn.ReLU(inplace=True)))
        self.classifier = nn.Linear(last, classes)
        self.tapped = {index for index, (_, _, stride) in enumerate(LAYERS) if stride == 2} | {len(LAYERS) - 1}

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`."""
        x, taps = through(self.features, self.tapped, x)
        return Output(self.classifier(x.mean((2, 3))), taps)

    def swappable(self) -> list[str]:
        """Return the dotted names of all convolutions but the first."""
        return [f"features.{index}.0" for index in range(1, len(self.features))]

    def segments(self) -> list[str]:
        """Return the dotted names of the convolutions with their batch-norms and ReLUs."""
        return [f"features.{index}" for index in range(len(self.features))]
