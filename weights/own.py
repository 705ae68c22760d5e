"""Files of safetensors that export.py writes: they say themselves of which network they are, so they are as good as a run.

    metadata = described("wrn.teacher", config, state, rows)        # texts, for the header of the file
    saved = read("wrn.safetensors")                                 # as a checkpoint; None where the file is another tool's

The header holds the configuration as JSON. It is not trusted: every entry from which a network is built has to be one that
a command line could give, no entry names a file that is opened, and the tensors have to be those of that network, with the
digest that the header says. Reading one runs nothing.
"""

import json
import math
from argparse import ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from input import datasets
from models.build import build
from models.registry import NETWORKS, flags
from record.checkpoint import digest
from record.identity import ORIGINS
from system.errors import RequestError, did_you_mean, first_line
from system.user_code import files_of
from weights import files
from weights.sources import is_file

FORMAT, MARK = "1", "swapconv"  # MARK: the key of the header that says the format
# What a machine, a user or a path is called is no part of a network.
LEFT_OUT = (
    "data_dir", "imagenet_loc", "val_labels", "workers", "device", "GPU", "data_folder", "module_digest", "download",
    "resume", "evaluate", "dry_run", "json", "print_freq", "gate_skip", "until", "checkpoint_every", "cache_teacher",
)  # fmt: skip
TEXTS = ("dataset", "network", "conv")
OR_NONE = {"where": str, "widths": str, "gate": str, "gate_where": str, "biased": str, "data_names": str}
NUMBERS = {"seed": int, "epochs": int, "image_size": int, "data_classes": int, "gate_weight": float}
MOST = 1 << 31  # of any number


def described(
    name: str, config: Mapping[str, Any], state: Mapping[str, Tensor], row: Mapping[str, Any]
) -> dict[str, str]:
    """Return what the header of a file of `state` says, as texts.

    Args: name: what the network is called; row: what is known of its test. Raise RequestError for a network with convolutions of
    the user's own, whose file would have to be run.
    """
    for flag in files_of({**config, "loss": None}):
        what = "its convolutions are" if flag == "module" else "it is"
        why = f"{what} of a file of your own (--{flag}), which safetensors does not hold"
        raise RequestError(f"{name!r} cannot be exported so: {why}; --to onnx or torch holds its graph")
    kept = {key: value for key, value in config.items() if key not in LEFT_OUT}
    kept |= {key: Path(config[key]).name for key in ORIGINS if is_file(config.get(key) or "")}
    tested = {key: value for key, value in row.items() if key.startswith("test_") and math.isfinite(value)}
    return {
        MARK: FORMAT,
        "format": "pt",
        "name": name,
        "config": json.dumps({"epochs": 0, **kept}),
        "test": json.dumps(tested),
        "digest": digest(dict(state)),
    }


def read(path: str) -> dict | None:
    """Return a file of ours as a checkpoint: `config`, `model`, `epoch`, `rows`; None where it is no such file.

    Raise RequestError where the header says what cannot be, or the tensors are not those of its network.
    """
    header = files.header(path)
    if MARK not in header:
        return None
    if header[MARK] != FORMAT:
        raise RequestError(
            f"{path} has format {header[MARK]!r} of swapconv's, this version reads {FORMAT}: use a newer one"
        )
    try:
        config, tested = (_object(header, key) for key in ("config", "test"))
        _check(config)
    except RequestError as error:
        raise RequestError(f"{path} says of itself what cannot be: {error}")
    state = files.load(path)
    places = _places(path, config)
    if wrong := _difference(state, places):
        raise RequestError(f"{path} does not hold the network of which it says it is: {wrong}")
    if digest(state) != header.get("digest"):
        raise RequestError(f"{path} is damaged: its weights have another digest than it says: {files.TRY_AGAIN}")
    rows = [tested] if all(_is_number(value, float) for value in tested.values()) else []
    return {"config": config, "model": state, "epoch": config["epochs"], "step": 0, "rows": rows}


