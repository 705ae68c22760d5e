"""A swapped network starts from a trained one: every block is fitted to the convolution that it replaces, or copied.

A block that is what stands in its place there (of one class, convolution, setting and structure) gets its parameters.

check(student, teacher)                      # ValueError where they are not of one architecture
rows = fit_network(student, teacher)         # rows: layer, what it is now, copied or fitted, relative error
print(table(rows))
"""

from typing import NamedTuple

import torch
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

from blocks import BlockAsLinear, build_block, spec_of
from counting.shapes import kind
from layers.base import Block, Seeded
from layers.dense import Conv, Pointwise
from layers.gradient_fit import WORK
from layers.registry import parse_conv
from layers.separable import Separable

WORK_OF_NETWORK = WORK // 2  # for all layers together; each gets its share
PENALTY = (
    1e-3  # costs a few thousandths of relative error, without it fitted tensor trains hardly train (research-log.md)
)

USERS = "user_module"  # where classes of --module's file are
OTHER_SEED = "its structure has another seed there"


class Fitted(NamedTuple):
    """‖weight() − kernel‖ / ‖kernel‖ of one layer, and how it came to be: copied, or fitted (and why, where copying could
    be expected)."""

    layer: str
    kind: str
    how: str
    relative_error: float


def _blocks(network: nn.Module) -> list[str]:
    """Dotted names of the swapped layers."""
    found: list[str] = []
    for name, module in network.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, (Block, BlockAsLinear)) and not inner:
            found.append(name)
    return found


def _to_fit(network: nn.Module, source: nn.Module) -> dict[str, tuple[nn.Module, nn.Module]]:
    """The layers that are swapped in one of both, by dotted name. ValueError where the other has none of the name."""
    pairs = {}
    for name in dict.fromkeys(_blocks(network) + _blocks(source)):
        try:
            pairs[name] = network.get_submodule(name), source.get_submodule(name)
        except AttributeError:
            raise ValueError(f"only one of both has a layer {name}")
    return pairs


def _rest(network: nn.Module, pairs: dict) -> dict[str, Tensor]:
    """The state of all other layers."""
    prefixes = tuple(f"{name}." for name in pairs)
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(prefixes)}
    state.pop("substitution_seed", None)
    return state


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else "×".join(map(str, tensor.shape)) or "a number"


def check(network: nn.Module, source: nn.Module) -> None:
    """Raises ValueError where `network` cannot start from `source`. Both may be on the meta device."""
    pairs = _to_fit(network, source)
    here, there = _rest(network, pairs), _rest(source, pairs)
    for name in dict.fromkeys([*here, *there]):
        shapes = [_shape(state.get(name)) for state in (here, there)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name} is {shapes[0]} here, {shapes[1]} there")
    for name, (target, trained) in pairs.items():
        if spec_of(_block(target)) is None:
            raise ValueError(f"{name} is a {type(target).__name__}, which cannot be fitted")
        (kernel, bias), (found, found_bias) = dense(target), dense(trained)
        if kernel.shape != found.shape:
            raise ValueError(f"the kernel of {name} is {_shape(kernel)} here, {_shape(found)} there")
        if found_bias is not None and bias is None:
            raise ValueError(f"{name} has a bias there, but no place for one here")


def _block(module: nn.Module) -> nn.Module:
    return module.block if isinstance(module, BlockAsLinear) else module


