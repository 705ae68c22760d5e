"""What several networks are made of: a unit, the shortcut of a residual block, the pass through layers that are tapped.

unit(16, 32, 3, stride=2)                    # (B, 16, H, W) -> (B, 32, H / 2, W / 2)
x, taps = through(layers, {3, 6}, x)         # taps: what layers 3 and 6 give
"""

from collections.abc import Collection, Iterable

from torch import Tensor, nn


def unit(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, **others) -> nn.Sequential:
    """Return the three modules, with the padding that keeps the side; `others` are further arguments of Conv2d."""
    arguments = {"padding": kernel_size // 2, "bias": False} | others
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, **arguments)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """Return a 1×1 with batch-norm where a residual block changes the shape; None where its input is added as it is."""
    if in_channels == out_channels and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


def through(layers: Iterable[nn.Module], tapped: Collection[int], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return what the layers make of x one after the other, and what each of the `tapped` ones gives."""
    taps = []
    for index, layer in enumerate(layers):
        x = layer(x)
        if index in tapped:
            taps.append(x)
    return x, taps
