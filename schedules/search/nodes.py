"""The nodes of a YAML file whose shape is known: each wrong one is an error with file and line.

    nodes = Nodes("space.yaml")
    values, lines = nodes.mapping(nodes.root, "a space has keys with values", ("base", "R"), "key")
    nodes.whole(values["R"], "R", 1)

Files are only composed, as by cli/config_files.py: no object of Python is made of a tag.
"""

from argparse import ArgumentTypeError
from collections.abc import Iterable

import yaml

from cli.config_files import LIST, MAPPING, PLAIN, composed, contents
from system.arguments import number
from system.errors import RequestError, did_you_mean


class Nodes:
    """One file. `root` is its outermost node, None where it is empty."""

    def __init__(self, path: str):
        self.path = path
        self.root = composed(contents(path), path, self.at)

    def at(self, line: int) -> str:
        """Return the place of a line, counted from 0, as a message shows it."""
        return f"{self.path}:{line + 1}"

    def fault(self, node: yaml.Node, words: str) -> RequestError:
        """Return the error of a node."""
        return RequestError(f"{self.at(node.start_mark.line)}: {words}")

    def mapping(
        self, node: yaml.Node, wanted: str, known: Iterable[str], what: str
    ) -> tuple[dict[str, yaml.Node], dict[str, str]]:
        """Return the values of a mapping by key, and where each key stands.

        Args: wanted: what to give where it is none; known: the keys that it may have; what: the kind of these.
        """
        if not isinstance(node, yaml.MappingNode) or node.tag != MAPPING:
            raise self.fault(node, wanted)
        values, lines = {}, {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name not in known:
                shown, hint = ("", "") if name is None else (f" {name!r}", did_you_mean(name, known))
                hint = hint or (f"; known: {', '.join(known)}" if len(known) < 10 else "; main.py --help lists them")
                raise self.fault(key, f"unknown {what}{shown}{hint}")
            if name in values:
                raise self.fault(key, f"{name!r} is given twice, before at {lines[name]}: keep one of them")
            values[name], lines[name] = value, self.at(key.start_mark.line)
        return values, lines

    def text(self, node: yaml.Node, what: str, wanted: str) -> str:
        """Return a text, a number or a truth value as it is written. Args: what: its key; wanted: what to give instead."""
        if not isinstance(node, yaml.ScalarNode) or node.tag not in PLAIN:
            raise self.fault(node, f"{what}: give {wanted}")
        return node.value

    def items(self, node: yaml.Node, what: str, wanted: str) -> list[yaml.Node]:
        """Return the nodes of a list. Args: as of `text`."""
        if not isinstance(node, yaml.SequenceNode) or node.tag != LIST:
            raise self.fault(node, f"{what}: give {wanted}")
        return node.value

    def whole(self, node: yaml.Node, what: str, low: int, high: int = 10**6) -> int:
        """Return a whole number from `low` to `high`. Args: what: its key."""
        text = self.text(node, what, "a whole number")
        try:
            return number(int, low, high)(text)
        except ArgumentTypeError as error:
            raise self.fault(node, f"{what}: {error}")
