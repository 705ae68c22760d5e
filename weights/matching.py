"""Match weights that another tool saved to a network here, module by module, in the order of registration.

    found = match("x.pth", torch.load("x.pth", weights_only=True), config)  # RequestError where anything is left over
    found.config["network"], found.config["wrn_depth"], found.state["classifier.weight"], print(found.table)

Two networks of one architecture register their convolutions, batch-norms and linear maps in the same order, by whatever
names. So modules are paired in order, each with one of the same kind and shape; a linear map o×i and a 1×1 convolution
o×i×1×1 are the same. A safetensors file is sorted by name; there the order is found from names, numbers and shapes
(weights/ordering.py). Weights are refused where several orders are possible, or where the names contradict the order.
Tensors do not show strides, activations and epsilons: these are assumed to be as here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pkgutil import resolve_name
from typing import NamedTuple

import torch
from tabulate import tabulate
from torch import Tensor

import blocks
from input import datasets
from layers.registry import parse_conv
from models import build
from models.registry import NETWORKS, Network, describe, size_flags, tap_flags
from system.errors import RequestError
from weights.ordering import Unclear, arrange, natural, naturally, skeleton
from weights.sources import is_file
from weights.state_dict import ROLES

LARGE_PART = 0.4  # of the tensors, for a part to be tried as the network


class Module(NamedTuple):
    """A module as its tensors show it; `tensors` are their names by role (weight, bias, …)."""

    name: str
    kind: str
    shape: tuple[int, ...]
    tensors: dict[str, str]

    @property
    def signature(self) -> tuple:
        """Return what two modules have in common if one's tensors fit the other."""
        if self.kind == "batch-norm":
            return self.kind, self.shape
        return "map", (*self.shape, 1, 1)[:4], "bias" in self.tensors

    def __str__(self) -> str:
        return f"{self.name} ({self.kind} {_text(self.shape)})" if self.shape else f"{self.name} ({self.kind})"


class Match(NamedTuple):
    """The configuration of a network, its state dict by the names here, and a table of their names and ours."""

    config: dict
    state: dict[str, Tensor]
    table: str


def _text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a number"


def modules(state: Mapping[str, Tensor]) -> list[Module]:
    """Return the modules of a state dict, in its order. A tensor whose name ends in no role is a module's weight."""
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
    return Module(name, ", ".join(f"{role} {_text(shape)}" for role, shape in shapes.items()), (), tensors)


