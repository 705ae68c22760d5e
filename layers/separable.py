"""`Separable`: a depthwise convolution joined to a map on channels.

Separable(spec, Pointwise(spec))(torch.randn(2, 16, 8, 8))
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from layers.base import Block, ChannelMap
from layers.filters import leading_filters, search_filters
from layers.gradient import approximate_by_gradient
from layers.scale import dense_scale, draw_normal, rms, shared_scale
from layers.spec import ConvSpec


class Separable(Block):
    """A depthwise k×k (where k > 1), which carries stride, padding and dilation, then a map on channels.

    W[o, i] = M[o, i] · D[i] (1704.04861, equation 5). Where k = 1 the map itself carries stride and padding. The bias
    is that of `spec`, unless the map has one of its own.
    """

    def __init__(self, spec: ConvSpec, channel_map: ChannelMap):
        super().__init__(spec)
        i = spec.in_channels
        self.depthwise = None
        if spec.kernel_size > 1:
            self.depthwise = nn.Parameter(torch.empty(i, 1, spec.kernel_size, spec.kernel_size))
        self.map = channel_map
        self.bias = nn.Parameter(torch.empty(spec.out_channels)) if spec.bias and channel_map.bias is None else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, i, H, W) to (B, o, H', W')."""
        spec = self.spec
        if self.depthwise is not None:
            x = F.conv2d(x, self.depthwise, None, spec.stride, spec.padding, spec.dilation, groups=spec.in_channels)
        else:
            x = F.pad(x, [spec.padding] * 4) if spec.padding else x
            x = x[:, :, :: spec.stride, :: spec.stride] if spec.stride > 1 else x
        return self.map(x, self.bias)

    def weight(self) -> Tensor:
        """Return the kernel (o, i, k, k): the matrix times each input channel's filter."""
        matrix = self.map.matrix()[:, :, None, None]
        return matrix if self.depthwise is None else matrix * self.depthwise[:, 0]

    def effective_bias(self) -> Tensor | None:
        """Return the map's bias or this block's own, (o,), or None."""
        return self.map.bias if self.bias is None else self.bias

    def structured_parameters(self) -> list[nn.Parameter]:
        """Return those of the map: the depthwise filters decay as dense ones do."""
        return self.map.structured_parameters()

    @property
    def degree(self) -> int:
        """The number of factors of the map."""
        return self.map.degree

    def _depthwise_entries(self) -> int:
        return 0 if self.depthwise is None else self.spec.in_channels * self.spec.kernel_size**2

    def parameter_count(self) -> int:
        """Return i·k² (where k > 1) + the map's count + the bias."""
        own_bias = self.spec.out_channels if self.bias is not None else 0
        return self._depthwise_entries() + self.map.parameter_count() + own_bias

    def mult_adds(self, height: int, width: int) -> int:
        """Return the published count: dilation is ignored in the depthwise part, but shrinks what the map is given."""
        depthwise = self._depthwise_entries() * self._published_pixels(height, width)
        return depthwise + self.map.mult_adds(height * width, self._output_pixels(height, width))

    def exact_mult_adds(self, height: int, width: int, batch: int) -> int:
        """Return the multiply-adds of the depthwise convolution and of the map's cheaper way."""
        pixels = self._output_pixels(height, width) * batch
        return self._depthwise_entries() * pixels + self.map.exact_mult_adds(pixels)

    def weight_mult_adds(self) -> int:
        """Return the multiply-adds of forming the map's matrix."""
        return self.map.rebuild_mult_adds()

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the filters from N(0, 2/(i·k²)), then the map; set biases to zero."""
        if self.depthwise is not None:
            draw_normal(self.depthwise, dense_scale(self._depthwise_entries()), generator)
        self.map.reset_parameters(generator)
        for bias in (self.bias, self.map.bias):
            if bias is not None:
                nn.init.zeros_(bias)

    @torch.no_grad()
    def _approximate_kernel(self, kernel: Tensor, **search) -> None:
        """Take each input channel's filter and column from the SVD of its (o, k²) slice; the map approximates the columns.

        Where the result may not be the nearest of the family, go on from it: with k > 1 over the map alone, for every
        matrix with the filters that are best beside it.
        """
        columns = kernel[:, :, 0, 0]
        if self.depthwise is not None:
            filters, columns = leading_filters(kernel)
            self.depthwise.copy_(filters.view_as(self.depthwise))
            columns = columns.to(kernel.dtype)
        nearest = self.map.approximate(columns)
        exact = (self.map.matrix() - columns).norm() <= 1e-6 * columns.norm()
        if exact or (nearest and self.depthwise is None):
            return
        if self.depthwise is None:
            approximate_by_gradient(self, kernel, **search)
        else:
            weights = [parameter for parameter in self.map.parameters() if parameter is not self.map.bias]
            search_filters(self, kernel, **search, matrix=self.map.matrix, parameters=weights, filters=self.depthwise)

    def _balance(self) -> None:
        if self.depthwise is not None:
            drawn = [dense_scale(self._depthwise_entries()), dense_scale(self.spec.out_channels)]
            depthwise, channel_map = shared_scale([rms(self.depthwise), self.map.rms()], drawn)
            self.depthwise.mul_(depthwise)
            self.map.scale(channel_map)
        self.map.balance()

    def setting(self) -> str:
        """Return the map's setting."""
        return self.map.setting()

    def kind(self) -> str:
        """Return `Separable`, the class of the map and its setting."""
        return f"{type(self).__name__} {type(self.map).__name__} {self.setting()}".strip()
