"""GroupVD: a convolution with one noisy factor for each output filter, so that whole filters are dropped.

Louizos, Ullrich & Welling 2017, Bayesian compression for deep learning (1705.08665), section 4.1, with the normal-Jeffreys
prior: z ~ N(μ_z, σ_z²) for each filter, its weights w | z ~ N(z·μ, z²·σ²). A filter with log α_z of at least −3 is off in
tests. A batch-norm that follows undoes the scale of z in the data, but not its noise: it divides by the deviation of a
batch, in which z differs from image to image.

    GroupVD(ConvSpec(16, 32, 3, padding=1)).filters()          # (32,) bool: which stay
"""

import torch
from torch import Generator, Tensor, nn

from layers.scale import draw_normal
from layers.spec import ConvSpec
from layers.variational import Variational, log_alpha, log_uniform_kl, noise_like

LEAST = -3.0  # log α from which a filter is off
START, SPREAD = -9.0, 0.01  # of log variances at the start: their mean, and their deviation, which μ_z has too


class GroupVD(Variational):
    """Mean and log variance of each weight, bias and filter's factor: 2·(i·o·k² + b + o) parameters, none structured."""

    def __init__(self, spec: ConvSpec, key: int = 0):
        super().__init__(spec)
        self.bias, self.log_variance_of_bias = (
            nn.Parameter(torch.empty(spec.out_channels)) if spec.bias else None for _ in range(2)
        )
        self.factor, self.log_variance_of_factor = (nn.Parameter(torch.empty(spec.out_channels)) for _ in range(2))

    def sampled(self, x: Tensor) -> Tensor:
        """Return z·M + z·√(V + 1e-8)·ε: z drawn for every image and filter, ε for every output."""
        mean = self._convolve(x, self.kernel, self.bias)
        deviation = self._deviation(x, None if self.bias is None else self.log_variance_of_bias.exp())
        noise = torch.randn(mean.shape[:2], device=x.device, dtype=self.factor.dtype)
        z = (self.factor + (0.5 * self.log_variance_of_factor).exp() * noise).to(mean.dtype)
        return z[:, :, None, None] * mean.addcmul(deviation, noise_like(mean))

    def kl(self) -> Tensor:
        """Return the divergences of all factors from the log-uniform prior and of weights and biases from N(0, 1)."""
        of_weights = [(self.kernel, self.log_variance)]
        if self.bias is not None:
            of_weights.append((self.bias, self.log_variance_of_bias))
        gaussian = sum(standard_normal_kl(mean, log_variance).sum() for mean, log_variance in of_weights)
        return gaussian + log_uniform_kl(log_alpha(self.log_variance_of_factor, self.factor)).sum()

    def filters(self) -> Tensor:
        """Return which filters stay, (o,) bool: those with log α_z < −3."""
        return log_alpha(self.log_variance_of_factor, self.factor) < LEAST

    def weight(self) -> Tensor:
        """Return the kernel (o, i, k, k) of tests: the posterior means μ_z·μ, 0 in filters that are off."""
        return self.kernel * (self.factor * self.filters())[:, None, None, None]

    def effective_bias(self) -> Tensor | None:
        """Return the bias (o,) of tests, or None."""
        return None if self.bias is None else self.bias * (self.factor * self.filters())

    def posterior(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance (o, i, k, k) of the weights: μ_z·μ and σ²·(μ_z² + σ_z²) + μ²·σ_z²."""
        z, of_z = (each[:, None, None, None] for each in (self.factor, self.log_variance_of_factor.exp()))
        return z * self.kernel, self.log_variance.exp() * (z.square() + of_z) + self.kernel.square() * of_z

    def biases(self) -> list[nn.Parameter]:
        """Return the mean and the log variance of the bias."""
        return [] if self.bias is None else [self.bias, self.log_variance_of_bias]

    def parameter_count(self) -> int:
        """Return 2·(i·o·k² + b + o)."""
        return 2 * (self.spec.entries + self.spec.out_channels * (1 + self.spec.bias))

    @torch.no_grad()
    def _reset_noise(self, generator: Generator | None = None) -> None:
        for log_variance in (self.log_variance, self.log_variance_of_bias, self.log_variance_of_factor):
            if log_variance is not None:
                draw_normal(log_variance, SPREAD, generator)
                log_variance.add_(START)
        draw_normal(self.factor, SPREAD, generator)
        self.factor.add_(1.0)

    @torch.no_grad()
    def _approximate_kernel(self, kernel: Tensor, **search) -> None:
        """Take the kernel as the means of the weights, with factors of 1."""
        super()._approximate_kernel(kernel)
        nn.init.ones_(self.factor)


def standard_normal_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of N(mean, σ²) from N(0, 1) entry by entry: ½(σ² + μ² − 1 − log σ²)."""
    return 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance)
