"""The modules of a state dict, and signs that their order is not that in which a network registers them.

theirs = modules(state)                      # [Module("conv1", "conv", (16, 3, 3, 3), …), …]
doubt(theirs)                                # empty where nothing is wrong with the order
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from weights.ordering import natural, naturally, skeleton
from weights.state_dict import ROLES


class Module(NamedTuple):
    """A module as its tensors show it: `tensors` are their names by role."""

    name: str
    kind: str
    shape: tuple[int, ...]
    tensors: dict[str, str]

    @property
    def signature(self) -> tuple:
        """What a module has in common with each one that it can be paired with."""
        if self.kind == "batch-norm":
            return self.kind, self.shape
        return "map", (*self.shape, 1, 1)[:4], "bias" in self.tensors

    def __str__(self) -> str:
        return f"{self.name} ({self.kind} {shape_text(self.shape)})" if self.shape else f"{self.name} ({self.kind})"


def shape_text(shape: Sequence[int]) -> str:
    """Return `16×3×3×3`."""
    return "×".join(map(str, shape)) or "a number"


def modules(state: Mapping[str, Tensor]) -> list[Module]:
    """Return the modules of a state dict in its order. A tensor without a role is the weight of a module of its own."""
    tensors: dict[str, dict[str, str]] = {}
    for name in state:
        prefix, _, role = name.rpartition(".")
        owner = (prefix, role) if prefix and role in ROLES else (name, "weight")
        tensors.setdefault(owner[0], {})[owner[1]] = name
    return [_module(name, roles, state) for name, roles in tensors.items()]


def _module(name: str, tensors: dict[str, str], state: Mapping[str, Tensor]) -> Module:
    shapes = {role: tuple(state[each].shape) for role, each in tensors.items()}
    shapes.pop("num_batches_tracked", None)
    weight = shapes.get("weight", ())
    if set(shapes) == {*ROLES[:4]} and len(weight) == 1 and len({*shapes.values()}) == 1:
        return Module(name, "batch-norm", weight, tensors)
    if len(weight) in (2, 4) and shapes in ({"weight": weight}, {"weight": weight, "bias": weight[:1]}):
        biased = " with bias" if "bias" in shapes else ""
        return Module(name, ("linear" if len(weight) == 2 else "conv") + biased, weight, tensors)
    return Module(name, ", ".join(f"{role} {shape_text(shape)}" for role, shape in shapes.items()), (), tensors)


def doubt(theirs: Sequence[Module]) -> str:
    """Return why the order of a state dict may not be that of registration; empty where there is no reason.

    A sorted order is another one, and would pair modules wrongly where shapes are alike.
    """
    last: dict[str, tuple[tuple, str]] = {}
    for module in theirs:
        given = list(module.tensors)
        if given != [role for role in ROLES if role in given]:
            return f"{module.name} has its {given[0]} before its {next(role for role in ROLES if role in given)}"
        numbers = natural(module.name)
        alike = skeleton(module.name)
        before, name = last.get(alike, (None, ""))
        if before is not None and numbers <= before:
            return f"{module.name} comes after {name}"
        last[alike] = numbers, module.name
    return ""


def is_sorted(state: Mapping[str, Tensor]) -> bool:
    """Return whether the names are in an alphabetical order, which says nothing about that of registration."""
    names = list(state)
    return names == sorted(names) or names == sorted(names, key=naturally)


def crossed(pairs: Sequence[tuple[Module, Module]]) -> str:
    """Return why shortcuts may be paired with the 1×1 convolutions beside them; empty where there is no reason.

    In some blocks these have the same shape. Then shortcuts that do not have the same name in all blocks are a sign.
    """
    found = {
        skeleton(there.name): there.name for there, here in pairs if "shortcut" in here.name and here.kind == "conv"
    }
    return f"both {' and '.join(list(found.values())[:2])} would be shortcuts" if len(found) > 1 else ""
