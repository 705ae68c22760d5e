"""Kronecker: a sum of r Kronecker products A⊗B.

Van Loan & Pitsianis 1993, Approximation with Kronecker products: with i = i₁·i₂ and o = o₁·o₂ (as even as they divide,
i₁ ≤ i₂ and o₁ ≤ o₂), A o₁×i₁ and B o₂×i₂, M[a′·o₂ + b′, a·i₂ + b] = Σ_r A_r[a′, a]·B_r[b′, b]: r·(o₁i₁ + o₂i₂)
parameters. The entries of M in the order (a′, a) × (b′, b) are a matrix of rank r, so the nearest M is the truncated singular
value decomposition of that rearrangement. Its rank is at most min(o₁i₁, o₂i₂), and r too: more terms add nothing.

    Kronecker(ConvSpec(64, 128, 1), 4).matrix().shape      # (128, 64), of four products of 8×8 and 16×8

One matrix is applied to all columns, then the other, in the order that takes fewer multiply-adds.
"""

import torch
from torch import Tensor, nn

from layers.grouped import ByFactors, even_split
from layers.spec import ConvSpec


class Kronecker(ByFactors):
    """Σ_r A_r⊗B_r: parameters (o₁, r, i₁) and (o₂, r, i₂)."""

    factor = "a"

    def __init__(self, spec: ConvSpec, rank: int, key: int = 0):
        super().__init__(spec)
        self.inputs, self.outputs = even_split(spec.in_channels), even_split(spec.out_channels)
        (i1, i2), (o1, o2) = self.inputs, self.outputs
        self.rank = r = min(rank, o1 * i1, o2 * i2)
        self.a = nn.Parameter(torch.empty(o1, r, i1))
        self.b = nn.Parameter(torch.empty(o2, r, i2))
        self.a_first = i2 * o1 * (i1 + o2) <= i1 * o2 * (i2 + o1)

    def matrix(self) -> Tensor:
        """Return Σ_r A_r⊗B_r, (o, i)."""
        (i1, i2), (o1, o2), r = self.inputs, self.outputs, self.rank
        rearranged = self.a.transpose(1, 2).reshape(-1, r) @ self.b.transpose(0, 1).reshape(r, -1)
        return rearranged.view(o1, i1, o2, i2).transpose(1, 2).reshape(self.out_channels, self.in_channels)

    def halves(self) -> tuple[Tensor, Tensor]:
        """Return A and B, the one that is applied first in front, each with its terms beside its rows or its columns."""
        if self.a_first:
            return self.a.flatten(0, 1), self.b.flatten(1)  # (o₁·r, i₁), (o₂, r·i₂)
        return self.b.transpose(0, 1).flatten(0, 1), self.a.transpose(1, 2).flatten(1)  # (r·o₂, i₂), (o₁, i₁·r)

    def map_columns(self, x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Map columns (i, P) to (o, P)."""
        (i1, i2), (o1, _), r = self.inputs, self.outputs, self.rank
        if self.a_first:
            x = (first @ x.view(i1, -1)).view(o1, r * i2, -1)
            x = torch.bmm(second.expand(o1, -1, -1), x)
        else:
            x = torch.bmm(first.expand(i1, -1, -1), x.view(i1, i2, -1))
            x = second @ x.view(i1 * r, -1)
        return x.view(self.out_channels, -1)

    def factors_a_pixel(self) -> int:
        """Return r·min(i₂·o₁·(i₁ + o₂), i₁·o₂·(i₂ + o₁)): A first, or B first."""
        (i1, i2), (o1, o2) = self.inputs, self.outputs
        return self.rank * min(i2 * o1 * (i1 + o2), i1 * o2 * (i2 + o1))

    def moved_a_pixel(self) -> int:
        """Return i, what is between the two factors, and o."""
        (i1, i2), (o1, o2) = self.inputs, self.outputs
        return self.in_channels + self.rank * (o1 * i2 if self.a_first else i1 * o2) + self.out_channels

    def rebuild_mult_adds(self) -> int:
        """Return r·i·o."""
        return self.rank * self.in_channels * self.out_channels

    def parameter_count(self) -> int:
        """Return r·(o₁i₁ + o₂i₂)."""
        (i1, i2), (o1, o2) = self.inputs, self.outputs
        return self.rank * (o1 * i1 + o2 * i2)

    @torch.no_grad()
    def approximate(self, matrix: Tensor) -> bool:
        """Truncate the singular value decomposition of the rearrangement; both factors get the root of the values."""
        (i1, i2), (o1, o2), r = self.inputs, self.outputs, self.rank
        rearranged = matrix.double().view(o1, o2, i1, i2).transpose(1, 2).reshape(o1 * i1, o2 * i2)
        u, s, vt = torch.linalg.svd(rearranged, full_matrices=False)
        root = s[:r].sqrt()
        self.a.copy_((u[:, :r] * root).view(o1, i1, r).transpose(1, 2))
        self.b.copy_((vt[:r] * root[:, None]).view(r, o2, i2).transpose(0, 1))
        return True

    def setting(self) -> str:
        """Return the number of terms, which is at most the rank of the rearranged matrix, and the sizes of A and B."""
        (i1, i2), (o1, o2) = self.inputs, self.outputs
        return f"r={self.rank} {o1}×{i1} ⊗ {o2}×{i2}"
