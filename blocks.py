"""From a name to blocks in a network: `build_block`, `substitute` and what they find in a network.

    network = build("WideResNet", classes=10, depth=16, width=1.0)           # models, on any device, meta too
    substitute(network, parse_conv("SepHashed_0.1"), seed=0)                 # every swappable convolution
    substitute(network, parse_name("groups.0=Conv,.*=SepHashed_0.1"))        # each as the first pattern says
    block("Generic_0.1", ConvSpec(64, 128, 3, padding=1))                    # one block by hand

A block is chosen by a name (layers/registry.py says which class builds it) or built by the user's own class
(layers/user.py). Separable joins a ChannelMap to a depthwise convolution; a Replacement needs nothing else.

Every block starts at the scale of the dense map. The table gives the standard deviation of its channel map over √(2/o)
(of a k×k kernel over √(2/(o·k²))) at 256 → 256, k = 3, seed 0. Conv, Sep, SparseVD and GroupVD are drawn,
ACDC is rescaled by one constant, the rest are exact.

    Conv                1.002
    Sep                 1.002
    Generic             1.000
    LR                  1.000
    Hashed              1.000
    HashedDecimate      1.000
    SepHashed           1.000
    SepHashedFull       1.000
    SepHashedDecimate   1.000
    ACDC                1.000
    OriginalACDC        1.000
    PermutedACDC        1.000
    TensorTrain         1.000
    Tucker              1.000
    CP                  1.000
    Shuffle             1.000
    Butterfly           1.000
    Monarch             1.000
    BTT                 1.000
    Kronecker           1.000
    SparseVD            1.002
    GroupVD             1.002
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor, nn

from layers.base import ChannelMap, Replacement
from layers.init import initialise
from layers.mixed import MixedName, found_in
from layers.registry import ConvName, parse_conv
from layers.seeded import Seeded
from layers.separable import Separable
from layers.spec import ConvSpec
from system.errors import RequestError
from system.hashing import key


class BlockAsLinear(nn.Module):
    """A 1×1 block in the place of a Linear: (…, i) -> (…, o)."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, i) to (…, o): an image's vectors (tokens) are the pixels of a column, a view with channels last."""
        if x.dim() < 3:
            return self.block(x.reshape(-1, x.shape[-1], 1, 1)).reshape(*x.shape[:-1], -1)
        y = self.block(x.reshape(x.shape[0], -1, 1, x.shape[-1]).permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class Builder(Protocol):
    """What may be given in place of a parsed name, as `layers.user.UserConv` is."""

    def build(self, spec: ConvSpec, key: int) -> nn.Module:
        """Return a module that replaces the convolution. Raise ValueError where that cannot be."""
        ...


def build_block(conv: ConvName | Builder, spec: ConvSpec, key: int = 0) -> nn.Module:
    """Return the block of `conv` for one convolution. Raise ValueError where the layer cannot take it.

    Args: key: the integer from which a pseudo-random structure is computed.
    """
    if not isinstance(conv, ConvName):
        return conv.build(spec, key)
    module, name = conv.target.split(":")
    cls = getattr(import_module(module), name)
    part = cls(spec, *conv.numbers, key=key)
    return Separable(spec, part) if isinstance(part, ChannelMap) else part


def block(conv: str, spec: ConvSpec, seed: int = 0, name: str = "") -> Replacement:
    """Return one initialised block, the same as it would be under the dotted `name` in a network."""
    built = build_block(parse_conv(conv), spec, key(seed, name))
    initialise(built, seed, name)
    return built


def spec_of(module: nn.Module) -> ConvSpec | None:
    """Return the convolution that a module amounts to if it can be swapped, else None.

    That is a replacement, a Linear (as a 1×1), a square Conv2d with groups = 1 and padding of zeros, or a pair of a
    depthwise Conv2d and a 1×1 Conv2d.
    """
    match module:
        case Replacement():
            return module.spec
        case nn.Linear() if type(module) is nn.Linear:  # attention reads the weights of its subclass, never calls it
            return ConvSpec(module.in_features, module.out_features, 1, bias=module.bias is not None)
        case nn.Conv2d(groups=1):
            first = last = module
        case nn.Sequential() if _is_separable_pair(list(module)):
            first, last = module
        case _:
            return None
    padding = (0, 0) if first.padding == "valid" else first.padding
    if padding == "same" and all(side % 2 for side in first.kernel_size):
        padding = tuple(reach * (side - 1) // 2 for reach, side in zip(first.dilation, first.kernel_size))
    pairs = (first.kernel_size, first.stride, padding, first.dilation)
    if first.padding_mode != "zeros" or isinstance(padding, str) or any(rows != columns for rows, columns in pairs):
        return None
    return ConvSpec(first.in_channels, last.out_channels, *(side for side, _ in pairs), bias=last.bias is not None)


def _is_separable_pair(parts: list[nn.Module]) -> bool:
    match parts:
        case [
            nn.Conv2d(bias=None) as depthwise,
            nn.Conv2d(groups=1, kernel_size=(1, 1), stride=(1, 1), padding=(0, 0)),
        ]:
            return depthwise.groups == depthwise.in_channels == depthwise.out_channels
    return False


def swappable(model: nn.Module) -> list[str]:
    """Return the dotted names of what may be swapped: the network's own list, or all that can be of a foreign model."""
    if hasattr(model, "swappable"):
        return model.swappable()
    found: list[str] = []
    for name, module in model.named_modules():
        if name and not any(name.startswith(outer + ".") for outer in found) and spec_of(module):
            found.append(name)
    return found


def classifiers(model: nn.Module) -> list[str]:
    """Return the dotted names of the Linear layers that only a variational conv replaces.

    They are those of the network's own list, or all that `swappable` leaves out.
    """
    if hasattr(model, "classifiers"):
        return model.classifiers()
    known = set(swappable(model))
    return [name for name, each in model.named_modules() if name and name not in known and type(each) is nn.Linear]


def chosen(model: nn.Module, where: str, with_classifiers: bool = False) -> list[str]:
    """Return the swappable names in which the regular expression `where` is found.

    None of a network without such layers. Args: with_classifiers: those of `classifiers` can be swapped too. Raise
    RequestError if it is found in none of those that there are, or is given where there are none.
    """
    candidates = swappable(model) + (classifiers(model) if with_classifiers else [])
    names = [name for name in candidates if found_in(where, name)]
    if not names and (where or candidates):
        there = f"such as {candidates[0]!r}" if candidates else "and there are none"
        raise RequestError(f"--where {where!r} matches none of the layers that can be swapped, {there}")
    return names


def decided(conv: ConvName | MixedName | Builder, names: Sequence[str]) -> dict[str, ConvName | Builder | None]:
    """Return what replaces each layer, None where nothing does.

    Raise RequestError for a pattern that decides none, or where there are no layers for another conv than the ordinary
    one.
    """
    if not names and not (isinstance(conv, ConvName) and conv.is_ordinary):
        raise RequestError(f"--conv {conv}: the network has no convolution and no Linear layer that can be swapped")
    return conv.decide(names) if isinstance(conv, MixedName) else dict.fromkeys(names, conv)


def replaces_classifiers(conv: ConvName | MixedName | Builder) -> bool:
    """Return whether a conv replaces the classifier too: where it, or a part of it, is variational."""
    return getattr(conv, "is_variational", False)


def stays(module: nn.Module, conv: ConvName | Builder | None) -> bool:
    """Return whether a module stays as it is: nothing replaces it, or it is the ordinary convolution asked for."""
    return conv is None or (
        isinstance(conv, ConvName) and conv.is_ordinary and isinstance(module, (nn.Conv2d, nn.Linear))
    )


def substitute(
    model: nn.Module,
    conv: ConvName | MixedName | Builder,
    where: str = "",
    seed: int = 0,
    with_classifiers: bool = False,
) -> list[str]:
    """Replace, in place, every swappable module whose dotted name `where` is found in; initialise the new blocks.

    An ordinary convolution or a Linear for which `conv` asks for `Conv` stays as it is. Returns the dotted names that
    are of `conv` now: of a mixed one, those that a pattern decides. Raises RequestError where a layer cannot take it,
    with the layer's name, or where `where` or a pattern matches nothing.

    Args: with_classifiers: classifiers can be replaced too, as a variational conv always does.
    """
    convs = decided(conv, chosen(model, where, with_classifiers or replaces_classifiers(conv)))
    places: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        places.setdefault(module, []).append(name)
    for name, each in convs.items():
        old = model.get_submodule(name)
        if stays(old, each):
            continue
        new = _replacement(old, each, seed, name)
        new._forward_hooks.update(old._forward_hooks)  # by which a library's network taps its features
        new.train(old.training)
        for place in places.get(old, ()):
            model.set_submodule(place, new)
    if any(isinstance(module, Seeded) for module in model.modules()):
        _remember_seed(model, seed)
    return [name for name, each in convs.items() if each is not None]


def _replacement(old: nn.Module, conv: ConvName | Builder, seed: int, name: str) -> nn.Module:
    """Return the initialised block of `conv` for the module called `name`, with the device and dtype of that module."""
    spec = spec_of(old)
    like = next(old.parameters())
    try:
        with like.device:
            new = build_block(conv, spec, key(seed, name))
    except ValueError as error:
        raise RequestError(f"layer {name!r} ({spec.in_channels} -> {spec.out_channels}) cannot be {conv}: {error}")
    new = BlockAsLinear(new) if isinstance(old, nn.Linear) else new
    if like.dtype != torch.get_default_dtype():
        new.to(like.dtype)
    if like.device.type != "meta":
        initialise(new, seed, name)
    return new


def _remember_seed(model: nn.Module, seed: int) -> None:
    """Save the seed of the hashed layers in the network's state, and check it when a state is loaded."""
    before = getattr(model, "substitution_seed", None)
    if before is None:
        model.substitution_seed = seed
        model.register_state_dict_post_hook(_save_seed)
        model.register_load_state_dict_pre_hook(_check_seed)
    elif before != seed:
        raise RequestError(f"this network has layers hashed by seed {before} already, not {seed}")


def _save_seed(model, state, prefix, metadata) -> None:
    state[prefix + "substitution_seed"] = torch.tensor(model.substitution_seed)


def _check_seed(model, state, prefix, metadata, strict, missing, unexpected, errors) -> None:
    saved = int(state.pop(prefix + "substitution_seed", model.substitution_seed))
    if saved != model.substitution_seed:
        errors.append(f"saved with seed {saved}, but this network's layers are hashed by {model.substitution_seed}")


def undecayed_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return every parameter that a replacement (or a user's own convolution) names as one without weight decay."""
    own = (module.undecayed_parameters() for module in model.modules() if hasattr(module, "undecayed_parameters"))
    return list(dict.fromkeys(sum(own, [])))


def slowed_parameters(model: nn.Module) -> dict[nn.Parameter, float]:
    """Return the factor on the learning rate of every parameter that a layer names as one whose steps move its kernel far."""
    found = {}
    for module in model.modules():
        if hasattr(module, "slowed_parameters"):
            found.update(module.slowed_parameters())
    return found


def structured_parameters(model: nn.Module) -> dict[nn.Parameter, int]:
    """Return every parameter that a replacement (or a user's own convolution) names as structured, with its degree.

    That is how many parameters its map multiplies; 1 where a user's own convolution does not say.
    """
    found = {}
    for module in model.modules():
        if hasattr(module, "structured_parameters") and not isinstance(module, ChannelMap):
            degree = module.degree if isinstance(module, Replacement) else 1
            found.update(dict.fromkeys(module.structured_parameters(), degree))
    return found
