"""The contract of what replaces a convolution: `Replacement`, the linear `Block`, and `ChannelMap`.

A `Replacement` stands in the place of one k×k convolution. It states its costs, names the parameters whose decay or rate is
another, and may add losses of its own. A `Block` is a linear replacement: it gives the dense kernel and bias that it equals,
and can approximate a kernel. A `ChannelMap` is an o×i matrix at every pixel; `Separable` joins it to a depthwise convolution.

    block = Shuffle(ConvSpec(16, 32, kernel_size=3, stride=2, padding=1), 4)
    block.weight().shape                    # (32, 16, 3, 3)
    block.mult_adds(32, 32)                 # per image, published convention; by shapes alone, on the meta device too
"""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from layers.gradient import approximate_by_gradient
from layers.kept import Kept, in_full_precision, may_keep
from layers.scale import dense_scale, draw_normal, rms
from layers.spec import ConvSpec
from layers.tracing import exporting, untraced

CALL = 4 * 10**6  # another small convolution takes at least as long as so many multiply-adds


class Replacement(nn.Module, ABC):
    """One k×k convolution in another form, linear or not.

    `forward` takes (B, i, H, W) and returns (B, o, H', W') with the H', W' of the convolution that `spec` describes.
    """

    def __init__(self, spec: ConvSpec):
        super().__init__()
        self.spec = spec

    def structured_parameters(self) -> list[nn.Parameter]:
        """Return the parameters whose weight decay is scaled by the compression ratio (1906.00859, section 3)."""
        return []

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Return the parameters without weight decay, none of them structured."""
        return []

    def slowed_parameters(self) -> dict[nn.Parameter, float]:
        """Return the factor on the learning rate, with SGD, of structured parameters whose steps move the kernel far."""
        return {}

    def biases(self) -> list[nn.Parameter]:
        """Return the parameters that are added to what the layer maps, which are never pruned: each `bias` in it."""
        found = (getattr(module, "bias", None) for module in self.modules())
        return [each for each in found if isinstance(each, nn.Parameter)]

    @property
    def degree(self) -> int:
        """How many structured parameters are multiplied: with all of them times c, the map is c^degree times as large."""
        return 1

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """Return losses (scalars) by name that training adds to its own, as of the last forward pass."""
        return {}

    @abstractmethod
    def parameter_count(self) -> int:
        """Return the number of parameters by the family's formula, not by looking at the tensors."""

    @abstractmethod
    def mult_adds(self, height: int, width: int) -> int:
        """Return the published multiply-adds per image of height × width: dilation ignored, bias free."""

    @abstractmethod
    def exact_mult_adds(self, height: int, width: int, batch: int) -> int:
        """Return the multiply-adds of the convolutions and matrix products that run for `batch` images."""

    def weight_mult_adds(self) -> int:
        """Return the multiply-adds of forming a dense kernel from the parameters once."""
        return 0

    @abstractmethod
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the parameters anew, at the scale at which the dense convolution starts."""

    def setting(self) -> str:
        """Return the setting as it is in this layer, for tables: Shuffle may lower its groups."""
        return ""

    def kind(self) -> str:
        """Return what tables call this layer: its class and its setting."""
        return f"{type(self).__name__} {self.setting()}".strip()

    def extra_repr(self) -> str:
        """Return what PyTorch prints of this module."""
        return f"{self.spec} {self.setting()}".strip()

    def _output_pixels(self, height: int, width: int) -> int:
        return self.spec.output_side(height) * self.spec.output_side(width)

    def _published_pixels(self, height: int, width: int) -> int:
        return self.spec.published_side(height) * self.spec.published_side(width)


class Block(Replacement):
    """A linear replacement: it equals a convolution with the kernel `weight()` and the bias `effective_bias()`."""

    holds_any_kernel = False  # a family that holds every kernel to the bit says so

    @abstractmethod
    def weight(self) -> Tensor:
        """Return the dense kernel (o, i, k, k) that this block equals, from its parameters."""

    def effective_bias(self) -> Tensor | None:
        """Return the bias (o,) that this block adds, from its parameters, or None."""
        return None

    def approximate(
        self, kernel: Tensor, bias: Tensor | None = None, effort: float = 1.0, penalty: float = 0.0
    ) -> float:
        """Come as near to a dense kernel (o, i, k, k) and bias (o,) as the family can; no bias means zeros.

        Args: effort: times the work of a descent (layers/gradient.py) where no closed form is known; penalty: on large
        parameters there.
        Returns ‖weight() − kernel‖ / ‖kernel‖. Raises ValueError where there is a bias but no place for it.
        """
        if bias is not None and self.effective_bias() is None:
            raise ValueError(f"{type(self).__name__} was built without a bias")
        kernel, size = kernel.detach(), kernel.detach().norm()
        if size > 0:
            self._approximate_kernel(kernel, effort=effort, penalty=penalty)
            with torch.no_grad():
                self._balance()
        else:
            self._become_zero()
        with torch.no_grad():
            if self.effective_bias() is not None:
                self._set_bias(torch.zeros_like(kernel[:, 0, 0, 0]) if bias is None else bias)
            return ((self.weight() - kernel).norm() / size).item() if size > 0 else 0.0

    def _approximate_kernel(self, kernel: Tensor, **search) -> None:
        """Approximate a kernel that is not zero. By default by gradient; override where a closed form is known."""
        approximate_by_gradient(self, kernel, **search)

    def _become_zero(self) -> None:
        """Take a kernel of zeros, which every family holds."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def _balance(self) -> None:
        """Share the scale of the kernel among the factors as a draw does. The kernel stays."""

    def _set_bias(self, bias: Tensor) -> None:
        """Set the effective bias. Called only where there is one, after the kernel is approximated."""
        self.effective_bias().copy_(bias)


