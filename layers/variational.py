"""Layers whose weights are distributions: what variational methods share.

The KL divergence of a Gaussian with variance α·mean² from the log-uniform prior: Molchanov, Ashukha & Vetrov 2017,
Variational dropout sparsifies deep neural networks (1701.05369), equation 14.

    log_uniform_kl(torch.tensor(0.0))              # 0.4312, of α = 1
"""

from abc import abstractmethod

import torch
from torch import Generator, Tensor, nn

from layers.base import Block
from layers.kept import Kept, may_keep
from layers.scale import dense_scale, draw_normal
from layers.spec import ConvSpec
from layers.strided import conv2d

EPS = 1e-8  # added to variances and squares
K1, K2, K3 = 0.63576, 1.87320, 1.48695


def log_alpha(log_variance: Tensor, mean: Tensor) -> Tensor:
    """Return log α = log σ² − log(μ² + 1e-8) of the same shape."""
    return log_variance - (mean.square() + EPS).log()


def log_uniform_kl(log_alpha: Tensor) -> Tensor:
    """Return the KL divergence for each log α: −(k₁·sigmoid(k₂ + k₃·log α) − ½·log(1 + 1/α) − k₁)."""
    softplus = nn.functional.softplus(-log_alpha)  # log(1 + 1/α)
    return K1 + 0.5 * softplus - K1 * torch.sigmoid(K2 + K3 * log_alpha)


def noise_like(x: Tensor) -> Tensor:
    """Draw from N(0, 1) a tensor of the shape of x, and in its memory order where x is contiguous or channels-last.

    torch fills a channels-last tensor number by number, which takes eight times as long on a CPU; but seen as (B, H, W, o) it is
    contiguous.
    """
    noise = torch.empty_like(x)
    is_last = x.dim() == 4 and noise.is_contiguous(memory_format=torch.channels_last)
    (noise.permute(0, 2, 3, 1) if is_last else noise).normal_()
    return noise


class Variational(Block):
    """A convolution with a distribution over its weights, from which training samples. Tests use its mean alone.

    The mean is the convolution with `weight()` and `effective_bias()`. `kl_scale` is what the KL divergence is multiplied by in
    the loss; training sets it (sparsity/kl.py). No parameter decays: the divergence already draws them to their prior.
    """

    kl_scale = 0.0

    def __init__(self, spec: ConvSpec):
        super().__init__(spec)
        shape = (spec.out_channels, spec.in_channels, spec.kernel_size, spec.kernel_size)
        self.kernel = nn.Parameter(torch.empty(shape))
        self.log_variance = nn.Parameter(torch.empty(shape))
        self._kept = Kept()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, i, H, W) to (B, o, H', W')."""
        if self.training:
            return self.sampled(x)
        return self._convolve(x, self._mean_kernel(), self.effective_bias())

    @abstractmethod
    def sampled(self, x: Tensor) -> Tensor:
        """Return a sample of the output for each image, by the local reparameterisation."""

    @abstractmethod
    def kl(self) -> Tensor:
        """Return the KL divergence from the prior, a scalar."""

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """Return the weighted divergence as `kl`."""
        return {"kl": self.kl() * self.kl_scale}

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Return all parameters."""
        return list(self.parameters())

    def _mean_kernel(self) -> Tensor:
        if may_keep(self):
            return self._kept(self, self.weight)
        self._kept.clear()
        return self.weight()

    def _convolve(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        spec = self.spec
        return conv2d(x, kernel, bias, spec.stride, spec.padding, spec.dilation)

    def _deviation(self, x: Tensor, bias_variance: Tensor | None = None) -> Tensor:
        """Return √(conv(x², σ²) + 1e-8): some kernels of convolutions round a sum of squares to less than 0."""
        variance = self._convolve(x.square(), self.log_variance.exp(), bias_variance)
        return (variance.clamp(min=0) + EPS).sqrt()

    @abstractmethod
    def _reset_noise(self, generator: Generator | None = None) -> None:
        """Set variances, and what else is not a mean of weights, to their start."""

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the means of the weights from N(0, 2/(o·k²)); set biases to zero, and the rest to its start."""
        draw_normal(self.kernel, dense_scale(self.spec.out_channels * self.spec.kernel_size**2), generator)
        self._reset_noise(generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @torch.no_grad()
    def _approximate_kernel(self, kernel: Tensor, **search) -> None:
        """Take the kernel as the means of the weights, with the noise of the start."""
        self.kernel.copy_(kernel)
        self._reset_noise(torch.Generator().manual_seed(0))

    def _become_zero(self) -> None:
        self._approximate_kernel(torch.zeros_like(self.kernel))

    @torch.no_grad()
    def _set_bias(self, bias: Tensor) -> None:
        self.bias.copy_(bias)

    def mult_adds(self, height: int, width: int) -> int:
        """Return those of the convolution that tests: i·o·k² a pixel of the output without dilation."""
        return self.spec.entries * self._published_pixels(height, width)

    def exact_mult_adds(self, height: int, width: int, batch: int) -> int:
        """Return those of the convolution that tests: i·o·k² a pixel of the output."""
        return self.spec.entries * self._output_pixels(height, width) * batch
