"""Tensor forms: the o×i matrix, folded row by row to a d-way tensor, as a train, in Tucker form or as a sum of rank-1s.

Tensor train: Oseledets 2011, and for layers Novikov et al. 2015, "Tensorizing neural networks" (1509.06569), equation
2: T[x₁…x_d] = G₁[x₁]·G₂[x₂]…G_d[x_d] with G_j[x] r_{j−1}×r_j. Tucker 1966: a core, here in train form too, multiplied
by a matrix n_j×R_j in every dimension. CP (Hitchcock 1927): Σ_r Π_j F_j[x_j, r].

    TensorTrain(ConvSpec(64, 128, 1), 0.5, 3).matrix().shape       # (128, 64), folded to 32×32×8

With d = 2 the matrix is not folded: n = (o, i).

The matrix is formed once per batch, unless a bond falls between its rows and its columns (o = n₁…n_j). Then it is the
product of an o×r and an r×i matrix, which are applied one after the other where that costs less.
"""

import math
from abc import abstractmethod
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from layers import tensor_fit
from layers.base import ChannelMap
from layers.halves import khatri_rao, put_into_corner, train_halves, train_halves_mult_adds
from layers.kept import in_full_precision, may_keep
from layers.scale import equalise, rms
from layers.spec import ConvSpec

FEW = 4  # numbers: what fewer are drawn as varies too much


@lru_cache(maxsize=4096)
def dimensions(entries: int, d: int) -> tuple[int, ...]:
    """Return the d sizes that `entries` entries are folded to.

    With e = entries^(1/d): all are e if that is whole (to 1e-6). Else d − 1 of them are the smallest divisor of what is
    left that is at least round(e) (or what is left, if that is smaller), and the last one is the rest.

    >>> dimensions(640 * 640, 3)
    (80, 80, 64)
    """
    e = entries ** (1 / d)
    if abs(e - round(e)) < 1e-6:
        return (round(e),) * d
    sizes, left = [], entries
    for _ in range(d - 1):
        size = min(round(e), left)
        while left % size:
            size += 1
        sizes.append(size)
        left //= size
    return (*sizes, left)


def rank(fraction: float, size: int) -> int:
    """Return round(s·size) as Python rounds, never below 1."""
    return max(1, round(fraction * size))


