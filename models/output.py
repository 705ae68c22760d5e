"""What every network returns, and which of its heads only training uses.

logits, taps, auxiliary_logits = network(x)
"""

from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """Logits (B, classes), tapped features (each B, C, H, W) and, in training, logits of an auxiliary head if any.

    Those of several auxiliary heads are (heads, B, classes).
    """

    logits: Tensor
    taps: list[Tensor]
    auxiliary_logits: Tensor | None = None


def auxiliary_heads(model: nn.Module) -> tuple[str, ...]:
    """Return the dotted names of the heads that only training uses: `auxiliary`, or those that a network lists."""
    if hasattr(model, "auxiliary_heads"):
        return model.auxiliary_heads()
    return ("auxiliary",) if hasattr(model, "auxiliary") else ()


def is_auxiliary(model: nn.Module, name: str) -> bool:
    """Return whether a module or a tensor of a network, by its dotted name, is part of an auxiliary head."""
    return name.startswith(tuple(f"{head}." for head in auxiliary_heads(model)))


def auxiliary_parameters(model: nn.Module) -> int:
    """Return the number of parameters of the heads that only training uses."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if is_auxiliary(model, name))
