"""Files of safetensors that export.py writes: they say themselves of which network they are, so they are as good as a run.

    metadata = described("wrn.teacher", config, state, rows)        # texts, for the header of the file
    saved = read("wrn.safetensors")                                 # as a checkpoint; None where the file is another tool's

The header holds the configuration as JSON. It is not trusted: every entry from which a network is built has to be one that
a command line could give, no entry names a file that is opened, and the tensors have to be those of that network, with the
digest that the header says. Reading one runs nothing.
"""

import json
import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from input import datasets, facts
from input.photos.labels import MEANINGS
from models.build import build
from models.registry import NETWORKS, flags
from record.checkpoint import digest
from system.arguments import choice, number, pattern
from system.errors import RequestError, did_you_mean, first_line
from system.user_code import files_of
from weights import exact, files

FORMAT, MARK = "1", "swapconv"  # MARK: the key of the header that says the format
AGAIN = "a file of an earlier version is exported again"
COUNT = number(int, 0, 10**12)
LONGEST_SHOWN = 60  # characters of a value in a message


def _text(most: int, form: str = ".*") -> Callable[[str], str]:
    """Return a type that takes a text of at most so many characters, of the form of a regular expression."""

    def take(text: str) -> str:
        if len(text) > most or not re.fullmatch(form, text, re.DOTALL):
            raise ArgumentTypeError(f"{shown(text)} is not a text of at most {most:,} characters of its form")
        return text

    return take


# What builds and tests a network, and says on which data it was trained: of each the kind of its value, and its type on a command line.
# Nothing else of a configuration is kept: what a machine, a user, a path or another run is called is no part of a network.
KEPT: dict[str, tuple[type, Callable[[str], Any]]] = {
    "dataset": (str, _text(200)), "network": (str, _text(200)), "conv": (str, exact.conv), "where": (str, exact.names),
    "seed": (int, number(int, 0, 2**53)), "epochs": (int, number(int, 0, 10**6)),
    "image_size": (int, number(int, 1, 1024)), "widths": (str, str), "biased": (str, str),
    "shrunk_conv": (str, exact.unmixed), "gate": (str, _text(100)), "gate_where": (str, exact.names),
    "gate_weight": (float, number(float, 0, 1e6)), "data_classes": (int, number(int, 1, 10**6)),
    "data_names": (str, _text(facts.LONGEST_NAMES)), "data_digest": (str, _text(64, "[0-9a-f]+")),
    "data_test_digest": (str, _text(64, "[0-9a-f]+")), "data_train": (int, COUNT), "data_test": (int, COUNT),
    "train_size": (int, COUNT), "val_size": (int, COUNT), "labelled": (str, choice("way of labels", [*MEANINGS])),
    "labelled_classes": (str, _text(64, "[0-9a-f]+")),
}  # fmt: skip
REQUIRED = ("dataset", "network", "conv", "epochs")
THREE = {
    "data_mean": number(float, 0, 1),
    "data_std": number(float, 0, 1, above=True),
}  # of each channel, of pixels in 0..1


def described(
    name: str, config: Mapping[str, Any], state: Mapping[str, Tensor], row: Mapping[str, Any]
) -> dict[str, str]:
    """Return what the header of a file of `state` says, as texts.

    Args: name: what the network is called; row: what is known of its test, and the `epoch` and `step` that its training has come
    to (without them: its end). Raise RequestError for a network with convolutions of the user's own, whose file would have to be run.
    """
    for flag in files_of({**config, "loss": None}):
        what = "its convolutions are" if flag == "module" else "it is"
        why = f"{what} of a file of your own (--{flag}), which safetensors does not hold"
        raise RequestError(f"{name!r} cannot be exported so: {why}; --to onnx or torch holds its graph")
    kept = {key: config[key] for key in (*_kinds(), *THREE) if config.get(key) is not None}
    kept = {"epochs": 0, **exact.by_names({**config, "module": None, "where": config.get("where") or ""} | kept)}
    kept = {key: kept[key] for key in (*_kinds(), *THREE) if kept.get(key) not in (None, "")}
    tested = {key: value for key, value in row.items() if key.startswith("test_") and math.isfinite(value)}
    return {
        MARK: FORMAT,
        "format": "pt",
        "name": name,
        "config": json.dumps(kept),
        "trained": json.dumps({"epoch": row.get("epoch", kept["epochs"]), "step": row.get("step", 0)}),
        "test": json.dumps(tested),
        "digest": digest(dict(state)),
    }


