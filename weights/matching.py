"""Fit weights that another tool has saved to a network of ours, module by module, in the order of registration.

    found = match("x.pth", torch.load("x.pth", weights_only=True), config)  # RequestError where anything is left over
    found.config["network"], found.config["wrn_depth"], found.state["classifier.weight"], print(found.table)

Two networks of one architecture register their convolutions, batch-norms and linear maps in one order, whatever their
names. So modules are paired in order, each with one of its kind and shape; a linear map o×i and a 1×1 convolution
o×i×1×1 are the same. Where the order is not that of registration, as in a safetensors file, which is sorted, it is
found from names, numbers and shapes (ordering.py); where these allow several orders, or contradict the order, the
weights are refused. What tensors do not show (strides, activations, epsilons) is taken to be as here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pkgutil import resolve_name

import torch
from tabulate import tabulate
from torch import Tensor

import blocks
from input import datasets
from layers.registry import parse_conv
from models import build
from models.libraries import is_of_library
from models.registry import NETWORKS, Network, describe, size_flags, tap_flags
from system.errors import RequestError
from weights import of_library
from weights.modules import Module, crossed, doubt, is_sorted, modules, shape_text
from weights.of_library import Match
from weights.ordering import Unclear, arrange
from weights.sources import is_file

LARGE_PART = 0.4  # a part with at least this share of the tensors is tried as the network


def match(source: str, state: Mapping[str, Tensor], config: dict) -> Match:
    """Return the network for the dataset of `config` that the weights called `source` fit.

    The network of `config` is tried with its flags, then in the sizes that the weights show, then the other networks.
    Published weights are of the library's own network where that is asked for, or no network of ours takes them. Raises
    RequestError where none takes all of the weights and no others, or it has another number of classes.
    """
    tries = [(partial(of_library.fitted, name=name), of_library.Misfit) for name in of_library.possible(source, config)]
    ours = [(_of_ours, RequestError)] if of_library.is_ours(source) else []
    reason = None
    for take, refusal in [*tries, *ours] if is_of_library(config["network"]) else [*ours, *tries]:
        try:
            return take(source, state, config=config)
        except refusal as error:
            reason = reason or error
    raise reason


def _of_ours(source: str, state: Mapping[str, Tensor], config: dict) -> Match:
    """Return the network of ours that weights fit."""
    theirs, dataset = modules(state), config["dataset"]
    last = _classifier(theirs)
    wanted = datasets.of(config).classes
    classes = (last.shape or (0,))[0] or wanted
    reason, nearest, unclear = doubt(theirs), (-1.0, ""), ""
    for by_name in (False, True) if not reason or is_sorted(state) else (False,):
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
            if not _same_names(theirs, used) and (swapped := crossed(pairs)):
                raise _doubtful(source, swapped)
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
    """Return which part of a state dict is the network, beside others (a teacher, a loss), and how to choose it."""
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
    """Yield candidates with the state of each, its modules, and those that the weights may have.

    These are all modules, or all but an auxiliary head, which only training uses.
    """
    for candidate in candidates(theirs, last, config):
        try:
            places = _places(candidate, classes)
        except RequestError:  # an impossible size
            continue
        ours = modules(places)
        headless = [module for module in ours if not module.name.startswith("auxiliary.")]
        for used in (ours, headless) if len(headless) < len(ours) else (ours,):
            yield candidate, places, ours, used


def _same_names(theirs: Sequence[Module], used: Sequence[Module]) -> bool:
    """Return whether both have the same names."""
    return {module.name for module in theirs} == {module.name for module in used}


def _ordered(theirs: Sequence[Module], used: Sequence[Module], reason: str) -> list[Module] | None:
    """Return theirs in the order of ours, by our names or as they come; None where they do not fit in that order."""
    named = {module.name: module for module in theirs}
    by_name = _same_names(theirs, used)
    if reason and not by_name:
        return None
    ordered = [named[module.name] for module in used] if by_name else list(theirs)
    return ordered if [each.signature for each in ordered] == [each.signature for each in used] else None


def _classifier(theirs: Sequence[Module]) -> Module:
    """Return the map that is registered last, in whatever order they are: the only Linear outside auxiliary heads."""
    maps = [module for module in theirs if module.shape and module.kind != "batch-norm"] or list(theirs)
    linear = [module for module in maps if len(module.shape) == 2]
    linear = [module for module in linear if "aux" not in module.name] or linear
    named = next((module for module in maps if module.name in ("classifier", "classifier.1")), None)
    return named or (linear[0] if len(linear) == 1 else maps[-1])


def _doubtful(source: str, reason: str) -> RequestError:
    """Return the error for weights whose order is in doubt."""
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
    own, side = datasets.is_own(config["dataset"]), datasets.of(config).side
    possible = [each for each in NETWORKS.values() if own or side in each.sides]
    same = {key: config.get(key) for key in ("dataset", "data_classes", "image_size", "seed")}
    unset = dict.fromkeys((*size_flags(), *tap_flags()))
    for network in sorted(possible, key=lambda each: each is not asked):
        of_size = config if network is asked else network.presets
        flags = {flag: of_size[flag] for flag in network.size_flags}
        flags |= {flag: network.presets[flag] for flag in network.tap_flags}
        rest = {"network": network.name, "conv": network.presets["conv"], "module": None, "where": ""}
        for size in ({}, *sizes(network, theirs, last)):
            yield {**same, **rest, **unset, **flags, **size}


def sizes(network: Network, theirs: Sequence[Module], last: Module) -> Iterator[dict]:
    """Yield the size flags of a network that the shapes of the modules show; `last` is the classifier."""
    if network.read_size is not None and len(last.shape) >= 2:
        convolutions = [module.shape for module in theirs if len(module.shape) == 4]
        yield from resolve_name(network.read_size)(convolutions, last.shape)


def _apart(theirs: Sequence[Module], ours: Sequence[Module], what: str, in_order: bool) -> tuple[float, str]:
    """Return how near two lists of modules are, from 0 to 1, and in words the first modules that are left over.

    Args: in_order: whether those between a common beginning and a common end are left over, else those of each kind and
    shape.
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
    """Return the modules without a partner among the others."""
    counts, left = Counter(module.signature for module in those), []
    for module in these:
        counts[module.signature] -= 1
        if counts[module.signature] < 0:
            left.append(module)
    return left


def _alike(a: Sequence[Module], b: Sequence[Module]) -> int:
    """Return how many modules two lists have in common at their beginning."""
    pairs = enumerate(zip(a, b))
    return next((place for place, (x, y) in pairs if x.signature != y.signature), min(len(a), len(b)))


def _matched(
    source: str, state: Mapping[str, Tensor], config: dict, pairs: list[tuple[Module, Module]],
    places: Mapping[str, Tensor], headless: bool,
) -> Match:  # fmt: skip
    """Return the weights by our names, with the table and notes for a person."""
    found = {}
    for there, here in pairs:
        for role in here.tensors.keys() & there.tensors.keys():
            found[here.tensors[role]] = state[there.tensors[role]].reshape(places[here.tensors[role]].shape)
    rows = [(there.name, here.name, shape_text(here.shape)) for there, here in pairs]
    lines = [f"{source} is a {describe(config)}:", tabulate(rows, ["theirs", "ours", "shape"], tablefmt="plain")]
    if headless:
        lines.append("it has no auxiliary head, which only training uses: that keeps its initial weights")
    if any("num_batches_tracked" in here.tensors.keys() - there.tensors.keys() for there, here in pairs):
        lines.append("it does not count its batches (num_batches_tracked), which changes nothing: they count from 0")
    return Match(config, found, "\n".join(lines))
