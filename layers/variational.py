"""Layers whose weights are distributions: what variational methods share.

The KL divergence of a Gaussian with variance α·mean² from the log-uniform prior: Molchanov, Ashukha & Vetrov 2017,
Variational dropout sparsifies deep neural networks (1701.05369), equation 14.

    log_uniform_kl(torch.tensor(0.0))              # 0.4312, of α = 1
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from layers.base import Block
from layers.kept import Kept, may_keep
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


class Variational(Block):
    """A convolution with a distribution over its weights, sampled in training. Tested is what `weight()` returns.

    `kl_scale` is what its KL divergence is weighted by in the loss; training sets it (sparsity/kl.py). None of its parameters
    decays: the divergence is their prior.
    """

    kl_scale = 0.0

    def __init__(self, spec: ConvSpec):
        super().__init__(spec)
        shape = (spec.out_channels, spec.in_channels, spec.kernel_size, spec.kernel_size)
        self.kernel = nn.Parameter(torch.empty(shape))
        self.log_variance = nn.Parameter(torch.empty(shape))
        self._kept = Kept()

    @abstractmethod
    def kl(self) -> Tensor:
        """Return the KL divergence from the prior, a scalar."""

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """Return the weighted divergence as `kl`."""
        return {"kl": self.kl() * self.kl_scale}

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Return all parameters."""
        return list(self.parameters())

    def tested_tensors(self) -> list[Tensor]:
        """Return the kernel and the bias that testing reads."""
        bias = self.effective_bias()
        return [self.weight(), *([] if bias is None else [bias])]

    def _tested(self) -> tuple[Tensor, ...]:
        return tuple(self.tested_tensors())

    def _tested_or_kept(self) -> tuple[Tensor, ...]:
        if may_keep(self):
            return self._kept(self, self._tested)
        self._kept.clear()
        return self._tested()

    def _convolve(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        spec = self.spec
        return conv2d(x, kernel, bias, spec.stride, spec.padding, spec.dilation)

    def mult_adds(self, height: int, width: int) -> int:
        """Return those of the convolution that tests: i·o·k² a pixel of the output without dilation."""
        return self.spec.entries * self._published_pixels(height, width)

    def exact_mult_adds(self, height: int, width: int, batch: int) -> int:
        """Return those of the convolution that tests: i·o·k² a pixel of the output."""
        return self.spec.entries * self._output_pixels(height, width) * batch