def doubt(theirs: Sequence[Module]) -> str:
    """Return why the order of a state dict may not be that of registration; empty where nothing speaks against it.

    Names that are sorted have another order, which would pair the wrong modules of one shape.
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


def _is_sorted(state: Mapping[str, Tensor]) -> bool:
    """Return whether the names are in alphabetical order, which does not show the order of registration."""
    names = list(state)
    return names == sorted(names) or names == sorted(names, key=naturally)


def _crossed(pairs: Sequence[tuple[Module, Module]]) -> str:
    """Return why shortcuts may be exchanged with the 1×1 convolutions beside them; empty where nothing speaks for it.

    In some blocks both have the same shape. If they are exchanged there, shortcuts have several kinds of names.
    """
    found = {
        skeleton(there.name): there.name for there, here in pairs if "shortcut" in here.name and here.kind == "conv"
    }
    return f"both {' and '.join(list(found.values())[:2])} would be shortcuts" if len(found) > 1 else ""


def match(source: str, state: Mapping[str, Tensor], config: dict) -> Match:
    """Return the network for the dataset of `config` whose weights are in `state`; `source` names them in errors.

    Try the network of `config` with its flags, then in the sizes that the weights show, then the other networks. Raise
    RequestError where no network takes exactly these weights, or where it has another number of classes.
    """
    theirs, dataset = modules(state), config["dataset"]
    last = _classifier(theirs)
    wanted = datasets.of(config).classes
    classes = (last.shape or (0,))[0] or wanted
    reason, nearest, unclear = doubt(theirs), (-1.0, ""), ""
    for by_name in (False, True) if not reason or _is_sorted(state) else (False,):
        for candidate, places, ours, used in _tried(theirs, last, config, classes):
            try:
                ordered = arrange(theirs, used) if by_name else _ordered(theirs, used, reason)
            except Unclear as error:
                unclear = unclear or str(error)
                continue
            if ordered is None:
                if by_name or not reason or _same_names(theirs, used):
                    nearest = max(nearest, _apart(theirs, used, describe(candidate), not reason))
                continue
            pairs = list(zip(ordered, used))
            if not _same_names(theirs, used) and (crossed := _crossed(pairs)):
                raise _doubtful(source, crossed)
            if classes != wanted:
                has = f"{describe(candidate)} of {classes} classes"
                raise RequestError(f"{source} is a {has}, {dataset} has {wanted}")
            return _matched(source, state, candidate, pairs, places, len(used) < len(ours))
    if unclear:
        raise _doubtful(source, unclear)
    if nearest[1]:
        raise RequestError(f"{source} fits no network for {dataset}; {nearest[1]}{_part(source, state, config)}")
    raise _doubtful(source, reason)


def _part(source: str, state: Mapping[str, Tensor], config: dict) -> str:
    """Return how to choose the network in a file that holds more (a teacher, a loss); empty if it holds none."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        parts.setdefault(first, {})[rest] = tensor
    for first, part in parts.items() if is_file(source) and len(parts) > 1 else ():
        if len(part) < LARGE_PART * len(state) or "" in part:
            continue
        try:
            match(source, part, config)
        except RequestError:
            continue
        return f"; what begins with {first!r} fits: give {source}:{first}"
    return ""


def _tried(theirs: Sequence[Module], last: Module, config: dict, classes: int) -> Iterator[tuple]:
    """Yield each candidate with its state dict, its modules, and those of them that the weights may be of.

    These are all modules, and all but those of a head that only training uses.
    """
    for candidate in candidates(theirs, last, config):
        try:
            places = _places(candidate, classes)
        except RequestError:  # a size that cannot be
            continue
        ours = modules(places)
        headless = [module for module in ours if not module.name.startswith("auxiliary.")]
        for used in (ours, headless) if len(headless) < len(ours) else (ours,):
            yield candidate, places, ours, used


def _same_names(theirs: Sequence[Module], used: Sequence[Module]) -> bool:
    return {module.name for module in theirs} == {module.name for module in used}


def _ordered(theirs: Sequence[Module], used: Sequence[Module], reason: str) -> list[Module] | None:
    """Return their modules in the order of ours, by name or as they come; None where they do not fit that way."""
    named = {module.name: module for module in theirs}
    by_name = _same_names(theirs, used)
    if reason and not by_name:
        return None
    ordered = [named[module.name] for module in used] if by_name else list(theirs)
    return ordered if [each.signature for each in ordered] == [each.signature for each in used] else None


def _classifier(theirs: Sequence[Module]) -> Module:
    """Return their classifier: by its name, else the only linear map outside auxiliary heads, else the last map."""
    maps = [module for module in theirs if module.shape and module.kind != "batch-norm"] or list(theirs)
    linear = [module for module in maps if len(module.shape) == 2]
    linear = [module for module in linear if "aux" not in module.name] or linear
    named = next((module for module in maps if module.name == "classifier"), None)
    return named or (linear[0] if len(linear) == 1 else maps[-1])


def _doubtful(source: str, reason: str) -> RequestError:
    how = "save the state dict as the network itself gives it, by torch.save (safetensors sorts the names)"
    return RequestError(f"{source}: the order of its modules is in doubt, {reason}: {how}")


def _places(config: dict, classes: int) -> dict[str, Tensor]:
    """Return the state dict of a network, on the meta device."""
    with torch.device("meta"):
        network = build.plain(config, classes)
        blocks.substitute(network, parse_conv(config["conv"]))
    return network.state_dict()