@torch.no_grad()
def dense(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """The kernel (o, i, k, k) and the bias (o,) or None that a layer amounts to."""
    match _block(module):
        case Block() as block:
            return block.weight(), block.effective_bias()
        case nn.Linear() as linear:
            return linear.weight[:, :, None, None], linear.bias
        case nn.Sequential() as pair:
            depthwise, pointwise = pair
            return pointwise.weight * depthwise.weight[:, 0], pointwise.bias
        case conv:
            return conv.weight, conv.bias


def fit_network(network: nn.Module, source: nn.Module) -> list[Fitted]:
    """Fits what is swapped in `network`, or was in `source`, to the layer of its name there; copies all the rest."""
    pairs = _to_fit(network, source)
    network.load_state_dict(_rest(source, pairs), strict=False)
    work = WORK_OF_NETWORK // max(len(pairs), 1)
    rows = []
    with tqdm(pairs.items(), desc="fitting", unit="layer", disable=None, leave=False) as bar:
        for name, (target, trained) in bar:
            bar.set_postfix_str(name)
            here, there = _block(target), _block(trained)
            if copied := _copy(here, there):
                rows.append(Fitted(name, kind(here), "copied", 0.0))
                continue
            error = fit_layer(here, *dense(trained), work)
            how = "copied" if copies_kernels(here) else "fitted" + (f": {OTHER_SEED}" if copied is None else "")
            rows.append(Fitted(name, kind(here), how, error))
    return rows


def copies_kernels(layer: nn.Module) -> bool:
    """Whether a fit to a kernel holds its very numbers: in an ordinary convolution, or a Linear."""
    return isinstance(layer, (Conv, nn.Conv2d, nn.Linear))


@torch.no_grad()
def _copy(here: nn.Module, there: nn.Module) -> bool | None:
    """Gives a block the parameters of another that is the same map by them. Returns whether it is; None where all but the
    seed of their pseudo-random structure is alike."""
    pairs = _pair(here), _pair(there)
    if all(pairs) and spec_of(here) == spec_of(there):
        for target, value in zip(*pairs):
            if target is not None:
                target.copy_(value.view_as(target))
        return True
    if not (isinstance(here, Block) and isinstance(there, Block)) or here.spec != there.spec:
        return False
    parts, theirs = (dict(block.named_modules()) for block in (here, there))
    state, trained = here.state_dict(), there.state_dict()
    classes = [{name: _class(part) for name, part in each.items()} for each in (parts, theirs)]
    shapes = [{name: part.shape for name, part in each.items()} for each in (state, trained)]
    if classes[0] != classes[1] or shapes[0] != shapes[1] or here.setting() != there.setting():
        return False
    if any(part.key != theirs[name].key for name, part in parts.items() if isinstance(part, Seeded)):
        return None
    before = {name: each.clone() for name, each in state.items()}
    here.load_state_dict(trained)
    if _class(here)[0] != USERS or torch.equal(here.weight(), there.weight()):
        return True
    here.load_state_dict(before)  # a structure that nobody sees
    return False


def _pair(module: nn.Module) -> list[Tensor | None] | None:
    """Depthwise filters, columns and bias of a separable convolution that is `Sep` or a pair of plain ones."""
    match module:
        case Separable(map=Pointwise()) if module.depthwise is not None:
            return [module.depthwise, module.map.dense, module.bias]
        case nn.Sequential():
            depthwise, pointwise = module
            return [depthwise.weight, pointwise.weight, pointwise.bias]
    return None


def _class(module: nn.Module) -> tuple[str, str]:
    """A user's file is run once for each network, so its classes are told by their names."""
    return type(module).__module__, type(module).__qualname__


def fit_layer(layer: nn.Module, kernel: Tensor, bias: Tensor | None, work: int) -> float:
    """Fits one layer, plain ones too: a separable pair as `Sep` is, a convolution or a Linear by copying."""
    if isinstance(layer, Block):
        return layer.fit(kernel, bias, work, PENALTY)
    if isinstance(layer, nn.Sequential):
        separable = build_block(parse_conv("Sep"), spec_of(layer)).to(kernel)
        error = separable.fit(kernel, bias)
        found = [separable.depthwise, separable.map.dense[:, :, None, None], separable.bias]
    else:
        error, found = 0.0, [kernel.view_as(layer.weight), bias]
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), found):
            parameter.copy_(torch.zeros_like(parameter) if value is None else value)
    return error


def table(rows: list[Fitted]) -> str:
    return tabulate(rows, ["layer", "now", "how", "relative error"], floatfmt=".4f")
