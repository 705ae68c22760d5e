"""Monarch: two block-diagonal matrices of b blocks each, with a fixed permutation between.

Dao et al. 2022, Monarch: expressive structured matrices for efficient and accurate training (2204.00595), section 3:
M = L·P·R, without the paper's last permutation of the outputs. R maps i channels to m = min(i, o), block by block; P is
the channel shuffle, which sends channel a·(m/b) + c to c·b + a; L maps m channels to o. So it is what two grouped 1×1
convolutions with a shuffle between them make: m·(i + o)/b parameters.

Each of the m channels joins one block of inputs to one block of outputs. So the b² blocks of M are independent matrices of
ranks near m/b², and the nearest M is found block by block, as the paper projects (section 3.3, there with rank 1).

    Monarch(ConvSpec(64, 128, 1), 4).matrix().shape        # (128, 64), of 4·4 blocks 32×16 of rank 4
"""

import math

import torch
from torch import Tensor, nn

from layers.grouped import GroupedPair
from layers.spec import ConvSpec


class Monarch(GroupedPair):
    """b is lowered until it divides i and o: the number of the name is the most that it may be."""

    def __init__(self, spec: ConvSpec, blocks: int, key: int = 0):
        super().__init__(spec)
        i, o = self.in_channels, self.out_channels
        common = math.gcd(i, o)
        self.blocks = b = next(b for b in range(min(blocks, common), 0, -1) if common % b == 0)
        self.width = min(i, o) // b
        self.down = nn.Parameter(torch.empty(b, self.width, i // b))
        self.up = nn.Parameter(torch.empty(b, o // b, self.width))

    def middle(self) -> tuple[int, int]:
        """Return m/b and 1: the shuffle exchanges blocks and places within them."""
        return self.width, 1

    def halves(self) -> tuple[Tensor, Tensor]:
        """Return the blocks of R (b, m/b, i/b) and of L (b, o/b, m/b)."""
        return self.down, self.up

    def matrix(self) -> Tensor:
        """Return L·P·R, (o, i)."""
        b, i = self.blocks, self.in_channels
        shuffled = torch.diag_embed(self.down.permute(1, 2, 0), dim1=1, dim2=2)  # P·R: (m/b, b, b, i/b)
        return torch.bmm(self.up, shuffled.reshape(b, self.width, i)).view(self.out_channels, i)

    def factors_a_pixel(self) -> int:
        """Return min(i, o)·(i + o)/b."""
        return self.width * (self.in_channels + self.out_channels)

    def moved_a_pixel(self) -> int:
        """Return i + m + o."""
        return self.in_channels + self.width * self.blocks + self.out_channels

    def rebuild_mult_adds(self) -> int:
        """Return o·(m/b)·i, those of L and P·R."""
        return self.out_channels * self.width * self.in_channels

    def parameter_count(self) -> int:
        """Return min(i, o)·(i + o)/b."""
        return self.width * (self.in_channels + self.out_channels)

    @torch.no_grad()
    def approximate(self, matrix: Tensor) -> bool:
        """Truncate the singular value decomposition of each of the b² blocks to the rank that its channels give it."""
        b, width = self.blocks, self.width
        blocks = matrix.double().view(b, self.out_channels // b, b, self.in_channels // b).transpose(1, 2)
        u, s, vt = torch.linalg.svd(blocks, full_matrices=False)
        channel = torch.arange(width * b, device=matrix.device)
        source, target = channel % b, channel // width  # the blocks of inputs and outputs that a channel joins
        place = channel % width // b  # which singular vectors it gets: channels that join the same two are b apart
        root = s[target, source, place].sqrt()[:, None]
        columns, rows = u[target, source, :, place] * root, vt[target, source, place] * root
        self.up.copy_(columns.view(b, width, -1).transpose(1, 2))
        self.down.copy_(rows.view(width, b, -1).transpose(0, 1))
        return True

    def setting(self) -> str:
        """Return the number of blocks, which is lowered to one that divides both channels."""
        return f"b={self.blocks}"
