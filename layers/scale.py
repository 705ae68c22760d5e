"""At which scale parameters are drawn, and how the factors of a product share a scale.

draw_normal(kernel, dense_scale(fan_out=64 * 9), torch.Generator().manual_seed(0))
"""

import torch
from torch import Generator, Tensor


def dense_scale(fan_out: int) -> float:
    """Return √(2/fan_out), the standard deviation of He et al. 2015 (1502.01852), equation 14."""
    return (2 / fan_out) ** 0.5


@torch.no_grad()
def draw_normal(tensor: Tensor, std: float, generator: Generator | None) -> None:
    """Fill `tensor` from N(0, std²). Numbers are drawn on the CPU, so they are the same on every device."""
    tensor.copy_(torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").normal_(0.0, std, generator=generator))


def rms(tensor: Tensor) -> Tensor:
    """Return the root mean square, a scalar in double precision."""
    return tensor.detach().double().pow(2).mean().sqrt()


def shared_scale(sizes: list[Tensor], drawn: list[float]) -> list[Tensor]:
    """Return by what to multiply the factors of a product so that the product stays and the factors are balanced.

    Balanced means that each factor is the same multiple of its size when drawn: a small factor beside a large one
    would learn too fast.

    Args: sizes: root mean squares of the factors now; drawn: the same when the factors are drawn.
    """
    ratios = [size / natural for size, natural in zip(sizes, drawn)]
    if not all(ratios):
        return [torch.ones_like(size) for size in sizes]  # a product of zero has no scale to share
    common = torch.stack(ratios).prod() ** (1 / len(ratios))
    return [common / ratio for ratio in ratios]


def equalise(factors: list[Tensor]) -> None:
    """Give the factors of a product the same root mean square, in place. The product stays."""
    for factor, by in zip(factors, shared_scale([rms(factor) for factor in factors], [1.0] * len(factors))):
        factor.mul_(by)
