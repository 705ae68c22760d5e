"""A swapped network starts from a trained one: every block is fitted to the convolution that it replaces.

rows = fit_network(student, teacher)         # of one architecture; rows: layer, what it is now, relative error
print(table(rows))
"""

from typing import NamedTuple

import torch
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

from blocks import BlockAsLinear
from layers.base import Block
from shapes import kind


class Fitted(NamedTuple):
    """‖weight() − kernel‖ / ‖kernel‖ of one layer."""

    layer: str
    kind: str
    relative_error: float


def blocks_of(network: nn.Module) -> dict[str, Block]:
    """The swapped layers by dotted name."""
    found: dict[str, Block] = {}
    for name, module in network.named_modules():
        block = module.block if isinstance(module, BlockAsLinear) else module
        if isinstance(block, Block) and not any(f"{name}.".startswith(f"{outer}.") for outer in found):
            found[name] = block
    return found


def check(network: nn.Module, source: nn.Module) -> None:
    """Raises ValueError where `network` cannot start from `source`. Both may be on the meta device."""
    fitted = tuple(f"{name}." for name in blocks_of(network))
    rest = {name: tensor.shape for name, tensor in network.state_dict().items() if not name.startswith(fitted)}
    rest.pop("substitution_seed", None)
    there = {name: tensor.shape for name, tensor in source.state_dict().items()}
    for name, shape in rest.items():
        if there.get(name) != shape:
            has = "no such layer" if name not in there else f"{'×'.join(map(str, there[name]))} there"
            raise ValueError(f"{name} is {'×'.join(map(str, shape))} here, {has}")
    for name, block in blocks_of(network).items():
        try:
            kernel, bias = dense(source.get_submodule(name))
        except AttributeError:
            raise ValueError(f"there is no layer {name} in it")
        if kernel.shape != block.weight().shape:
            shapes = ["×".join(map(str, each.shape)) for each in (block.weight(), kernel)]
            raise ValueError(f"the kernel of {name} is {shapes[0]} here, {shapes[1]} there")
        if bias is not None and block.effective_bias() is None:
            raise ValueError(f"{name} has a bias there, but no place for one here")


@torch.no_grad()
def dense(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """The kernel (o, i, k, k) and the bias (o,) or None that a layer amounts to."""
    match module:
        case BlockAsLinear():
            return dense(module.block)
        case Block():
            return module.weight(), module.effective_bias()
        case nn.Conv2d(groups=1):
            return module.weight, module.bias
        case nn.Linear():
            return module.weight[:, :, None, None], module.bias
        case nn.Sequential():
            depthwise, pointwise = module
            return pointwise.weight * depthwise.weight[:, 0], pointwise.bias
    raise AttributeError(f"{type(module).__name__} is no convolution")


def fit_network(network: nn.Module, source: nn.Module) -> list[Fitted]:
    """Fits every block of `network` to the layer of its name in `source`, and copies all the rest."""
    fitted = blocks_of(network)
    prefixes = tuple(f"{name}." for name in fitted)
    rest = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith(prefixes)}
    rest.pop("substitution_seed", None)  # of the source's own blocks
    network.load_state_dict(rest, strict=False)
    rows = []
    for name, block in tqdm(fitted.items(), desc="fitting", unit="layer", disable=None, leave=False):
        kernel, bias = dense(source.get_submodule(name))
        rows.append(Fitted(name, kind(block), block.fit(kernel, bias)))
    return rows


def table(rows: list[Fitted]) -> str:
    return tabulate(rows, ["layer", "fitted by", "relative error"], floatfmt=".4f")
