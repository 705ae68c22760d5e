"""The initial parameters of a network. Those of a module depend on the seed and its name alone.

network = materialise(build(config), seed=0)     # from the meta device
initialise(network, seed=1)                      # drawn anew
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from layers.base import Replacement
from layers.scale import dense_scale, draw_normal
from system.hashing import key


@torch.no_grad()
def initialise(model: nn.Module, seed: int, prefix: str = "") -> None:
    """Draw every parameter, in place, each module's from a generator of its own (seed, dotted name).

    So a layer starts alike in every network that holds it under its name. Replacements draw themselves. Other
    convolutions and linear maps are He normal with fan-out, batch-norms 1 and 0, biases 0. A user's module that
    initialises itself stays as it is; one of ours that `draws_itself` does so.
    """
    done: list[str] = []
    for name, module in model.named_modules(prefix=prefix):
        if any(name.startswith(outer + ".") for outer in done):
            continue
        generator = torch.Generator().manual_seed(key("initialise", seed, name))
        match module:
            case _ if getattr(module, "initialises_itself", False):
                done.append(name)
            case _ if isinstance(module, Replacement) or getattr(module, "draws_itself", False):
                module.reset_parameters(generator)
                done.append(name)
            case nn.Conv2d():
                fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]  # groups or not
                draw_normal(module.weight, dense_scale(fan_out), generator)
            case nn.Linear():
                draw_normal(module.weight, dense_scale(module.out_features), generator)
            case nn.BatchNorm2d():
                module.reset_parameters()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)


@contextmanager
def undrawn() -> Iterator[None]:
    """Within the context, torch's layers neither draw nor fill their parameters as they are built.

    On the meta device they have no numbers, but drawing takes 40 % of the time of building a network.
    """
    kinds = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase)
    drawn = [kind.reset_parameters for kind in kinds]
    for kind in kinds:
        kind.reset_parameters = lambda self: None
    try:
        yield
    finally:
        for kind, reset in zip(kinds, drawn):
            kind.reset_parameters = reset


def materialise(model: nn.Module, seed: int) -> nn.Module:
    """Give a network built on the meta device its memory (on the CPU) and its initial parameters.

    A network of a library (`foreign`) has a method of its own for them.
    """
    model._apply(lambda tensor: _on_cpu(tensor) if tensor.is_meta else tensor)
    if getattr(model, "foreign", False):
        model.initialise(seed)
    else:
        initialise(model, seed)
    return model


def _on_cpu(tensor: Tensor) -> Tensor:
    """Return memory for a meta tensor. For the same, torch.empty_like imports sympy."""
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