class TensorForm(ChannelMap):
    """A matrix that is the product of two halves, which meet at a bond.

    The bond is after the last row dimension where there is one (`aligned`: o = n₁…n_j), else before the last dimension.
    """

    def __init__(self, spec: ConvSpec, fraction: float, d: int):
        super().__init__(spec)
        self.fraction = fraction
        i, o = self.in_channels, self.out_channels
        self.sizes = (o, i) if d == 2 else dimensions(i * o, d)
        prefixes = [math.prod(self.sizes[:j]) for j in range(1, d)]
        self.aligned = self.out_channels in prefixes
        self.bond = prefixes.index(self.out_channels) + 1 if self.aligned else d - 1

    @abstractmethod
    def halves(self) -> tuple[Tensor, Tensor]:
        """Return the factors before and behind the bond j, (n₁…n_j, r) and (r, n_{j+1}…n_d)."""

    @abstractmethod
    def bond_rank(self) -> int:
        """Return the rank r at the bond."""

    @abstractmethod
    def halves_mult_adds(self) -> int:
        """Return the multiply-adds of forming `halves` once."""

    @abstractmethod
    def shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of all factors by the formulas, in the order of the parameters."""

    def matrix(self) -> Tensor:
        """Return the product of the halves as a matrix (o, i)."""
        left, right = self.halves()
        return (left @ right).view(self.out_channels, self.in_channels)

    def apply_factors(self, x: Tensor) -> Tensor:
        """Apply the halves as 1×1 convolutions."""
        left, right = self._kept(self, self.halves) if may_keep(self) else in_full_precision(self.halves)
        return F.conv2d(F.conv2d(x, right[:, :, None, None]), left[:, :, None, None])

    def factor_mult_adds(self, pixels: int) -> int | None:
        """Return those of the halves and r(i + o) a pixel; None where no bond is between rows and columns."""
        each = self.bond_rank() * (self.in_channels + self.out_channels)
        return self.halves_mult_adds() + each * pixels if self.aligned else None

    def spared_by_factors(self) -> int:
        """Return i·o − r(i + o) where a bond is between rows and columns: the halves are kept, too."""
        i, o = self.in_channels, self.out_channels
        return i * o - self.bond_rank() * (i + o) if self.aligned else 0

    def rebuild_mult_adds(self) -> int:
        """Return those of the halves and of their product."""
        return self.halves_mult_adds() + self.bond_rank() * self.in_channels * self.out_channels

    def parameter_count(self) -> int:
        """Return the entries of all factors."""
        return sum(math.prod(shape) for shape in self.shapes())

    @property
    def degree(self) -> int:
        """The number of factors."""
        return len(self._weights())

    def draw(self, generator: Generator | None = None) -> None:
        """Draw all factors from N(0, 1), and scale those of fewer than 4 numbers to a root mean square of 1.

        A single number that is drawn next to 0 has a vast gradient.
        """
        super().draw(generator)
        for factor in self._weights():
            if factor.numel() < FEW:
                factor.div_(rms(factor))

    def balance(self) -> None:
        """Give all factors the same root mean square."""
        equalise(self._weights())

    def folded(self, matrix: Tensor) -> Tensor:
        """Return the matrix (o, i) as a tensor (n₁, …, n_d) in double precision, to be decomposed."""
        return matrix.double().reshape(self.sizes)

    def setting(self) -> str:
        """Return the sizes and the rank at the bond."""
        return f"{'×'.join(map(str, self.sizes))} r={self.bond_rank()}"


class TensorTrain(TensorForm):
    """Cores r_{j−1}×n_j×r_j with r_j = round(s·min(n_j, n_{j+1})): Σ r_{j−1}·n_j·r_j parameters."""

    def __init__(self, spec: ConvSpec, fraction: float, d: int = 3, key: int = 0):
        super().__init__(spec, fraction, d)
        self.cores = nn.ParameterList(torch.empty(shape) for shape in self.shapes())

    def ranks(self) -> list[int]:
        """Return r_1 … r_{d−1}."""
        return [rank(self.fraction, min(pair)) for pair in zip(self.sizes, self.sizes[1:])]

    def shapes(self) -> list[tuple[int, int, int]]:
        """Return r_{j−1}×n_j×r_j."""
        ranks = [1, *self.ranks(), 1]
        return list(zip(ranks, self.sizes, ranks[1:]))

    def bond_rank(self) -> int:
        """Return r_j at the bond j."""
        return self.ranks()[self.bond - 1]

    def halves(self) -> tuple[Tensor, Tensor]:
        """Return the products of the cores on both sides of the bond."""
        return train_halves(list(self.cores), self.bond)

    def halves_mult_adds(self) -> int:
        """Return those of the products of the cores."""
        return train_halves_mult_adds(self.shapes(), self.bond)

    @torch.no_grad()
    def approximate(self, matrix: Tensor) -> bool:
        """Truncate singular value decompositions from left to right: TT-SVD, Oseledets 2011, algorithm 1."""
        put_into_corner(self.cores, tensor_fit.tensor_train(self.folded(matrix), self.ranks()))
        return len(self.sizes) == 2


class Tucker(TensorForm):
    """Factors n_j×R_j with R_j = round(s·n_j), and a core R_1×…×R_d in train form: Σ n_j·R_j + Σ t_{j−1}·R_j·t_j.

    The core's bonds, from the right, are t_j = min(full_j, R_{j+1}·t_{j+1}), full_j = min(n_1…n_j, n_{j+1}…n_d), so
    its train form is exact. R_1 is at most t_1: the first core is a matrix R_1×t_1, and more rows add nothing.
    """

    def __init__(self, spec: ConvSpec, fraction: float, d: int = 3, key: int = 0):
        super().__init__(spec, fraction, d)
        shapes = self.shapes()
        self.factors = nn.ParameterList(torch.empty(shape) for shape in shapes[:d])
        self.cores = nn.ParameterList(torch.empty(shape) for shape in shapes[d:])

    def slowed_parameters(self) -> dict[nn.Parameter, float]:
        """Return 1/(2d) of all 2d factors: a step of a small core moves the whole map far (docs/results.md; d was 3 and 4)."""
        return dict.fromkeys(self._weights(), 1 / self.degree)

    def ranks(self) -> list[int]:
        """Return R_1 … R_d."""
        return [size[1] for size in self.shapes()[: len(self.sizes)]]

    def shapes(self) -> list[tuple[int, ...]]:
        """Return n_j×R_j, then t_{j−1}×R_j×t_j."""
        ranks, bonds = [rank(self.fraction, size) for size in self.sizes], [1]
        for j in range(len(ranks) - 1, 0, -1):
            full = min(math.prod(self.sizes[:j]), math.prod(self.sizes[j:]))
            bonds.insert(0, min(full, ranks[j] * bonds[0]))
        ranks[0] = min(ranks[0], bonds[0])
        bonds.insert(0, 1)
        return [*zip(self.sizes, ranks), *zip(bonds, ranks, bonds[1:])]

    def bond_rank(self) -> int:
        """Return t_j at the bond j."""
        return self.shapes()[len(self.sizes) + self.bond][0]

    def halves(self) -> tuple[Tensor, Tensor]:
        """Return the products of the cores, each multiplied by its factor, on both sides of the bond."""
        train = []
        for factor, core in zip(self.factors, self.cores):
            before, _, after = core.shape
            merged = factor @ core.transpose(0, 1).flatten(1)  # (n, before·after)
            train.append(merged.view(-1, before, after).transpose(0, 1))
        return train_halves(train, self.bond)

    def halves_mult_adds(self) -> int:
        """Return those of the products with the factors and of the cores."""
        d = len(self.sizes)
        cores, train = self.shapes()[d:], []
        merging = 0
        for size, (before, middle, after) in zip(self.sizes, cores):
            merging += before * size * middle * after
            train.append((before, size, after))
        return merging + train_halves_mult_adds(train, self.bond)

    @torch.no_grad()
    def approximate(self, matrix: Tensor) -> bool:
        """Take the higher-order singular value decomposition: De Lathauwer, De Moor & Vandewalle 2000.

        Of a matrix (d = 2) that is its truncated singular value decomposition.
        """
        factors, core = tensor_fit.tucker(self.folded(matrix), self.ranks())
        put_into_corner(self.factors, factors)
        put_into_corner(self.cores, tensor_fit.tensor_train(core, [len(place) for place in self.cores[1:]]))
        return len(self.sizes) == 2


class CP(TensorForm):
    """Σ_r Π_j F_j[x_j, r] with R = round(s·min n_j) terms: R·Σ n_j parameters."""

    def __init__(self, spec: ConvSpec, fraction: float, d: int = 3, key: int = 0):
        super().__init__(spec, fraction, d)
        self.factors = nn.ParameterList(torch.empty(shape) for shape in self.shapes())

    def shapes(self) -> list[tuple[int, int]]:
        """Return n_j×R."""
        return [(size, self.bond_rank()) for size in self.sizes]

    def bond_rank(self) -> int:
        """Return R."""
        return rank(self.fraction, min(self.sizes))

    def halves(self) -> tuple[Tensor, Tensor]:
        """Return the column by column products of the factors on both sides of the bond."""
        factors = list(self.factors)  # a slice of a ParameterList is a new module
        return khatri_rao(factors[: self.bond]), khatri_rao(factors[self.bond :]).t()

    def halves_mult_adds(self) -> int:
        """Return none: there are products of entries, but no matrix products."""
        return 0

    @torch.no_grad()
    def approximate(self, matrix: Tensor) -> bool:
        """Take alternating least squares from the leading singular vectors: Kolda & Bader 2009, figure 3.3.

        Of a matrix (d = 2) take its truncated singular value decomposition.
        """
        put_into_corner(self.factors, tensor_fit.canonical(self.folded(matrix), self.bond_rank()))
        return len(self.sizes) == 2
