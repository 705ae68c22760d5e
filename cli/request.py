"""A resolved request, which knows what was given and where, and says so as a configuration file. Imports no torch.

    request = options.training(["digits", "teacher", "-t", "demo.teacher", "--lr", "0.05"])
    request.lr, request.document()                           # (0.05, "…\nlr: 0.05  # --lr\n…")

The document is a file for --config. What was given stands in it as keys. What presets and defaults gave stands under `_resolved`, for
people: files ignore a key that begins with `_`, so another network or schedule has its own presets again.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from cli.layers import Asked, located
from input.datasets import DATASETS
from models.registry import NETWORKS
from record.identity import name_of
from system.configuration import Configuration

# How far this process goes, and not which run it is.
OF_PROCESS = ("resume", "until", "dry_run", "evaluate", "json")
SETTLED = ("momentum", "crs_factor")  # whose default depends on no other flag, though their flags have none
LONGEST_ORIGIN = 80  # characters
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*")  # words that need no quotes, but for those that are no texts
OTHER = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")


class Request(Configuration):
    """A resolved configuration with what was given of it. What is made of it by `|` is a plain Configuration."""

    __slots__ = ("_given", "_defaults", "_asked")

    def __init__(self, entries: Mapping[str, Any], asked: Asked, given: Mapping[str, Any], defaults: Mapping[str, Any]):
        super().__init__(entries)
        own = {"_given": dict(given), "_defaults": dict(defaults), "_asked": asked}
        for name, value in own.items():
            object.__setattr__(self, name, value)

    @property
    def is_printed(self) -> bool:
        """Return whether it is only to be printed, as --print_config asks."""
        return self._asked.is_printed

    def document(self) -> str:
        """Return the configuration as a file for --config: what was given and, under `_resolved`, all that follows from it."""
        keys = [key for key in self._defaults if key not in OF_PROCESS]
        given = [key for key in keys if key in self._given]
        lines = [*self._head(), *(_line(key, self._given[key], self._asked.origins[key]) for key in given)]
        # What was given may have come to null, as `optimizer: sgd` does; other nulls say nothing.
        follows = [key for key in keys if self[key] != self._given.get(key)]
        lines += ["", "# What follows: shown for people, and not read again.", "_resolved:"]
        lines += [f"  {_line(key, self[key], self._reason(key))}" for key in follows]
        return "\n".join([*lines, ""])

    def located(self) -> AbstractContextManager[None]:
        """Within it, a RequestError begins with where the values stand that it is about, those of files and of key=value."""
        return located(self._given, self._asked.origins, self._asked.layered)

    def unless_printed(self, speaks: bool = True) -> "Request":
        """Return the request; where it is asked for by --print_config, print it and exit. Args: speaks: whether this rank prints."""
        if self.is_printed:
            if speaks:
                print(self.document(), end="", flush=True)
            raise SystemExit(0)
        return self

    def _head(self) -> Iterator[str]:
        name = name_of(self) if "mode" in self else None
        if name is not None:
            yield f"# The run {name}: main.py --config with this file asks for it again, with --resume to go on."
        yield "# What was given, and where:"

    def _reason(self, key: str) -> str:
        """Return why a key has its value, where it is not the given one."""
        if key in self._given:
            return f"what {self._asked.origins[key]} comes to"
        dataset = DATASETS.get(self["dataset"])
        of_dataset = dataset.presets if dataset else {}
        of_network = NETWORKS[self["network"]].presets_for(self) if "network" in self else {}
        for presets, name in ((of_dataset, self["dataset"]), (of_network, self["network"])):
            if self[key] is not None and key in presets:
                return f"preset of {name}" if self[key] == presets[key] else f"from the preset of {name}"
        own = self._defaults[key].default
        return "default" if self[key] == own or key in SETTLED else "preset"


def _line(key: str, value: Any, origin: str) -> str:
    """Return a line of YAML with a comment."""
    shown = "".join(each if each.isprintable() else " " for each in origin)
    shown = shown if len(shown) <= LONGEST_ORIGIN else f"{shown[:LONGEST_ORIGIN]}…"
    return f"{key}: {text(value)}  # {shown}"


def text(value: Any) -> str:
    """Return a value as YAML in one line, from which its flag reads the same value again."""
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) and value.lower() not in OTHER else f'"{"".join(map(_escaped, value))}"'
    if isinstance(value, float):
        return re.sub(r"^(\d+)e", r"\1.0e", repr(value))  # YAML's readers take 1e-05 for a word
    return json.dumps(value)


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    number = ord(character)
    return character if character.isprintable() else f"\\u{number:04x}" if number < 2**16 else f"\\U{number:08x}"
