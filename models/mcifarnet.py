"""M-CifarNet: the network of eight convolutions on which feature boosting and suppression was tried, for 32×32 images.

Gao et al. 2019, Dynamic channel pruning (1810.05331). Eight 3×3 convolutions with batch-norm and ReLU, of which the
first has no padding and the third and the sixth halve the image; the mean over pixels; the classifier as a 1×1
convolution with a bias. Swappable are the convolutions between the first and the classifier. Parameter count for 10
classes: 1,296,074.

    logits, taps, _ = MCifarNet(classes=10)(torch.randn(2, 3, 32, 32))
"""

from torch import Tensor, nn

from models.output import Output
from models.units import through, unit

# output channels, stride and padding of each convolution
LAYERS = [(64, 1, 0), (64, 1, 1), (128, 2, 1), (128, 1, 1), (128, 1, 1), (192, 2, 1), (192, 1, 1), (192, 1, 1)]


class MCifarNet(nn.Module):
    """Taps: the last layer of each resolution."""

    def __init__(self, classes: int = 10):
        super().__init__()
        channels = 3
        for index, (out_channels, stride, padding) in enumerate(LAYERS):
            self.add_module(f"conv{index}", unit(channels, out_channels, 3, stride, padding=padding))
            channels = out_channels
        self.logits = nn.Conv2d(channels, classes, 1)
        strides = [stride for _, stride, _ in LAYERS[1:]] + [2]
        self.tapped = {index for index, next_stride in enumerate(strides) if next_stride == 2}

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`."""
        layers = (self.get_submodule(f"conv{index}") for index in range(len(LAYERS)))
        x, taps = through(layers, self.tapped, x)
        return Output(self.logits(x.mean((2, 3), keepdim=True)).flatten(1), taps)

    def swappable(self) -> list[str]:
        """Return the dotted names of the convolutions between the first and the classifier."""
        return [f"conv{index}.0" for index in range(1, len(LAYERS))]

    def segments(self) -> list[str]:
        """Return the dotted names of the convolutions with their batch-norms and ReLUs."""
        return [f"conv{index}" for index in range(len(LAYERS))]