def read(path: str) -> dict | None:
    """Return a file of ours as a checkpoint: `config`, `model`, `epoch`, `step`, `rows`; None where it is no such file.

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
        config, trained, tested = (_object(header, key) for key in ("config", "trained", "test"))
        config = _checked(config)
        epoch, step = _trained(trained, config["epochs"])
    except RequestError as error:
        raise RequestError(f"{path} says of itself what cannot be: {error}")
    state = files.load(path)
    places = _places(path, config)
    if wrong := _difference(state, places):
        raise RequestError(f"{path} does not hold the network of which it says it is: {wrong}")
    if digest(state) != header.get("digest"):
        raise RequestError(f"{path} is damaged: its weights have another digest than it says: {files.TRY_AGAIN}")
    rows = [tested] if all(_is_number(value) for value in tested.values()) else []
    return {"config": config, "model": state, "epoch": epoch, "step": step, "rows": rows}


def _object(header: Mapping[str, str], key: str) -> dict:
    """Return the JSON object of an entry."""
    try:
        found = json.loads(header[key])
    except KeyError:
        raise RequestError(f"it has no {key!r}; {AGAIN}")
    except (ValueError, RecursionError) as error:
        raise RequestError(f"its {key!r} is no JSON ({first_line(error)})")
    if not isinstance(found, dict):
        raise RequestError(f"its {key!r} is {type(found).__name__}, not an object")
    return found


def _kinds() -> dict[str, tuple[type, Callable[[str], Any]]]:
    """Return `KEPT` with the flags of networks. One that is a regular expression has names of layers."""
    kinds = {flag.dest: (str if flag.type is pattern else float, flag.type) for flag in flags()}
    return KEPT | {key: (kind, exact.names if parse is pattern else parse) for key, (kind, parse) in kinds.items()}


def _checked(config: dict) -> dict:
    """Return the entries that are kept, None for one that is missing. Raise RequestError for one that no command line could give."""
    for path in files_of(config).values():
        raise RequestError(f"it would run the file {path!r}, which no file of weights may")
    found: dict[str, Any] = {"module": None}
    for key, (kind, parse) in _kinds().items():
        found[key] = _parsed(key, config.get(key), kind, parse)
    for key, parse in THREE.items():
        values = config.get(key)
        if values is not None and not (isinstance(values, list) and len(values) == 3):
            raise RequestError(f"its {key} is {shown(values)}, not three numbers")
        found[key] = None if values is None else [_parsed(key, value, float, parse) for value in values]
        if values is not None and None in found[key]:
            raise RequestError(f"its {key} is {shown(values)}, not three numbers")
    if missing := [key for key in REQUIRED if found[key] is None]:
        raise RequestError(f"it does not say its {missing[0]}")
    if not datasets.is_known(found):
        hint = did_you_mean(found["dataset"], datasets.DATASETS)
        raise RequestError(f"its dataset {found['dataset']!r} is not known{hint}")
    if found["network"] not in NETWORKS:
        hint = did_you_mean(found["network"], NETWORKS)
        raise RequestError(f"its network {found['network']!r} is not known{hint}")
    return found | {"where": found["where"] or "", "seed": found["seed"] or 0}


def _parsed(key: str, value: object, kind: type, parse: Callable[[str], Any]) -> Any:
    """Return an entry as the command line would read it; None where it is missing, "" is too."""
    if value is None or value == "":
        return None
    kinds = {float: (int, float), int: (int,), str: (str,)}[kind]
    if type(value) not in kinds:
        raise RequestError(f"its {key} is {shown(value)}")
    try:
        return parse(str(value))
    except (ArgumentTypeError, ValueError, TypeError) as error:
        raise RequestError(f"its {key}: {first_line(error)}")


def shown(value: object) -> str:
    """Return a value as a message shows it: its beginning, where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _trained(entry: dict, epochs: int) -> tuple[int, int]:
    """Return how many epochs of a training of `epochs`, and steps of the next one, are done."""
    epoch, step = (_parsed(key, entry.get(key), int, COUNT) for key in ("epoch", "step"))
    if epoch is None or step is None or epoch > epochs or (epoch == epochs and step):
        raise RequestError(f"its training has come to epoch {epoch} of {epochs} and step {step}")
    return epoch, step


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


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
