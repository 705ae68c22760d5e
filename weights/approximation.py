"""Let a swapped network start from a trained one: copy every layer that is the same there, approximate the others.

A block of the same class, convolution, setting and structure gets the parameters of the trained one. Any other block
approximates the kernel of the layer that it replaces.

check(student, teacher)                      # ValueError where they are not of one architecture
rows = approximate_network(student, teacher) # rows: layer, what it is now, copied or approximated, relative error
print(table(rows))
"""

from statistics import fmean
from typing import NamedTuple

import torch
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

from blocks import BlockAsLinear, build_block, spec_of
from counting.shapes import kind
from layers.base import Block, Replacement
from layers.dense import Pointwise
from layers.registry import parse_conv
from layers.seeded import Seeded
from layers.separable import Separable
from models.dense import inner
from system.user_code import MODULES

# Costs a few thousandths of relative error. Without it, approximations by tensor trains hardly train (research-log.md).
PENALTY = 1e-3

GATES = "gates."  # how the names begin of what gates keep
OTHER_SEED = "its structure has another seed there"


class Start(NamedTuple):
    """How a layer starts: copied or approximated (with a reason where a copy could be expected), and how near.

    The relative error is ‖weight() − kernel‖ / ‖kernel‖.
    """

    layer: str
    kind: str
    how: str
    relative_error: float


def _replacements(network: nn.Module) -> list[str]:
    """Return the dotted names of the swapped layers."""
    found: list[str] = []
    for name, module in network.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, (Replacement, BlockAsLinear)) and not inner:
            found.append(name)
    return found


def _pairs(network: nn.Module, source: nn.Module) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Return the layers of both that are swapped in either, by name. Raise ValueError where one lacks the name."""
    pairs = {}
    for name in dict.fromkeys(_replacements(network) + _replacements(source)):
        try:
            pairs[name] = network.get_submodule(name), source.get_submodule(name)
        except AttributeError:
            raise ValueError(f"only one of both has a layer {name}")
    return pairs


def _rest(network: nn.Module, pairs: dict) -> dict[str, Tensor]:
    """Return the state of all other layers."""
    prefixes = tuple(f"{name}." for name in pairs)
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(prefixes)}
    state.pop("substitution_seed", None)
    return state


def _check_gates(network: nn.Module, source: nn.Module) -> None:
    """Raise ValueError where `source` is gated otherwise than `network`: a network without its gates is another one."""
    here, there = (getattr(each, "gates", None) for each in (network, source))
    if there is None:
        return
    if here is None or here.method != there.method:
        now = "nothing" if here is None else f"by {here.method}"
        raise ValueError(f"it is gated by {there.method} there, {now} here")
    if more := sorted(there.by_name().keys() - here.by_name().keys()):
        raise ValueError(f"{more[0]} is gated there, but not here")


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else "×".join(map(str, tensor.shape)) or "a number"


def check(network: nn.Module, source: nn.Module) -> None:
    """Raise ValueError where `network` cannot start from `source`. Both may be on the meta device."""
    pairs = _pairs(network, source)
    _check_gates(network, source)
    here, there = (
        {name: tensor for name, tensor in _rest(each, pairs).items() if not name.startswith(GATES)}
        for each in (network, source)
    )
    for name in dict.fromkeys([*here, *there]):
        shapes = [_shape(state.get(name)) for state in (here, there)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name} is {shapes[0]} here, {shapes[1]} there")
    for name, (target, trained) in pairs.items():
        _check_layer(name, inner(target), inner(trained))


def _check_layer(name: str, target: nn.Module, trained: nn.Module) -> None:
    """Raise ValueError where a layer can neither copy the trained one nor approximate its kernel."""
    if not (_is_linear(target) and _is_linear(trained)):
        if _alike(target, trained):
            return
        if not _is_linear(target):
            raise ValueError(f"{name} is a {type(target).__name__}, which cannot approximate a kernel")
        raise ValueError(f"{name} is a {type(trained).__name__} there, which equals no kernel")
    (kernel, bias), (found, found_bias) = dense(target), dense(trained)
    if kernel.shape != found.shape:
        raise ValueError(f"the kernel of {name} is {_shape(kernel)} here, {_shape(found)} there")
    if found_bias is not None and bias is None:
        raise ValueError(f"{name} has a bias there, but no place for one here")


def _is_linear(layer: nn.Module) -> bool:
    """Return whether a layer equals a convolution with a kernel."""
    return isinstance(layer, Block) or (not isinstance(layer, Replacement) and spec_of(layer) is not None)


@torch.no_grad()
def dense(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return the kernel (o, i, k, k) and the bias (o,) or None that a linear layer equals."""
    match inner(module):
        case Block() as block:
            return block.weight(), block.effective_bias()
        case nn.Linear() as linear:
            return linear.weight[:, :, None, None], linear.bias
        case nn.Sequential() as pair:
            depthwise, pointwise = pair
            return pointwise.weight * depthwise.weight[:, 0], pointwise.bias
        case conv:
            return conv.weight, conv.bias