def candidates(theirs: Sequence[Module], last: Module, config: dict) -> Iterator[dict]:
    """Yield configurations of dense networks that the modules may be of, likeliest first; `last` is the classifier."""
    asked = NETWORKS[config["network"]]
    fitting = [each for each in NETWORKS.values() if datasets.is_own(config["dataset"]) or each.side == asked.side]
    same = {key: config.get(key) for key in ("dataset", "data_classes", "image_size", "seed")}
    unset = dict.fromkeys((*size_flags(), *tap_flags()))
    for network in sorted(fitting, key=lambda each: each is not asked):
        of_size = config if network is asked else network.presets
        own = {flag: of_size[flag] for flag in network.size_flags}
        own |= {flag: network.presets[flag] for flag in network.tap_flags}
        rest = {"network": network.name, "conv": network.presets["conv"], "module": None, "where": ""}
        for size in ({}, *sizes(network, theirs, last)):
            yield {**same, **rest, **unset, **own, **size}


def sizes(network: Network, theirs: Sequence[Module], last: Module) -> Iterator[dict]:
    """Yield the size flags of a network that the shapes of the modules show; `last` is the classifier."""
    if network.read_size is not None and len(last.shape) >= 2:
        convolutions = [module.shape for module in theirs if len(module.shape) == 4]
        yield from resolve_name(network.read_size)(convolutions, last.shape)


def _apart(theirs: Sequence[Module], ours: Sequence[Module], what: str, in_order: bool) -> tuple[float, str]:
    """Return how similar two lists of modules are, from 0 to 1, and a text that names the first without a partner.

    With `in_order`, only modules at equal places from the beginning or the end are partners; else any of one shape.
    """
    if in_order:
        begin = _alike(theirs, ours)
        end = _alike(theirs[begin:][::-1], ours[begin:][::-1])
        left = [each[begin : len(each) - end] for each in (theirs, ours)]
    else:
        left = [_more(theirs, ours), _more(ours, theirs)]
    there, here = (", ".join(map(str, each[:3])) + f" and {len(each) - 3} more" * (len(each) > 3) for each in left)
    text = f"left over are, against {what}: of theirs {there or 'nothing'}; of ours {here or 'nothing'}"
    if not (there or here):
        text = f"all kinds and shapes are those of {what}, but no order that their names allow is that of its layers"
    return 1 - max(map(len, left)) / max(len(theirs), len(ours)), text


def _more(these: Sequence[Module], those: Sequence[Module]) -> list[Module]:
    """Return those of `these` that have no partner in `those`."""
    counts, left = Counter(module.signature for module in those), []
    for module in these:
        counts[module.signature] -= 1
        if counts[module.signature] < 0:
            left.append(module)
    return left


def _alike(a: Sequence[Module], b: Sequence[Module]) -> int:
    """Return how many modules are alike at the beginning of two lists."""
    pairs = enumerate(zip(a, b))
    return next((place for place, (x, y) in pairs if x.signature != y.signature), min(len(a), len(b)))


def _matched(
    source: str, state: Mapping[str, Tensor], config: dict, pairs: list[tuple[Module, Module]],
    places: Mapping[str, Tensor], headless: bool,
) -> Match:  # fmt: skip
    found = {}
    for there, here in pairs:
        for role in here.tensors.keys() & there.tensors.keys():
            found[here.tensors[role]] = state[there.tensors[role]].reshape(places[here.tensors[role]].shape)
    rows = [(there.name, here.name, _text(here.shape)) for there, here in pairs]
    lines = [f"{source} is a {describe(config)}:", tabulate(rows, ["theirs", "ours", "shape"], tablefmt="plain")]
    if headless:
        lines.append("it has no auxiliary head, which only training uses: that keeps its initial weights")
    if any("num_batches_tracked" in here.tensors.keys() - there.tensors.keys() for there, here in pairs):
        lines.append("it does not count its batches (num_batches_tracked), which changes nothing: they count from 0")
    return Match(config, found, "\n".join(lines))