def _added(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias[:, None, None]


class ChannelMap(nn.Module, ABC):
    """An o×i matrix in another form, applied to the channels of (B, i, H, W).

    `forward` takes the cheaper of two exact ways: it applies the matrix as a 1×1 convolution, or the factors one after
    the other (`apply_factors`) where the map has factors. The matrix is formed once per batch, and kept where no
    gradient is needed (layers/kept.py).
    """

    asks_for_speeds = False  # whether `applies_factors` asks layers/cosine_costs.py, whose speeds a run keeps

    def __init__(self, spec: ConvSpec):
        super().__init__()
        self.in_channels, self.out_channels = spec.in_channels, spec.out_channels
        self.register_parameter("bias", None)  # a family that always has a bias sets it
        self._kept = Kept()

    @abstractmethod
    def matrix(self) -> Tensor:
        """Return the matrix (o, i) that this map equals, from its parameters and buffers alone (never its bias)."""

    def apply_factors(self, x: Tensor) -> Tensor:
        """Apply the map factor by factor. Called only where `factor_mult_adds` is not None."""
        raise TypeError(f"{type(self).__name__} has no factors to apply")

    def factor_mult_adds(self, pixels: int) -> int | None:
        """Return the multiply-adds of `apply_factors` on `pixels` pixels; None where the map has no factors."""
        return None

    def rebuild_mult_adds(self) -> int:
        """Return the multiply-adds of forming `matrix()` once."""
        return 0

    @abstractmethod
    def parameter_count(self) -> int:
        """Return the number of parameters by the family's formula, its own bias included."""

    def structured_parameters(self) -> list[nn.Parameter]:
        """Return the parameters whose weight decay is scaled: by default all, its own bias included."""
        return list(self.parameters())

    def slowed_parameters(self) -> dict[nn.Parameter, float]:
        """Return the factor on the learning rate, with SGD, of parameters whose steps move the matrix far."""
        return {}

    def mult_adds(self, in_pixels: int, out_pixels: int) -> int:
        """Return the published multiply-adds per image: by default those of the dense map."""
        return self.in_channels * self.out_channels * out_pixels

    def exact_mult_adds(self, pixels: int) -> int:
        """Return the multiply-adds of one forward pass over the `pixels` pixels of a whole batch."""
        factors, rebuilt = self.factor_mult_adds(pixels), self._rebuilt(pixels)
        return rebuilt if factors is None else min(factors, rebuilt)

    def _rebuilt(self, pixels: int) -> int:
        return self.rebuild_mult_adds() + self.in_channels * self.out_channels * pixels

    def applies_factors(self, pixels: int) -> bool:
        """Return whether applying the factors to the `pixels` pixels of a batch is cheaper than forming the matrix.

        By default by multiply-adds. Override where other costs are known better. A pure function of shapes and of the
        device: what it says is remembered.
        """
        factors = self.factor_mult_adds(pixels)
        return factors is not None and factors <= self._rebuilt(pixels)

    def form_constants(self) -> None:
        """Form what follows from shapes alone, before a compiler or a CUDA graph sees this map. By default nothing does."""

    def spared_by_factors(self) -> int:
        """Return the multiply-adds that applying the factors spares a pixel, where all that is formed is kept."""
        factors = self.factor_mult_adds(1)
        return 0 if factors is None else self.in_channels * self.out_channels - factors

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (B, i, H, W) to (B, o, H, W).

        Args: bias: (o,) that is added where the map has none of its own.
        """
        bias = self._parameters.get("bias") if bias is None else bias
        if may_keep(self):
            if self._spared > 0 and self._spared * (x.numel() // self.in_channels) > CALL:
                return _added(self.apply_factors(x), bias)
            return F.conv2d(x, self._kept(self, self._contiguous_kernel), bias)
        self._kept.clear()
        if not exporting() and self._decided(x):  # whoever runs a graph forms the matrix, once if it folds constants
            return _added(self.apply_factors(x), bias)
        formed = self._kept.take_ahead()
        return F.conv2d(x, self._kernel() if formed is None else formed, bias)

    def form_ahead(self) -> None:
        """Form the kernel of the next pass, unless that pass may apply the factors, or use a kernel that is kept."""
        if not (may_keep(self) or self._kept.was_yes()):
            self._kept.ahead = self._kernel()

    @cached_property
    def _spared(self) -> int:
        return self.spared_by_factors()

    def _kernel(self) -> Tensor:
        return in_full_precision(self.matrix).view(self.out_channels, self.in_channels, 1, 1)

    def _contiguous_kernel(self) -> Tensor:
        return self._kernel().contiguous()

    def _decided(self, x: Tensor) -> bool:
        """Return whether to apply the factors, as was decided for so many pixels before."""
        with untraced():
            pixels = x.shape[0] * x.shape[2] * x.shape[3]
        if torch.compiler.is_compiling():
            return self.applies_factors(pixels)
        return self._kept.decision(self.applies_factors, pixels)

    def _apply(self, fn, recurse=True) -> "ChannelMap":
        self._kept.forget()
        return super()._apply(fn, recurse)

    @property
    def degree(self) -> int:
        """The number of factors: with all parameters times c, the matrix is c^degree times as large."""
        return 1

    def _weights(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter is not self.bias]

    def draw(self, generator: Generator | None = None) -> None:
        """Draw the parameters, at any scale."""
        for parameter in self._weights():
            draw_normal(parameter, 1.0, generator)

    def rms(self) -> Tensor:
        """Return the root mean square of `matrix()`."""
        return rms(self.matrix())

    def scale(self, by: Tensor | float) -> None:
        """Multiply the matrix by a positive number, shared among its factors."""
        for parameter in self._weights():
            parameter.mul_(by ** (1 / self.degree))

    def balance(self) -> None:
        """Share the scale of the matrix among its factors as a draw does. The matrix stays."""

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the parameters so that the root mean square of `matrix()` is √(2/o)."""
        self.draw(generator)
        self.scale(dense_scale(self.out_channels) / self.rms())

    def approximate(self, matrix: Tensor) -> bool:
        """Come near to a dense (o, i) matrix in closed form, where one is known.

        Returns whether the result is the nearest of the family. If not, `Separable` searches from there.
        """
        return False

    def setting(self) -> str:
        """Return the setting as it is in this layer, for tables."""
        return ""

    def extra_repr(self) -> str:
        """Return what PyTorch prints of this module."""
        return f"{self.in_channels} -> {self.out_channels} {self.setting()}".strip()
