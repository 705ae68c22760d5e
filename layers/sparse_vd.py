"""SparseVD: a convolution whose every weight has a noise of its own, and is dropped where the noise outweighs it.

Molchanov, Ashukha & Vetrov 2017, Variational dropout sparsifies deep neural networks (1701.05369): weights w ~ N(θ, σ²),
outputs sampled by the local reparameterisation of equation 17. A weight with log α = log σ²/θ² of at least 3 is 0 in tests.

    SparseVD(ConvSpec(16, 32, 3, padding=1)).kl()
"""

import torch
from torch import Generator, Tensor, nn

from layers.spec import ConvSpec
from layers.variational import Variational, log_alpha, log_uniform_kl, noise_like

LEAST, START = 3.0, -10.0  # log α from which a weight is dropped; log σ² at the start


class SparseVD(Variational):
    """θ and log σ² for each weight: 2·i·o·k² + b parameters, none of them structured."""

    def __init__(self, spec: ConvSpec, key: int = 0):
        super().__init__(spec)
        self.bias = nn.Parameter(torch.empty(spec.out_channels)) if spec.bias else None

    def sampled(self, x: Tensor) -> Tensor:
        """Return mean + ε·√(conv(x², σ²) + 1e-8), ε drawn for every output."""
        mean = self._convolve(x, self.kernel, self.bias)
        return mean.addcmul(self._deviation(x), noise_like(mean))

    def kl(self) -> Tensor:
        """Return the sum over the weights of the divergence from the log-uniform prior."""
        return log_uniform_kl(log_alpha(self.log_variance, self.kernel)).sum()

    def weight(self) -> Tensor:
        """Return the kernel (o, i, k, k) of tests: θ where log α < 3, else 0."""
        return self.kernel * (log_alpha(self.log_variance, self.kernel) < LEAST)

    def effective_bias(self) -> Tensor | None:
        """Return the bias (o,) or None."""
        return self.bias

    def parameter_count(self) -> int:
        """Return 2·i·o·k² + b."""
        return 2 * self.spec.entries + self.spec.out_channels * self.spec.bias

    def _reset_noise(self, generator: Generator | None = None) -> None:
        nn.init.constant_(self.log_variance, START)
