"""Convolution, batch-norm, ReLU: the unit that several networks are made of.

unit(16, 32, 3, stride=2)                    # (B, 16, H, W) -> (B, 32, H / 2, W / 2)
"""

from torch import nn


def unit(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, **others) -> nn.Sequential:
    """Return the three modules, with the padding that keeps the side; `others` are further arguments of Conv2d."""
    arguments = {"padding": kernel_size // 2, "bias": False} | others
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, **arguments)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
