"""The state dict in what a file holds: within wrappers, beside other state dicts, under a key that the user gives.

    state = pick("w.pth", {"model": …, "model_ema": …, "epoch": 3})          # model's, and says so on stderr
    state = pick("w.pth", loaded, "model_ema")

Prefixes that tools put before a network's names (`module.`, `model.`) are removed, values become float32, and counters
of training steps are dropped. RequestError where there is no state dict, or where it is not clear which one is wanted.
"""

import re
import sys
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from system.errors import RequestError, did_you_mean

State = dict[str, Tensor]
Candidates = dict[str, dict]  # state dicts by their dotted keys, '' where the whole file is one

# Keys of the trained weights, the likeliest first; another key (model_ema, …) is taken where it is the only one.
WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "params", "model_state", "weights")
NO_WEIGHTS = re.compile(r"optim|sched|scaler|rng|callbacks$|loops$|hyper_parameters|hparams|^args$|^config$|^stats$")
COUNTERS = {"n_averaged", "num_updates", "updates", "step", "steps", "global_step", "epoch", "iteration", "initted"}
CONVERTED = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float64: "float64"}
INTEGERS = ("num_batches_tracked", "relative_position_index")  # the second in windows of attention
ROLES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")  # as PyTorch's modules register them
DEEPEST = 4


def pick(path: str, loaded: object, key: str | None = None) -> State:
    """Return the state dict in `loaded`, in float32, with the names that the network gave.

    Args: path: the file that holds it, for messages; key: the dotted key of the state dict. Raises RequestError where
    there is none, or where several are there and none is the likeliest.
    """
    if isinstance(loaded, dict) and {"format", "model", "config", "rows"} <= loaded.keys():
        raise RequestError(f"{path} is a checkpoint of swapconv without its SHA-256: it was cut, or changed")
    found = candidates(loaded)
    if key is not None:
        loaded = _under(path, key, loaded, found)
        found = candidates(loaded)
    state = _chosen(path, found, key)
    if state is None:
        there = ", ".join(map(repr, list(loaded)[:5])) if isinstance(loaded, dict) else type(loaded).__name__
        where = f" under {key!r}" if key else ""
        looked = f"looked for: {', '.join(WRAPPERS)}"
        raise RequestError(f"{path} holds no state dict{where}, but {there or 'nothing'} ({looked})")
    return _plain(path, without_prefixes(_checked(path, state)))


def candidates(loaded: object, before: str = "", depth: int = 0) -> Candidates:
    """Return the state dicts in what a file holds, however deep, by their keys."""
    if not isinstance(loaded, dict):
        return {}
    found: Candidates = {}
    if not _has_modules(loaded) and depth < DEEPEST:
        for key, value in loaded.items():
            if isinstance(key, str) and not NO_WEIGHTS.search(key):
                found |= candidates(value, f"{before}.{key}".lstrip("."), depth + 1)
    if found:
        params, stats = (loaded.get(each) for each in ("params", "stats"))
        if _has_weights(params) and _has_weights(stats) and not params.keys() & stats.keys():
            found[f"{before}.params".lstrip(".")] = {**params, **stats}  # batch-norm's statistics are kept apart
        return found
    return {before: loaded} if _has_weights(loaded) else {}


def _has_weights(value: object) -> bool:
    """Return whether a value is a dict with tensors that may be weights."""
    return isinstance(value, dict) and any(
        isinstance(each, Tensor) and (each.ndim or not isinstance(name, str) or "." in name)
        for name, each in value.items()
    )


def _has_modules(value: dict) -> bool:
    """Return whether a dict's own tensors have the names of modules' tensors."""
    names = (name for name, each in value.items() if isinstance(each, Tensor) and isinstance(name, str))
    return any(name.rpartition(".")[2] in ROLES for name in names)


