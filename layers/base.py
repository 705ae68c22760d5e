"""The contract of what replaces a convolution: a `Block`, or a `ChannelMap` that `blocks.Separable` makes one of.

A *block* stands for one k×k convolution. It is linear, shows the dense kernel and bias that it equals, names the
parameters that compression-ratio scaled weight decay applies to, states its own costs and can be fitted to a dense
kernel. A *map* is the part that acts on channels alone: an o×i matrix, applied at every pixel.

    spec = ConvSpec(16, 32, kernel_size=3, stride=2, padding=1)
    block = Shuffle(spec, 4)
    block.weight().shape                    # (32, 16, 3, 3)
    block.mult_adds(32, 32)                 # per image, published convention

Costs are computed from shapes alone, so they hold on the meta device too.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from layers.gradient_fit import WORK, fit_by_gradient


@dataclass(frozen=True)
class ConvSpec:
    """The arguments of the convolution that is replaced, named as Conv2d's. Square kernels only."""

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    bias: bool = False

    def output_side(self, side: int) -> int:
        """Rows (or columns) that come out for `side` that go in."""
        return (side + 2 * self.padding - self.dilation * (self.kernel_size - 1) - 1) // self.stride + 1

    def published_side(self, side: int) -> int:
        """The same as the published counts see it: without dilation."""
        return (side + 2 * self.padding - self.kernel_size) // self.stride + 1


class Unmet(ValueError):
    """A share of numbers that a layer cannot have: too small (none), or too large (more than entries)."""

    def __init__(self, message: str, too_large: bool):
        super().__init__(message)
        self.too_large = too_large


class Block(nn.Module, ABC):
    """One k×k convolution in another form. Input (B, i, H, W), output (B, o, H', W') with Conv2d's H', W'."""

    def __init__(self, spec: ConvSpec):
        super().__init__()
        self.spec = spec

    @abstractmethod
    def weight(self) -> Tensor:
        """The dense kernel (o, i, k, k) that this block equals, from its parameters."""

    def effective_bias(self) -> Tensor | None:
        """The bias (o,) that it adds, or None."""
        return None

    def structured_parameters(self) -> list[nn.Parameter]:
        """The parameters whose weight decay is scaled by the compression ratio."""
        return []

    @abstractmethod
    def parameter_count(self) -> int:
        """Parameters by the family's formula, not by looking at the tensors."""

    @abstractmethod
    def mult_adds(self, height: int, width: int) -> int:
        """Published convention: per image of height × width, dilation ignored, bias free."""

    @abstractmethod
    def exact_mult_adds(self, height: int, width: int, batch: int) -> int:
        """Multiply-adds of the convolutions and matrix products of one forward pass of `batch` images."""

    def weight_mult_adds(self) -> int:
        """Multiply-adds of forming `weight()` once."""
        return 0

    @abstractmethod
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draws the parameters anew, so that the block starts at the scale of the dense convolution."""

    def fit(self, kernel: Tensor, bias: Tensor | None = None, work: int = WORK, penalty: float = 0.0) -> float:
        """Comes as near to a dense kernel (o, i, k, k) and bias (o,), or none, as the family can.

        Args: work: multiply-adds that may be spent where it goes by gradient; penalty: on large parameters, there
        (layers/descent.py).
        Returns ‖weight() − kernel‖ / ‖kernel‖. Raises ValueError where there is a bias but no place for it.
        """
        if bias is not None and self.effective_bias() is None:
            raise ValueError(f"{type(self).__name__} was built without a bias")
        kernel, size = kernel.detach(), kernel.detach().norm()
        if size > 0:
            self._fit(kernel, work=work, penalty=penalty)
            with torch.no_grad():
                self._balance()
        else:  # which every family holds
            for parameter in self.parameters():
                nn.init.zeros_(parameter)
        with torch.no_grad():
            if self.effective_bias() is not None:
                self._fit_bias(torch.zeros_like(kernel[:, 0, 0, 0]) if bias is None else bias)
            return ((self.weight() - kernel).norm() / size).item() if size > 0 else 0.0

    def _balance(self) -> None:
        """Shares the scale of the fitted kernel among its parts as a draw does; the kernel stays."""

    def _fit_bias(self, bias: Tensor) -> None:
        """Only called where there is an effective bias, after `_fit`."""
        self.effective_bias().copy_(bias)

    def _fit(self, kernel: Tensor, **effort) -> None:
        """The family's way of approximating a dense kernel; by gradient where no closed form is known."""
        fit_by_gradient(self, kernel, **effort)

    def setting(self) -> str:
        """The setting as it really is in this layer, for tables (Shuffle may lower its groups)."""
        return ""

    def _output_pixels(self, height: int, width: int) -> int:
        return self.spec.output_side(height) * self.spec.output_side(width)

    def _published_pixels(self, height: int, width: int) -> int:
        return self.spec.published_side(height) * self.spec.published_side(width)

    def extra_repr(self) -> str:
        return f"{self.spec} {self.setting()}".strip()


