"""BTT, block tensor train: a matrix cut into blocks, each of rank r.

Qiu et al. 2024, Compute better spent: replacing dense layers with structured matrices (2406.06248), section 3: with
i = i₁·i₂ and o = o₁·o₂ (as even as they divide, i₁ ≤ i₂ and o₁ ≤ o₂) the matrix has o₁×i₂ blocks of o₂×i₁. Block
(p, q) is U[p, q]·V[p, q] with V r×i₁ and U o₂×r: r·i₂·o₁·(i₁ + o₂) parameters. r is at most min(i₁, o₂), the rank of a
block, so the number of the name is the most that it may be. Blocks are independent, so the nearest such matrix is that of
each block, by its singular value decomposition. With r = 1 it is near a Monarch of √i blocks.

    BTT(ConvSpec(64, 128, 1), 2).matrix().shape            # (128, 64), of 8×8 blocks 16×8 of rank 2
"""

import torch
from torch import Tensor, nn

from layers.grouped import GroupedPair, even_split
from layers.spec import ConvSpec


class BTT(GroupedPair):
    """o₁×i₂ blocks of o₂×i₁, of rank r: parameters (i₂, o₁, r, i₁) and (o₁, o₂, i₂, r)."""

    def __init__(self, spec: ConvSpec, rank: int, key: int = 0):
        super().__init__(spec)
        self.inputs, self.outputs = even_split(spec.in_channels), even_split(spec.out_channels)
        (i1, i2), (o1, o2) = self.inputs, self.outputs
        self.rank = r = min(rank, i1, o2)
        self.down = nn.Parameter(torch.empty(i2, o1, r, i1))
        self.up = nn.Parameter(torch.empty(o1, o2, i2, r))

    def middle(self) -> tuple[int, int]:
        """Return o₁ and r: each block of inputs gives r channels for each block of outputs."""
        return self.outputs[0], self.rank

    def halves(self) -> tuple[Tensor, Tensor]:
        """Return V as (i₂, o₁·r, i₁) and U as (o₁, o₂, i₂·r)."""
        return self.down.flatten(1, 2), self.up.flatten(2)

    def matrix(self) -> Tensor:
        """Return all blocks U[p, q]·V[p, q], (o, i)."""
        (i1, i2), (o1, o2), r = self.inputs, self.outputs, self.rank
        up, down = self.up.transpose(1, 2).reshape(-1, o2, r), self.down.transpose(0, 1).reshape(-1, r, i1)
        blocks = torch.bmm(up, down).view(o1, i2, o2, i1)
        return blocks.transpose(1, 2).reshape(self.out_channels, self.in_channels)

    def factors_a_pixel(self) -> int:
        """Return r·i₂·o₁·(i₁ + o₂)."""
        return self.parameter_count()

    def moved_a_pixel(self) -> int:
        """Return i + i₂·o₁·r + o."""
        return self.in_channels + self.inputs[1] * self.outputs[0] * self.rank + self.out_channels

    def rebuild_mult_adds(self) -> int:
        """Return r·i·o."""
        return self.rank * self.in_channels * self.out_channels

    def parameter_count(self) -> int:
        """Return r·i₂·o₁·(i₁ + o₂)."""
        (i1, i2), (o1, o2) = self.inputs, self.outputs
        return self.rank * i2 * o1 * (i1 + o2)

    @torch.no_grad()
    def approximate(self, matrix: Tensor) -> bool:
        """Truncate the singular value decomposition of each block; both factors get the root of the singular values."""
        (i1, i2), (o1, o2), r = self.inputs, self.outputs, self.rank
        blocks = matrix.double().view(o1, o2, i2, i1).transpose(1, 2)
        u, s, vt = torch.linalg.svd(blocks, full_matrices=False)
        root = s[..., :r].sqrt()
        self.up.copy_((u[..., :r] * root[..., None, :]).transpose(1, 2))
        self.down.copy_((vt[..., :r, :] * root[..., None]).transpose(0, 1))
        return True

    def setting(self) -> str:
        """Return the rank, which is at most that of a block, and the blocks."""
        (i1, i2), (o1, o2) = self.inputs, self.outputs
        return f"r={self.rank} {o1}×{i2} of {o2}×{i1}"
