"""What is what in a network that was not written here: found by running it once and looking at what each module returns.

    with torch.device("meta"):
        found = anatomy(torchvision.models.resnet18(num_classes=10), side=32)
    found.stem, found.heads                      # "conv1", ("fc",)
    [tap.name for tap in found.taps]             # ["bn1", …]: the last feature of each resolution

The stem is the first convolution (or linear map) that runs, the head the last. Swappable is every other Conv2d and
Linear that is called as a module: what a network reads the weights of, as attention does, has to stay. Modules that only
run in training are auxiliary heads.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor, nn

import blocks
from models.features import Kind, Layout, layout_of
from system.errors import RequestError

IMAGES = 2  # of the pass: a batch-norm in training needs two


class Tap(NamedTuple):
    """The dotted name of a module that returns a feature, and how that is laid out."""

    name: str
    layout: Layout


class Call(NamedTuple):
    """The shapes of what a module was given and of what it returned; the first is empty where that was no tensor.

    `normalised` says that a layer-norm over the channels of each pixel returned it: its attention map is flat.
    """

    given: torch.Size
    returned: torch.Size
    normalised: bool = False


@dataclass(frozen=True)
class Anatomy:
    """Dotted names: of the stem, the heads, the auxiliary heads, what may be swapped, the segments; and the taps.

    `called` are all modules that return a tensor in evaluation, in the order in which they end, with what they return;
    `staying` counts convolutions that no conv can replace, by the reason.
    """

    stem: str
    heads: tuple[str, ...]
    auxiliary: tuple[str, ...]
    swappable: tuple[str, ...]
    segments: tuple[str, ...]
    staying: dict[str, int]
    called: dict[str, "Call"]
    taps: tuple[Tap, ...] = ()

    def tapped_at(self, where: str | None, what: str) -> "Anatomy":
        """Return the same with the taps that a regular expression chooses among the names; `what` is the network's name.

        Of modules within each other the outer one is taken. Raises RequestError where none matches, or where one
        returns no feature of rows and columns.
        """
        if where is None:
            return self
        found = {name: call for name, call in self.called.items() if re.search(where, name)}
        outer = [name for name in found if not any(name.startswith(f"{other}.") for other in found)]
        if not outer:
            there = ", ".join(repr(tap.name) for tap in self.taps[:3]) or repr(self.stem)
            raise RequestError(f"--taps {where!r} matches none of the modules that {what} runs, such as {there}")
        layouts = {name: layout_of(found[name].returned, IMAGES) for name in outer}
        if wrong := [name for name, layout in layouts.items() if layout is None]:
            raise RequestError(f"--taps {where!r}: what {wrong[0]} of {what} returns has no rows and columns")
        return replace(self, taps=tuple(Tap(name, layouts[name]) for name in outer))


def anatomy(network: nn.Module, side: int, heads: Iterable[str] = ()) -> Anatomy:
    """Return what is what in a network that takes images (B, 3, side, side) and returns logits, first of a tuple if any.

    Args: heads: names of classifiers that are known, beside the last map that runs. Whatever the network raises passes.
    """
    training = _outputs(network.train(), side)
    called = _outputs(network.eval(), side)
    modules = dict(network.named_modules())
    maps = [name for name in called if isinstance(modules[name], (nn.Conv2d, nn.Linear))]
    if not maps:
        raise RequestError("it runs no convolution and no linear map")
    only_training = [name for name in training if name not in called and any(True for _ in modules[name].parameters())]
    auxiliary = tuple(_outermost([name for name in modules if name in only_training]))
    heads = tuple(dict.fromkeys([*(name for name in heads if name in modules), maps[-1]]))
    before = dict(takewhile(lambda each: each[0] not in heads, called.items()))
    inner = [name for name in maps if name != maps[0] and name not in heads]
    swappable = tuple(name for name in modules if name in inner and _fault(modules[name]) is None)
    faults = [_fault(modules[name]) for name in inner]
    unused = [
        name for name, each in modules.items() if isinstance(each, nn.Linear) and name not in {**called, **training}
    ]
    faults += ["whose weights attention reads"] * len(unused)
    return Anatomy(
        stem=maps[0],
        heads=heads,
        auxiliary=auxiliary,
        swappable=swappable,
        segments=tuple(_segments(network, called, heads)),
        staying={fault: faults.count(fault) for fault in dict.fromkeys(faults) if fault},
        called=called,
        taps=tuple(_last_features(before, modules, side)),
    )


def _outputs(network: nn.Module, side: int) -> dict[str, Call]:
    """Run a network. Return the calls of its modules that return a tensor, by name, the last to end at the end."""
    found: dict[str, Call] = {}
    normalised: dict[int, Tensor] = {}  # by their memory, which they keep

    def note(name: str):
        def hook(module, inputs, output):
            found.pop(name, None)
            if isinstance(output, Tensor):
                place = output.untyped_storage()._cdata
                if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
                    normalised[place] = output
                first = inputs[0] if inputs else None
                found[name] = Call(
                    first.shape if isinstance(first, Tensor) else torch.Size(), output.shape, place in normalised
                )

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            network(torch.zeros(IMAGES, 3, side, side, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _fault(module: nn.Module) -> str | None:
    """Return why a convolution or a linear map stays as it is; None where it can be swapped."""
    if isinstance(module, nn.Conv2d):
        if module.groups > 1:
            return "of several groups"
        if type(module) is not nn.Conv2d:
            return "of a class of their own"
        return None if blocks.spec_of(module) else "of a kernel or a padding that is not square"
    return None if type(module) is nn.Linear else "of a class of their own"


def _outermost(names: Sequence[str]) -> list[str]:
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]


def _last_features(called: dict[str, Call], modules: dict[str, nn.Module], side: int) -> list[Tap]:
    """Return the last feature of each resolution between that of the image and one pixel, in order.

    None is what a block computes on its way to another resolution, or at another one than that which it keeps, as an
    attention matrix; nor what a layer-norm returns. `called` are the modules that end before the head.
    """
    blocks_of = {
        name: (_side(call.given), _side(call.returned))
        for name, call in called.items()
        if type(modules[name]) is not nn.Sequential and None not in (_side(call.given), _side(call.returned))
    }
    found: dict[int, Tap] = {}
    for name, (_, shape, normalised) in called.items():
        layout = layout_of(shape, IMAGES)
        if (
            normalised
            or layout is None
            or not 1 < layout.side < side
            or isinstance(modules[name], nn.AdaptiveAvgPool2d)
        ):
            continue  # what pools to a given size is of the classifier
        if layout.kind is not Kind.MAP and min(shape[1:]) == 1:
            continue  # a channel's weight, or one vector
        around = [sides for block, sides in blocks_of.items() if name.startswith(f"{block}.")]
        if any(there != layout.side and here in (layout.side, there) for here, there in around):
            continue
        found.pop(layout.side, None)
        found[layout.side] = Tap(name, layout)
    return list(found.values())


def _side(shape: torch.Size) -> int | None:
    layout = layout_of(shape, IMAGES)
    return layout and layout.side


def _segments(network: nn.Module, called: dict[str, Call], heads: Sequence[str]) -> list[str]:
    """Return the parts of the outermost lists of modules that hold several layers, or else those of the network itself.

    Each is given a tensor first; none holds a head, and none begins by changing its input in place, which could not be
    computed again.
    """

    def fits(name: str, part: nn.Module) -> bool:
        leaves = [each for each in part.modules() if not any(each.children())]
        has_head = any(head.startswith(f"{name}.") for head in heads)
        in_place = getattr(leaves[0], "inplace", False)
        return name in called and bool(called[name].given) and len(leaves) > 1 and not has_head and not in_place

    found: list[str] = []
    for name, module in network.named_modules():
        if isinstance(module, (nn.Sequential, nn.ModuleList)) and not any(name.startswith(f"{o}.") for o in found):
            found += [f"{name}.{part}" for part, child in module.named_children() if fits(f"{name}.{part}", child)]
    return found or [name for name, child in network.named_children() if fits(name, child)]