class ChannelMap(nn.Module, ABC):
    """An o×i matrix in another form, acting on the channels of (B, i, H, W).

    A map is applied in the cheaper of two ways, both exact: its matrix is rebuilt once per batch and applied as a 1×1
    convolution, or its factors are applied one after the other (`apply_factors`) where it has them.
    """

    def __init__(self, spec: ConvSpec):
        super().__init__()
        self.in_channels, self.out_channels = spec.in_channels, spec.out_channels
        self.register_parameter("bias", None)  # a family that always has a bias sets it

    @abstractmethod
    def matrix(self) -> Tensor:
        """The matrix (o, i) that this map equals, from its parameters."""

    def apply_factors(self, x: Tensor) -> Tensor:
        """The map applied factor by factor; only called where `factor_mult_adds` is not None."""
        raise TypeError(f"{type(self).__name__} has no factors to apply")

    def factor_mult_adds(self, pixels: int) -> int | None:
        """Multiply-adds of applying it factor by factor to `pixels` pixels; None for a map that has no factors."""
        return None

    def rebuild_mult_adds(self) -> int:
        """Multiply-adds of forming `matrix()` once."""
        return 0

    @abstractmethod
    def parameter_count(self) -> int:
        """Parameters by the family's formula, its own bias included."""

    def structured_parameters(self) -> list[nn.Parameter]:
        """All of a structured map's parameters, its own bias included, decay with the ratio."""
        return list(self.parameters())

    def mult_adds(self, in_pixels: int, out_pixels: int) -> int:
        """Published convention, per image: the dense map that it stands for, unless the family says otherwise."""
        return self.in_channels * self.out_channels * out_pixels

    def exact_mult_adds(self, pixels: int) -> int:
        """Multiply-adds of one forward pass over `pixels` pixels (of the whole batch)."""
        factors, rebuilt = self.factor_mult_adds(pixels), self._rebuilt(pixels)
        return rebuilt if factors is None else min(factors, rebuilt)

    def _rebuilt(self, pixels: int) -> int:
        return self.rebuild_mult_adds() + self.in_channels * self.out_channels * pixels

    def forward(self, x: Tensor) -> Tensor:
        with untraced():
            pixels = x.shape[0] * x.shape[2] * x.shape[3]
        factors = self.factor_mult_adds(pixels)
        if factors is not None and factors <= self._rebuilt(pixels):
            return self.apply_factors(x)
        return F.conv2d(x, self.matrix()[:, :, None, None], self.bias)

    @property
    def degree(self) -> int:
        """How many factors the matrix is a product of: with all parameters times c it is c^degree times as large."""
        return 1

    def _weights(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter is not self.bias]

    def draw(self, generator: Generator | None = None) -> None:
        """Draws the parameters, at any scale."""
        for parameter in self._weights():
            draw_normal(parameter, 1.0, generator)

    def rms(self) -> Tensor:
        """The root mean square of `matrix()`."""
        return rms(self.matrix())

    def scale(self, by: Tensor | float) -> None:
        """Multiplies the matrix by a positive number, shared out among its factors."""
        for parameter in self._weights():
            parameter.mul_(by ** (1 / self.degree))

    def balance(self) -> None:
        """Shares the scale of the matrix among its factors as a draw does; the matrix stays."""

    @torch.no_grad()
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draws the parameters so that the root mean square of `matrix()` is √(2/o)."""
        self.draw(generator)
        self.scale(dense_scale(self.out_channels) / self.rms())

    def approximate(self, matrix: Tensor) -> bool:
        """Comes near to a dense (o, i) matrix in closed form, where one is known; else stays as it is.

        Returns whether nothing in the family is nearer. The block goes on by gradient where that is not so.
        """
        return False

    def setting(self) -> str:
        """The setting as it really is in this layer, for tables."""
        return ""

    def extra_repr(self) -> str:
        return f"{self.in_channels} -> {self.out_channels} {self.setting()}".strip()


class Seeded(nn.Module, ABC):
    """Part of a layer whose pseudo-random structure is recomputed from one integer `key`, never stored."""

    key: int
    _structure: tuple[Tensor, ...] | None = None

    @abstractmethod
    def _find_structure(self) -> tuple[Tensor, ...]:
        """The structure as index tensors, on the device of the layer."""

    def structure(self) -> tuple[Tensor, ...]:
        """What `_find_structure` says; found at the first call, and again on another device or in a copy."""
        if self._structure is None:
            # outside any graph: compiled kernels were seen to get wrapping 64-bit products wrong (torch 2.15, CPU)
            with torch.inference_mode(False), untraced():
                self._structure = torch.compiler.disable(self._find_structure)()
        return self._structure

    def _apply(self, fn, recurse=True) -> "Seeded":
        self._structure = None
        return super()._apply(fn, recurse)

    def _replicate_for_data_parallel(self) -> "Seeded":
        replica = super()._replicate_for_data_parallel()
        replica._structure = None
        return replica

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_structure": None}


@contextmanager
def _not_recorded() -> Iterator[None]:
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)


def untraced() -> AbstractContextManager:
    """Within it torch.jit.trace, by which other libraries count and export, records nothing: what depends on shapes alone is
    then plain numbers, and what is found once is no part of the graph."""
    return _not_recorded() if torch.jit.is_tracing() else nullcontext()


def dense_scale(fan_out: int) -> float:
    """√(2/fan_out): He et al. 2015 (1502.01852), equation 14, the scale at which every dense map starts."""
    return (2 / fan_out) ** 0.5


@torch.no_grad()
def draw_normal(tensor: Tensor, std: float, generator: Generator | None) -> None:
    """Fills `tensor` from N(0, std²): the same numbers on every device, since they are drawn on the CPU."""
    tensor.copy_(torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").normal_(0.0, std, generator=generator))


def rms(tensor: Tensor) -> Tensor:
    """The root mean square, in double precision."""
    return tensor.detach().double().pow(2).mean().sqrt()


def shared_scale(sizes: list[Tensor], drawn: list[float]) -> list[Tensor]:
    """By what to multiply the parts of a product of the given sizes, so that each is the same multiple of its size when
    drawn and the product stays. (Where one part is small and the other large, the small one learns too fast.)"""
    ratios = [size / natural for size, natural in zip(sizes, drawn)]
    if not all(ratios):
        return [torch.ones_like(size) for size in sizes]  # a product of zero has nothing to share
    common = torch.stack(ratios).prod() ** (1 / len(ratios))
    return [common / ratio for ratio in ratios]


def equalise(factors: list[Tensor]) -> None:
    """Gives factors of a product the same root mean square, in place; the product stays."""
    for factor, by in zip(factors, shared_scale([rms(factor) for factor in factors], [1.0] * len(factors))):
        factor.mul_(by)
