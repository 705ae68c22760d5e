"""What every network returns."""

from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """logits (B, classes), the tapped features (each B, C, H, W) and, in training, auxiliary logits where there are any."""

    logits: Tensor
    taps: list[Tensor]
    auxiliary_logits: Tensor | None = None
