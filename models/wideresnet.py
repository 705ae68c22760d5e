"""Wide residual networks: Zagoruyko & Komodakis 2016 (1605.07146), section 2, pre-activation blocks B(3, 3).

Depth 6n + 4: a 3×3 stem, three groups of n blocks with int(16·w), int(32·w), int(64·w) channels, batch-norm, ReLU, the
mean over pixels and a linear classifier. Swappable are both 3×3 convolutions of every block. Parameter counts for 10
classes: 36,479,194 of WRN-28-10, 175,066 of WRN-16-1.

    logits, taps, _ = WideResNet(depth=16, width=1.0, classes=10)(torch.randn(2, 3, 32, 32))
"""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from models.output import Output
from models.sizes import decimals
from system.errors import RequestError


def read_size(convolutions: Sequence[tuple[int, ...]], classifier: tuple[int, int]) -> Iterator[dict[str, float]]:
    """Yield the --wrn_depth and --wrn_width that weights of these shapes, (o, i, h, w) and (o, i), may be of.

    There are 6n 3×3 convolutions after the stem, and int(64·width) channels enter the classifier.
    """
    depth = 6 * round((sum(shape[2:] == (3, 3) for shape in convolutions) - 1) / 6) + 4
    width = next(decimals(classifier[1] / 64, (classifier[1] + 1) / 64), 0.0)  # int makes the same of all others
    yield {"wrn_depth": depth, "wrn_width": width}


class BasicBlock(nn.Module):
    """Batch-norm, ReLU, 3×3 (with the stride), batch-norm, ReLU, 3×3, added to the input.

    Where the number of channels changes, the shortcut is a 1×1 convolution of the first activation.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, padding=1, bias=False)
        self.shortcut = None
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        activated = self.relu1(self.bn1(x))
        residual = self.conv2(self.relu2(self.bn2(self.conv1(activated))))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """WRN-depth-width for 32×32 images. Taps: the end of each group, or of each of its `splits` near-equal parts.

    Raise RequestError for a depth that is not 6n + 4, a width without channels, or more splits than blocks in a group.
    """

    def __init__(self, depth: int = 40, width: float = 2.0, classes: int = 10, splits: int = 1):
        super().__init__()
        blocks, remainder = divmod(depth - 4, 6)
        if blocks < 1 or remainder:
            near = [6 * n + 4 for n in (blocks, blocks + 1) if n >= 1]
            raise RequestError(
                f"--wrn_depth {depth}: a WideResNet's depth is 6n + 4, such as {' or '.join(map(str, near))}"
            )
        widths = [int(base * width) for base in (16, 32, 64)]
        if min(widths) < 1:
            raise RequestError(f"--wrn_width {width:g} leaves {widths[0]} channels: 1/16 or more is allowed")
        if not 1 <= splits <= blocks:
            raise RequestError(
                f"--AT_split {splits}: a group of WRN-{depth} has {blocks} blocks, so 1 to {blocks} is allowed"
            )
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.groups = nn.ModuleList()
        channels = 16
        for group, out_channels in enumerate(widths):
            strides = [1 if group == 0 else 2] + [1] * (blocks - 1)
            members = [BasicBlock(channels if b == 0 else out_channels, out_channels, s) for b, s in enumerate(strides)]
            self.groups.append(nn.ModuleList(members))
            channels = out_channels
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.classifier = nn.Linear(channels, classes)
        self.tapped = {blocks * (part + 1) // splits - 1 for part in range(splits)}

    def forward(self, x: Tensor) -> Output:
        """Map images (B, 3, H, W) to `Output`."""
        x = self.conv1(x)
        taps = []
        for group in self.groups:
            for index, block in enumerate(group):
                x = block(x)
                if index in self.tapped:
                    taps.append(x)
        return Output(self.classifier(self.relu(self.bn(x)).mean((2, 3))), taps)

    def swappable(self) -> list[str]:
        """Return the dotted names of the 3×3 convolutions of every block."""
        return [
            f"groups.{group}.{index}.{conv}"
            for group, members in enumerate(self.groups)
            for index in range(len(members))
            for conv in ("conv1", "conv2")
        ]

    def segments(self) -> list[str]:
        """Return the dotted names of the blocks."""
        return [f"groups.{group}.{index}" for group, members in enumerate(self.groups) for index in range(len(members))]
