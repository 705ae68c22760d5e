"""What every network returns.

logits, taps, auxiliary_logits = network(x)
"""

from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """Logits (B, classes), tapped features (each B, C, H, W) and, in training, logits of an auxiliary head if any."""

    logits: Tensor
    taps: list[Tensor]
    auxiliary_logits: Tensor | None = None
