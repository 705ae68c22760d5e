"""SqueezeNet: Iandola et al. 2016 (1602.07360), version 1.1 of its authors, as torchvision has it, for 224×224 images.

A 3×3 stem with stride 2; eight fires (a 1×1 that squeezes, then a 1×1 and a 3×3 side by side), with three max-pools
between; dropout of a half; a 1×1 convolution to the classes, ReLU, the mean over pixels. All convolutions have a bias,
and there is no batch-norm. Swappable are the convolutions of the fires. Parameter count for 1000 classes, as
torchvision's: 1,235,496.

    logits, taps, _ = SqueezeNet(classes=1000)(torch.randn(1, 3, 224, 224))
"""

import torch
from torch import Tensor, nn

from models.output import Output
from models.units import through

POOL = "pool"
# squeezed channels and those of each expanding convolution of a fire, or a max-pool
LAYERS = [POOL, (16, 64), (16, 64), POOL, (32, 128), (32, 128), POOL, (48, 192), (48, 192), (64, 256), (64, 256)]


class Fire(nn.Module):
    """A 1×1 to fewer channels; of these a 1×1 and a 3×3, concatenated; a ReLU after each."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.relu = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.relu1x1 = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.relu3x3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, 2·expanded, H, W)."""
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu1x1(self.expand1x1(x)), self.relu3x3(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """The network, with torchvision's names of its convolutions. Taps: the last fire of each resolution."""

    def __init__(self, classes: int = 1000):
        super().__init__()
        channels = 64
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, 2), nn.ReLU(inplace=True)]
        for layer in LAYERS:
            if layer == POOL:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            else:
                layers.append(Fire(channels, *layer))
                channels = 2 * layer[1]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(channels, classes, 1), nn.ReLU(inplace=True))
        after = [*layers[1:], None]
        self.tapped = {
            index
            for index, layer in enumerate(layers)
            if isinstance(layer, Fire) and not isinstance(after[index], Fire)
        }

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`."""
        x, taps = through(self.features, self.tapped, x)
        return Output(self.classifier(x).mean((2, 3)), taps)

    def swappable(self) -> list[str]:
        """Return the dotted names of the convolutions of the fires."""
        return [f"features.{index}.{conv}" for index in self._fires() for conv in ("squeeze", "expand1x1", "expand3x3")]

    def segments(self) -> list[str]:
        """Return the dotted names of the fires."""
        return [f"features.{index}" for index in self._fires()]

    def _fires(self) -> list[int]:
        return [index for index, layer in enumerate(self.features) if isinstance(layer, Fire)]