def _chosen(path: str, found: Candidates, key: str | None) -> dict | None:
    """Return the likeliest state dict. Raise RequestError where that is not clear; print the others on stderr."""
    known = [each for each in found if all(part in WRAPPERS for part in each.split(".") if part)]
    ranked = sorted(known, key=lambda each: [WRAPPERS.index(part) for part in each.split(".") if part])
    if len(found) > 1:
        others = [name for name in found if name != ranked[0]] if ranked else list(found)
        prefix = f"{key}." if key else ""
        choice = f"{path}:{prefix}{others[0]}"
        if not ranked:
            listed = ", ".join(repr(prefix + name) for name in found)
            raise RequestError(f"{path} holds several state dicts, {listed}: choose one, as by {choice}")
        listed = ", ".join(repr(prefix + name) for name in others)
        taken = f"the weights under {prefix + ranked[0]!r} are taken"
        print(f"{path}: {taken}, there are also {listed} ({choice})", file=sys.stderr)
    name = next(iter(ranked or found), None)
    return None if name is None else found[name]


def _under(path: str, key: str, loaded: object, found: Candidates) -> object:
    """Return what is under a dotted key of a file or a state dict in it, or the entries with that prefix."""
    for value in ({**found, **loaded} if isinstance(loaded, dict) else loaded, *found.values()):
        for each in _reached(value, key):
            return each
    prefixes = {name.partition(".")[0] for state in found.values() for name in state if "." in str(name)}
    if found.keys() == {""}:
        there, what = sorted(prefixes), "it is itself a state dict and needs no key, its names begin with"
    elif found:
        there, what = [*found], "it holds state dicts under"
    else:
        there, what = [str(each) for each in loaded] if isinstance(loaded, dict) else [], "it holds"
    listed = ", ".join(map(repr, there[:8])) or "nothing that has a key"
    raise RequestError(f"{path} has no {key!r}{did_you_mean(key, [*there, *sorted(prefixes)])}: {what} {listed}")


def _reached(value: object, key: str) -> Iterator[object]:
    """Yield whatever a dotted key leads to, the longest parts first: a key may hold dots itself."""
    if not isinstance(value, dict):
        return
    if key in value:
        yield value[key]
    parts = key.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        if (head := ".".join(parts[:cut])) in value:
            yield from _reached(value[head], ".".join(parts[cut:]))
    if named := {name.removeprefix(f"{key}."): each for name, each in value.items() if str(name).startswith(f"{key}.")}:
        yield named


def _checked(path: str, state: dict) -> dict:
    """Return the tensors, without counters. Raise RequestError where anything else is among them."""
    tensors = {}
    for name, tensor in state.items():
        if isinstance(name, str) and _is_counter(name, tensor):
            continue
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise RequestError(f"{path} holds no state dict: its {name!r} is {type(tensor).__name__}")
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        known = tensor.dtype in (torch.float32, *CONVERTED) or (
            name.endswith("num_batches_tracked") and not tensor.is_complex()
        )
        if not plain or not known:
            way = f"if it is no part of the network, give {path}:KEY with what the names of the network begin with"
            raise RequestError(f"{path}: {name} is no weight, but a tensor of {tensor.dtype} ({tensor.layout}): {way}")
        tensors[name] = tensor.detach()
    return tensors


def _is_counter(name: str, value: object) -> bool:
    """Return whether an entry counts steps, as torch's AveragedModel and EMA classes do, or is torch's own note."""
    last = name.rpartition(".")[2]
    if last == "_metadata":
        return isinstance(value, dict)
    if isinstance(value, Tensor):
        whole = not value.is_floating_point() and not value.is_complex() and value.numel() == 1
        return last in COUNTERS and whole
    return last in COUNTERS | {"num_batches_tracked"} and isinstance(value, (int, np.integer))


def without_prefixes(state: Mapping[str, Tensor]) -> State:
    """Return the state without the prefix that all names have.

    Such are `module.` of DataParallel, `_orig_mod.` of torch.compile and `model.` of Lightning.
    """
    while True:
        split = [name.partition(".") for name in state]
        rests = {rest.rpartition(".")[0] or rest for _, _, rest in split}
        if len({first for first, _, _ in split}) != 1 or "" in rests or len(rests) == 1:
            return dict(state)
        if all(rest in ROLES for _, _, rest in split):  # a single module
            return dict(state)
        state = {rest: tensor for (_, _, rest), tensor in zip(split, state.values())}


def _plain(path: str, state: State) -> State:
    """Return the state in float32."""
    if odd := {CONVERTED[each.dtype]: None for each in state.values() if each.dtype in CONVERTED}:
        print(f"{path}: its weights in {', '.join(odd)} are converted to float32", file=sys.stderr)
    return {name: each.float() if each.dtype in CONVERTED else each for name, each in state.items()}
