"""Products of the factors of a tensor form, up to its bond and behind it.

left, right = train_halves([first, second, third], bond=2)         # (n₁·n₂, r), (r, n₃)
"""

from torch import Tensor, nn


def khatri_rao(factors: list[Tensor]) -> Tensor:
    """Return the column by column Kronecker products of (n_j, r), (n_1…n_m, r)."""
    product = factors[0]
    for factor in factors[1:]:
        product = (product[:, None] * factor).flatten(0, 1)
    return product


def train_halves(cores: list[Tensor], bond: int) -> tuple[Tensor, Tensor]:
    """Return the products of the first `bond` cores (r, n, r') and of the rest, (n_1…n_j, r) and (r, n_{j+1}…n_d)."""
    left, right = (_multiply(part) for part in (cores[:bond], cores[bond:]))
    return left.flatten(0, 1), right.flatten(1)


def _multiply(cores: list[Tensor]) -> Tensor:
    """Return (r, n, s)·(s, m, t)… from the left, (r, n·m…, t)."""
    product = cores[0]
    for core in cores[1:]:
        product = (product.flatten(0, 1) @ core.flatten(1)).view(product.shape[0], -1, core.shape[2])
    return product


def train_halves_mult_adds(shapes: list[tuple[int, int, int]], bond: int) -> int:
    """Return the multiply-adds of `train_halves`."""
    total = 0
    for part in (shapes[:bond], shapes[bond:]):
        rows = part[0][0] * part[0][1]
        for before, size, after in part[1:]:
            total += rows * before * size * after
            rows *= size
    return total


def put_into_corner(places: nn.ParameterList, found: list[Tensor]) -> None:
    """Copy the factors of a decomposition, whose ranks may be smaller, into the parameters; set the rest to 0."""
    for place, tensor in zip(places, found, strict=True):
        place.zero_()
        place[tuple(map(slice, tensor.shape))] = tensor.to(place)