def _object(header: Mapping[str, str], key: str) -> dict:
    """Return the JSON object of an entry."""
    try:
        found = json.loads(header[key])
    except KeyError:
        raise RequestError(f"it has no {key!r}")
    except (ValueError, RecursionError) as error:
        raise RequestError(f"its {key!r} is no JSON ({first_line(error)})")
    if not isinstance(found, dict):
        raise RequestError(f"its {key!r} is {type(found).__name__}, not an object")
    return found


def _check(config: dict) -> None:
    """Raise RequestError where an entry from which a network is built is not one that a command line could give."""
    required, optional = dict.fromkeys(TEXTS, str), {**OR_NONE, **dict.fromkeys(NUMBERS, int | float)}
    for key, kind in {**required, **optional}.items():
        if not isinstance(config.get(key), kind if key in required else kind | None):
            raise RequestError(f"its {key} is {config.get(key)!r}")
    for key, kind in NUMBERS.items():
        if config.get(key) is not None and not _is_number(config[key], kind):
            raise RequestError(f"its {key} is {config[key]!r}")
    for key in ("data_mean", "data_std"):
        if config.get(key) is not None and not _are_three(config[key]):
            raise RequestError(f"its {key} is {config[key]!r}")
    for path in files_of({**config, "loss": None}).values():
        raise RequestError(f"it would run the file {path!r}, which no file of weights may")
    if not datasets.is_known(config):
        hint = did_you_mean(config["dataset"], datasets.DATASETS)
        raise RequestError(f"its dataset {config['dataset']!r} is not known{hint}")
    if config["network"] not in NETWORKS:
        hint = did_you_mean(config["network"], NETWORKS)
        raise RequestError(f"its network {config['network']!r} is not known{hint}")
    if config.get("epochs") is None:
        raise RequestError("it does not say its epochs")
    for flag in flags():
        _check_flag(flag, config)
    config.update({"module": None, "where": config.get("where") or "", "seed": config.get("seed") or 0})


def _are_three(values: object) -> bool:
    return isinstance(values, list) and len(values) == 3 and all(_is_number(each, float) for each in values)


def _is_number(value: object, kind: type) -> bool:
    kinds = (int, float) if kind is float else (int,)
    return isinstance(value, kinds) and not isinstance(value, bool) and -MOST < value < MOST


def _check_flag(flag, config: dict) -> None:
    """Read a flag of a network's size as the command line would; one that is missing is off."""
    value = config.setdefault(flag.dest, None)
    if value is None:
        return
    if not isinstance(value, str | int | float):
        raise RequestError(f"its {flag.dest} is {value!r}")
    try:
        config[flag.dest] = flag.type(str(value))
    except (ArgumentTypeError, ValueError, TypeError) as error:
        raise RequestError(f"its {flag.dest}: {first_line(error)}")


def _places(path: str, config: dict) -> dict[str, Tensor]:
    """Return the state of the network of a configuration, on the meta device."""
    try:
        return build(config).state_dict()
    except RequestError as error:
        raise RequestError(f"{path} says of itself what cannot be: {error}")
    except Exception as error:  # whatever entries that no run has make a network raise
        raise RequestError(f"{path} says of itself what cannot be: no network is built so ({first_line(error)})")


def _difference(state: Mapping[str, Tensor], places: Mapping[str, Tensor]) -> str:
    """Return how the tensors of a file differ from those of its network; empty where they do not."""
    if missing := [name for name in places if name not in state]:
        return f"{len(missing):,} of its tensors are missing, first {missing[0]}"
    if over := [name for name in state if name not in places]:
        return f"{len(over):,} tensors are not of it, first {over[0]}"
    for name, place in places.items():
        there = state[name]
        if there.shape != place.shape or there.dtype != place.dtype:
            shapes = [f"{each.dtype} {tuple(each.shape)}".removeprefix("torch.") for each in (there, place)]
            return f"{name} is {shapes[0]}, of the network {shapes[1]}"
        if not place.is_meta and not place.equal(there):  # the seed of its hashes
            return f"{name} is {there.tolist()}, of the network {place.tolist()}"
    return ""