def approximate_network(network: nn.Module, source: nn.Module, effort: float = 1.0) -> list[Start]:
    """Copy or approximate, in place, every layer that is swapped in `network` or in `source`; copy all the rest.

    Both networks have passed `check`. `effort` multiplies the work where no closed form is known. Returns a row for each
    swapped layer.
    """
    pairs = _pairs(network, source)
    _join_gates(network, source)
    own = {
        name for name in network.state_dict() if name.startswith(GATES) and name.endswith(".open")
    }  # its own density
    network.load_state_dict(
        {name: each for name, each in _rest(source, pairs).items() if name not in own}, strict=False
    )
    rows = []
    with tqdm(pairs.items(), desc="approximating", unit="layer", disable=None, leave=False) as bar:
        for name, (target, trained) in bar:
            mean = f", mean error so far {fmean(row.relative_error for row in rows):.4f}" if rows else ""
            bar.set_postfix_str(f"{name}{mean}")
            here, there = inner(target), inner(trained)
            if copied := _copy(here, there):
                rows.append(Start(name, kind(here), "copied", 0.0))
                continue
            error = approximate_layer(here, *dense(trained), effort)
            how = "approximated" + (f": {OTHER_SEED}" if copied is None else "")
            rows.append(Start(name, kind(here), "copied" if _holds_any_kernel(here) else how, error))
    return rows


def _join_gates(network: nn.Module, source: nn.Module) -> None:
    """Have the gates that are new join what has been trained without them."""
    here, there = (getattr(each, "gates", {}) for each in (network, source))
    for name, gate in here.items():
        if name not in there:
            gate.join()


def _holds_any_kernel(layer: nn.Module) -> bool:
    return layer.holds_any_kernel if isinstance(layer, Block) else isinstance(layer, (nn.Conv2d, nn.Linear))


@torch.no_grad()
def _copy(here: nn.Module, there: nn.Module) -> bool | None:
    """Copy the parameters of another layer where they make the same map.

    Returns whether that is so; None where all but the seed of a pseudo-random structure is alike.
    """
    pairs = _separable_tensors(here), _separable_tensors(there)
    if all(pairs) and spec_of(here) == spec_of(there):
        for target, value in zip(*pairs):
            if target is not None:
                target.copy_(value.view_as(target))
        return True
    if not (alike := _alike(here, there)):
        return alike
    before = {name: each.clone() for name, each in here.state_dict().items()}
    here.load_state_dict(there.state_dict())
    is_users_block = _class(here)[0].startswith(MODULES) and isinstance(here, Block)
    if not is_users_block or torch.equal(here.weight(), there.weight()):
        return True
    here.load_state_dict(before)  # the user's class has a structure that is not in its state
    return False


def _alike(here: nn.Module, there: nn.Module) -> bool | None:
    """Return whether equal parameters make two replacements equal; None where only their seeds differ."""
    if not (isinstance(here, Replacement) and isinstance(there, Replacement)) or here.spec != there.spec:
        return False
    parts, theirs = (dict(each.named_modules()) for each in (here, there))
    classes = [{name: _class(part) for name, part in each.items()} for each in (parts, theirs)]
    shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (here, there)]
    if classes[0] != classes[1] or shapes[0] != shapes[1] or here.setting() != there.setting():
        return False
    if any(part.key != theirs[name].key for name, part in parts.items() if isinstance(part, Seeded)):
        return None
    return True


def _separable_tensors(module: nn.Module) -> list[Tensor | None] | None:
    """Return filters, matrix and bias of a separable convolution whose map is dense, a block or a plain pair."""
    match module:
        case Separable(map=Pointwise()) if module.depthwise is not None:
            return [module.depthwise, module.map.dense, module.bias]
        case nn.Sequential():
            depthwise, pointwise = module
            return [depthwise.weight, pointwise.weight, pointwise.bias]
    return None


def _class(module: nn.Module) -> tuple[str, str]:
    """Return the name of a class; that of a user's file has the file's digest in it."""
    return type(module).__module__, type(module).__qualname__


def approximate_layer(layer: nn.Module, kernel: Tensor, bias: Tensor | None, effort: float = 1.0) -> float:
    """Approximate a kernel (o, i, k, k) and a bias (o,) by one linear layer; return the relative error.

    A plain separable pair does as `Sep` does; a plain convolution or a Linear copies the kernel.
    """
    if isinstance(layer, Block):
        return layer.approximate(kernel, bias, effort, PENALTY)
    if isinstance(layer, nn.Sequential):
        separable = build_block(parse_conv("Sep"), spec_of(layer)).to(kernel)
        error = separable.approximate(kernel, bias)
        found = [separable.depthwise, separable.map.dense[:, :, None, None], separable.bias]
    else:
        error, found = 0.0, [kernel.view_as(layer.weight), bias]
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), found):
            parameter.copy_(torch.zeros_like(parameter) if value is None else value)
    return error


def table(rows: list[Start]) -> str:
    """Return the rows as a table."""
    return tabulate(rows, ["layer", "now", "how", "relative error"], floatfmt=".4f")
