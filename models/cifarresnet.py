"""ResNet-18 and ResNet-50 for small images: He et al. 2016 (1512.03385), with a 3×3 stem without stride or pooling.

Four stages with strides 1, 2, 2, 2 and base, 2·base, 4·base, 8·base channels (64 is the base), the mean over pixels and
a linear classifier; ResNet-50 has the stride on the 3×3 of its bottlenecks. Swappable are all convolutions but the stem,
also those of the shortcuts. Parameter counts for 10 classes: 11,173,962 of ResNet-18; 23,520,842 of ResNet-50, and
375,762 with an eighth of the channels.

    logits, taps, _ = CifarResNet50(classes=10, multiplier=0.125)(torch.randn(2, 3, 32, 32))
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import Tensor, nn

from models.output import Output
from models.resnet import Bottleneck
from models.sizes import decimals, multiplied
from models.units import shortcut

BASE = 64  # channels of the stem
EXPANSION = 4  # output channels of a bottleneck for each of its 3×3


def read_size(convolutions: Sequence[tuple[int, ...]], classifier: tuple[int, int]) -> Iterator[dict[str, float]]:
    """Yield the --width_mult that weights of these shapes, (o, i, h, w) and (o, i), may be of.

    The stem has int(64·width_mult) channels; the same integer makes the same network.
    """
    base = next((shape[0] for shape in convolutions if shape[1] == 3), 0)
    if base and classifier[1] == 8 * EXPANSION * base:
        yield {"width_mult": next(decimals(base / BASE, (base + 1) / BASE))}


class BasicBlock(nn.Module):
    """Two 3×3, the first with the stride, each with batch-norm, added to the input (by a 1×1 where the shape changes)."""

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.shortcut = shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, width, H / stride, W / stride)."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(residual + (x if self.shortcut is None else self.shortcut(x)))


class _CifarResNet(nn.Module):
    """`block` makes a block from its input's channels, its width and its stride; `blocks` are how many a stage has.

    A block gives `expansion` channels for each of its width.
    """

    def __init__(
        self,
        block: Callable[[int, int, int], nn.Module],
        expansion: int,
        blocks: Sequence[int],
        base: int,
        classes: int,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, base, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(base)
        self.relu = nn.ReLU(inplace=True)
        channels = base
        self.names = [f"layer{number}" for number in range(1, len(blocks) + 1)]
        for stage, (name, count) in enumerate(zip(self.names, blocks)):
            width = base * 2**stage
            members = [block(channels, width, 2 if stage else 1)]
            channels = expansion * width
            members += [block(channels, width, 1) for _ in range(count - 1)]
            self.add_module(name, nn.Sequential(*members))
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`."""
        x = self.relu(self.bn1(self.conv1(x)))
        taps = []
        for name in self.names:
            x = self.get_submodule(name)(x)
            taps.append(x)
        return Output(self.linear(x.mean((2, 3))), taps)

    def swappable(self) -> list[str]:
        """Return the dotted names of all convolutions but the stem."""
        found = [name for name, module in self.named_modules() if isinstance(module, nn.Conv2d)]
        return [name for name in found if name != "conv1"]

    def segments(self) -> list[str]:
        """Return the dotted names of the blocks."""
        return [f"{name}.{index}" for name in self.names for index in range(len(self.get_submodule(name)))]


class CifarResNet18(_CifarResNet):
    """Two basic blocks a stage, with 64 to 512 channels. Taps: the end of each stage."""

    def __init__(self, classes: int = 10):
        super().__init__(BasicBlock, 1, (2, 2, 2, 2), BASE, classes)


class CifarResNet50(_CifarResNet):
    """3, 4, 6, 3 bottlenecks of int(64·multiplier) to 8 times as many channels. Taps: the end of each stage.

    Raise RequestError for a multiplier that leaves no channels.
    """

    def __init__(self, classes: int = 10, multiplier: float = 1.0):
        bottleneck = partial(Bottleneck, expansion=EXPANSION)
        super().__init__(bottleneck, EXPANSION, (3, 4, 6, 3), multiplied(BASE, multiplier), classes)
