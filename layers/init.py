"""The numbers that a network starts with: every module's are its own, whatever else was built.

network = materialise(build(config), seed=0)     # from the meta device
initialise(network, seed=1)                      # drawn anew
"""

import torch
from torch import nn

from layers.base import Block, dense_scale, draw_normal
from system.hashing import key


@torch.no_grad()
def initialise(model: nn.Module, seed: int, prefix: str = "") -> None:
    """Draws every parameter, each module from a generator of its own (seed, dotted name).

    So the same layer starts alike in every network that holds it, whatever else was built. Blocks draw themselves;
    what is not swapped is He normal with fan-out, batch-norm 1/0, biases 0.
    """
    done: list[str] = []
    for name, module in model.named_modules(prefix=prefix):
        if any(name.startswith(outer + ".") for outer in done):
            continue
        generator = torch.Generator().manual_seed(key("initialise", seed, name))
        match module:
            case _ if getattr(module, "initialises_itself", False):
                done.append(name)
            case Block():
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


def materialise(model: nn.Module, seed: int) -> nn.Module:
    """A network built on the meta device gets its memory (on the CPU) and its initial weights."""
    model._apply(lambda tensor: torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor)
    initialise(model, seed)
    return model
