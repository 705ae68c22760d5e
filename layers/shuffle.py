"""Shuffle: grouped 1×1, channel shuffle, depthwise k×k, grouped 1×1.

ShuffleNet: Zhang et al. 2017 (1707.01083), figure 2, without the normalisations and the ReLU between the parts:
m = o // 4 middle channels, G₁ (m×i) and G₂ (o×m) block-diagonal with g blocks, P the shuffle that sends channel
a·(m/g) + b to b·g + a. The dense kernel is W[o, i] = Σ_m G₂[o, m] · D[m] · (P·G₁)[m, i]. No closed form of the nearest
one to a kernel is known, but the best D beside any G₁ and G₂ is (layers/shuffle_fit.py).

    Shuffle(ConvSpec(48, 96, 3, padding=1), 5).groups      # 4: the largest number up to 5 that divides 48, 96 and 24
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from layers.base import Block
from layers.kept import Kept, may_keep
from layers.scale import dense_scale, draw_normal, equalise, rms, shared_scale
from layers.shuffle_fit import approximate_by_shuffle
from layers.spec import ConvSpec
from layers.strided import conv2d
from layers.tracing import exporting, untraced


class Shuffle(Block):
    """i·m/g + m·k² + m·o/g + b parameters, those of the three convolutions structured."""

    def __init__(self, spec: ConvSpec, groups: int, key: int = 0):
        super().__init__(spec)
        i, o, k = spec.in_channels, spec.out_channels, spec.kernel_size
        if o < 4:
            raise ValueError(f"{o} output channels, Shuffle needs 4 or more")
        self.middle = m = o // 4
        self.groups = next(g for g in range(min(groups, i, m), 0, -1) if i % g == o % g == m % g == 0)
        self.reduce = nn.Parameter(torch.empty(m, i // self.groups, 1, 1))
        self.depthwise = nn.Parameter(torch.empty(m, 1, k, k))
        self.expand = nn.Parameter(torch.empty(o, m // self.groups, 1, 1))
        self.bias = nn.Parameter(torch.empty(o)) if spec.bias else None
        self._kept = Kept()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, i, H, W) to (B, o, H', W'): densely where that costs less, else part by part.

        Where no gradient is needed, the grouped convolutions are kept as ordinary ones, of which the first shuffles:
        three calls instead of four, and ordinary convolutions are faster than grouped ones of few channels.
        """
        spec = self.spec
        if may_keep(self):
            return self._apply_ordinary(x, *self._kept(self, self._ordinary))
        self._kept.clear()
        with untraced():
            dense_pays = not exporting() and self._dense_pays(*x.shape[2:], x.shape[0])
        if dense_pays:
            return conv2d(x, self.weight(), self.bias, spec.stride, spec.padding, spec.dilation)
        x = F.conv2d(x, self.reduce, groups=self.groups)
        x = F.channel_shuffle(x, self.groups) if self.groups > 1 else x
        x = conv2d(x, self.depthwise, None, spec.stride, spec.padding, spec.dilation, groups=self.middle)
        return F.conv2d(x, self.expand, self.bias, groups=self.groups)

    def _apply_ordinary(self, x: Tensor, reduce: Tensor, expand: Tensor) -> Tensor:
        spec = self.spec
        x = F.conv2d(x, reduce)
        x = conv2d(x, self.depthwise, None, spec.stride, spec.padding, spec.dilation, groups=self.middle)
        return F.conv2d(x, expand, self.bias)

    def _ordinary(self) -> tuple[Tensor, Tensor]:
        """Return P·G₁ and G₂ as 1×1 kernels."""
        return self._reduce_matrix()[:, :, None, None], self._expand_matrix()[:, :, None, None]

    def _reduce_matrix(self) -> Tensor:
        """Return P·G₁, (m, i)."""
        g, m = self.groups, self.middle
        blocks = torch.block_diag(*self.reduce.view(g, m // g, -1).unbind())
        return blocks.view(g, m // g, -1).transpose(0, 1).reshape(m, -1)

    def _expand_matrix(self) -> Tensor:
        """Return G₂, (o, m)."""
        return torch.block_diag(*self.expand.view(self.groups, self.spec.out_channels // self.groups, -1).unbind())

    def weight(self) -> Tensor:
        """Return the kernel (o, i, k, k)."""
        o, i, k, m = self.spec.out_channels, self.spec.in_channels, self.spec.kernel_size, self.middle
        spread = self._expand_matrix()[:, None] * self.depthwise.view(m, k * k).t()  # (o, k², m)
        return (spread.reshape(o * k * k, m) @ self._reduce_matrix()).view(o, k, k, i).permute(0, 3, 1, 2)

    def effective_bias(self) -> Tensor | None:
        """Return the bias (o,) or None."""
        return self.bias

    def structured_parameters(self) -> list[nn.Parameter]:
        """Return the weights of the three convolutions."""
        return [self.reduce, self.depthwise, self.expand]

    @property
    def degree(self) -> int:
        """The number of convolutions."""
        return 3

    def parameter_count(self) -> int:
        """Return i·m/g + m·k² + m·o/g + b."""
        i, o, k, m = self.spec.in_channels, self.spec.out_channels, self.spec.kernel_size, self.middle
        return i * m // self.groups + m * k * k + m * o // self.groups + o * self.spec.bias

    def _part_by_part(self, in_pixels: int, depthwise_pixels: int, out_pixels: int) -> int:
        """Return the multiply-adds of the three convolutions for one image."""
        i, o, k, m = self.spec.in_channels, self.spec.out_channels, self.spec.kernel_size, self.middle
        return i * m // self.groups * in_pixels + m * k * k * depthwise_pixels + m * o // self.groups * out_pixels

    def _densely(self, out_pixels: int, batch: int) -> int:
        """Return the multiply-adds of forming `weight()` once and of convolving a batch with it."""
        i, o, k = self.spec.in_channels, self.spec.out_channels, self.spec.kernel_size
        return self.weight_mult_adds() + i * o * k * k * out_pixels * batch

    def weight_mult_adds(self) -> int:
        """Return o·k²·m·i, those of (G₂·D)·(P·G₁)."""
        return self.spec.out_channels * self.spec.kernel_size**2 * self.middle * self.spec.in_channels

    def _dense_pays(self, height: int, width: int, batch: int) -> bool:
        pixels = self._output_pixels(height, width)
        return self._densely(pixels, batch) < self._part_by_part(height * width, pixels, pixels) * batch

    def mult_adds(self, height: int, width: int) -> int:
        """Return those of the three convolutions."""
        published, pixels = self._published_pixels(height, width), self._output_pixels(height, width)
        return self._part_by_part(height * width, published, pixels)

    def exact_mult_adds(self, height: int, width: int, batch: int) -> int:
        """Return those of the cheaper way."""
        pixels = self._output_pixels(height, width)
        return min(self._densely(pixels, batch), self._part_by_part(height * width, pixels, pixels) * batch)

    def _map_rms(self) -> Tensor:
        return rms(self._expand_matrix() @ self._reduce_matrix())

    def _drawn_scales(self) -> list[float]:
        """Return the scales of the depthwise part and of the map G₂·P·G₁ when drawn."""
        return [dense_scale(self.middle * self.spec.kernel_size**2), dense_scale(self.spec.out_channels)]

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw G₁ and G₂ so that G₂·P·G₁ has the root mean square √(2/o), and D from N(0, 2/(m·k²))."""
        depthwise, channel_map = self._drawn_scales()
        for part in (self.reduce, self.expand):
            draw_normal(part, 1.0, generator)
        by = (channel_map / self._map_rms()).sqrt()
        self.reduce.mul_(by)
        self.expand.mul_(by)
        draw_normal(self.depthwise, depthwise, generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _approximate_kernel(self, kernel: Tensor, **search) -> None:
        approximate_by_shuffle(self, kernel, **search)

    def _balance(self) -> None:
        depthwise, channel_map = shared_scale([rms(self.depthwise), self._map_rms()], self._drawn_scales())
        self.depthwise.mul_(depthwise)
        self.reduce.mul_(channel_map)
        equalise([self.reduce, self.expand])

    def setting(self) -> str:
        """Return the groups, which are lowered to a number that divides all channels."""
        return f"g={self.groups}"
