"""Layers by their exact names, in place of regular expressions, for configurations that come from elsewhere.

    config = by_names(config)                    # where="conv[12]" becomes "^(?:a\\.conv1|a\\.conv2)$", a mixed conv likewise
    names("^(?:a\\.conv1|a\\.conv2)$")             # the text itself; ArgumentTypeError for any other expression

An expression of somebody else's may take years to match, as "(([a-z0-9.]*)*)*X" does. Those that are taken here take a time in
proportion to their length: nothing in them repeats.
"""

import re
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from typing import Any

import blocks
from layers.mixed import MixedName, is_variational, parse_name, reaches_classifiers
from models.build import build, reference

LONGEST = 500_000  # characters of an expression, or of a mixed name
SHOWN = 40  # characters of one in a message
NAMES = r"\^\(\?:(?:\w|\\\W|\|)+\)\$"  # what `exactly` returns
CONV = r"[\w.+-]{1,100}"  # a name that is not mixed
MIXED = re.compile(f"{CONV}|{NAMES}={CONV}(?:,{NAMES}={CONV})*")


def exactly(layers: Iterable[str]) -> str:
    """Return the regular expression that is found in these dotted names alone."""
    return f"^(?:{'|'.join(map(re.escape, layers))})$"


def names(text: str) -> str:
    """Take an expression that `exactly` returns. Raise ArgumentTypeError for another one."""
    return _taken(text, re.compile(NAMES), "names of layers, as '^(?:conv1|conv2)$'")


def conv(text: str) -> str:
    """Take the name of a conv, of which a mixed one says its layers by name. Raise ArgumentTypeError for another one."""
    return _taken(text, MIXED, "the name of a conv, nor a mixed one such as '^(?:conv1|conv2)$=SepHashed_0.1'")


def unmixed(text: str) -> str:
    """Take the name of a conv that is not mixed. Raise ArgumentTypeError for another one."""
    return _taken(text, re.compile(CONV), "the name of a conv")


def _taken(text: str, form: re.Pattern, wanted: str) -> str:
    if len(text) > LONGEST or not form.fullmatch(text):
        shown = repr(text[:SHOWN]) + ("…" if len(text) > SHOWN else "")
        raise ArgumentTypeError(f"{shown} is not {wanted}; a file of an earlier version is exported again")
    return text


def by_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that builds the same network, and whose expressions are all as `exactly` gives them.

    Of a shrunk network's former conv, a mixed one, the part that decides whether the classifier was replaced stays. Raise
    RequestError where no network is built so.
    """
    changed: dict[str, Any] = {}
    mixed = parse_name(config["conv"])
    if config.get("where") or isinstance(mixed, MixedName):
        with_classifiers = reaches_classifiers(config) or blocks.replaces_classifiers(mixed)
        chosen = blocks.chosen(reference(config), config.get("where") or "", with_classifiers)
        if config.get("where"):
            changed["where"] = exactly(chosen)
        if isinstance(mixed, MixedName):
            changed["conv"] = _mixed_by_names(mixed, chosen)
    if "=" in (config.get("shrunk_conv") or ""):
        before = [str(name) for _, name in parse_name(config["shrunk_conv"]).parts]
        changed["shrunk_conv"] = next(filter(is_variational, before), before[0])
    if config.get("gate_where") or config.get("taps"):
        network = build(dict(config))
        if config.get("gate_where"):
            changed["gate_where"] = exactly([*network.gates.by_name(), *network.gates.left])
        if config.get("taps"):
            changed["taps"] = exactly(tap.name for tap in network.anatomy.taps)
    return {**config, **changed}


def _mixed_by_names(mixed: MixedName, layers: list[str]) -> str:
    """Return a mixed name by the layers that each of its parts decides."""
    mixed.decide(layers)  # each decides some
    firsts = [
        next((place for place, (regex, _) in enumerate(mixed.parts) if re.search(regex, layer)), None)
        for layer in layers
    ]
    parts = [[layer for layer, first in zip(layers, firsts) if first == place] for place in range(len(mixed.parts))]
    return ",".join(f"{exactly(decided)}={name}" for decided, (_, name) in zip(parts, mixed.parts))
