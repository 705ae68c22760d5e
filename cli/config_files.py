"""Read configuration files: YAML whose keys are names of flags. Imports no torch.

    files = ConfigFiles(take)
    files.read("mine.yaml")                    # {"lr": Value(0.05, "mine.yaml:3"), "prune_at": Value(20, "base.yaml:7")}

    import: base.yaml
    lr: 0.05
    prune: {_: TopK_0.05, at: 20}              # prune and prune_at; so is prune.at: 20
    epoch_step: [60, 120]
    momentum: null                             # takes back what base.yaml says; gate: null also gate_where, gate_weight …

Files are only composed to nodes, so that each value keeps its text and its line; no object of Python is ever made of a tag.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from system.errors import RequestError
from system.files import read_file

LARGEST_FILE = 2**18  # bytes
MOST_NODES = 20_000  # of one file with what its aliases repeat: a file of a few lines may stand for billions
DEEPEST = 20  # mappings within each other, and imports
PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "timestamp", "value")}
NULL, MERGE, LIST, MAPPING = (f"tag:yaml.org,2002:{kind}" for kind in ("null", "merge", "seq", "map"))

Text = str | list | None  # what stands in a file: a text, a list of texts or of such lists, or null


class Value(NamedTuple):
    """What a layer gives to a key: the value of the flag, None where it takes back what weaker layers give, and where."""

    value: Any
    where: str
    of_file: bool = True


class Entry(NamedTuple):
    """What stands at a key: its text, and where."""

    text: Text
    where: str


class ConfigFiles:
    """Files that import each other, each read once.

    `take(key, entry)` checks a key with what stands there and returns the flag's value, of a null one for each key that it means.
    """

    def __init__(self, take: Callable[[str, Entry], Mapping[str, Value]]):
        self._take = take
        self._done: dict[str, dict[str, Value]] = {}

    def read(self, path: str, importers: Sequence[str] = (), at: str = "") -> dict[str, Value]:
        """Return what a file and those that it imports give. Raise RequestError with file and line for the first fault.

        Args: importers: the files that lead here, each of which imports the next; at: where the last of them does.
        """
        real, path = os.path.realpath(path), _shortest(path)
        if real in map(os.path.realpath, importers):
            raise RequestError(f"{at}a cycle, {' imports '.join([*importers, path])}: take one of these imports out")
        if len(importers) > DEEPEST:
            raise RequestError(f"{at}more than {DEEPEST} files import each other in a row: put some of them together")
        if real not in self._done:
            file = _Entries(path).of_file(contents(path, at))
            found: dict[str, Value] = {}
            for name, where in file.imports:
                beside = os.path.join(os.path.dirname(path), os.path.expanduser(name))
                found |= self.read(beside, (*importers, path), f"{where}: import: ")
            self._done[real] = found | taken(file.entries, self._take)
        return self._done[real]


def taken(entries: Mapping[str, Entry], take: Callable[[str, Entry], Mapping[str, Value]]) -> dict[str, Value]:
    """Return what the entries of one layer give: its nulls take back what is weaker, and nothing of its own."""
    nulls, given = {}, {}
    for key, entry in entries.items():
        (nulls if entry.text is None else given).update(take(key, entry))
    return nulls | given


def entries_of_flow(text: str, key: str, where: str) -> dict[str, Entry]:
    """Return what a list or a mapping in brackets gives to a key. Raise RequestError where it is not YAML.

    Args: where: what stands in the place of file and line.
    """
    return _Entries(where, has_lines=False).of_flow(text, key)


def _shortest(path: str) -> str:
    """Return a path without `..` and `.`, unless it leads through a link to somewhere else."""
    short = os.path.normpath(path)
    return short if os.path.realpath(short) == os.path.realpath(path) else path


def contents(path: str, at: str = "") -> str:
    """Return the text of a file. Raise RequestError where there is none, with the nearest file of the folder.

    Args: at: what the message begins with, the line that imports the file.
    """
    if os.path.isdir(path):
        inside = os.path.join(path, "config.yaml")
        hint = f"; did you mean {inside!r}?" if os.path.isfile(inside) else ": give a file of YAML"
        raise RequestError(f"{at}{path} is a folder{hint}")
    if not os.path.lexists(path):
        folder = os.path.dirname(path)
        names = [each.name for each in Path(folder or ".").glob("*.y*ml")] if os.path.isdir(folder or ".") else []
        near = get_close_matches(os.path.basename(path), names, n=1)
        hint = f"; did you mean {os.path.join(folder, near[0])!r}?" if near else ""
        raise RequestError(f"{at}there is no configuration file {path!r}{hint}")
    try:
        read = read_file(path)
    except RequestError as error:
        raise RequestError(f"{at}{error}")
    if len(read) > LARGEST_FILE:
        raise RequestError(f"{at}{path} has {len(read):,} bytes: a configuration file may have {LARGEST_FILE:,}")
    try:
        return read.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = read[: error.start].count(b"\n") + 1
        raise RequestError(f"{path}:{line} is no text in UTF-8 (byte 0x{read[error.start]:02x})")


def composed(text: str, name: str, at: Callable[[int], str]) -> yaml.Node | None:
    """Return the root of a text's nodes; None where it is empty. Raise RequestError where it is not YAML.

    Args: name: of the file; at: how a line, counted from 0, is named in a message.
    """
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = error.problem or error.context
        raise RequestError(f"{at(mark.line)} is not YAML: {words}")
    except yaml.reader.ReaderError as error:
        line = next((n for n, each in enumerate(text.split("\n")) if chr(error.character) in each), 0)
        raise RequestError(f"{at(line)} is not YAML: the character U+{error.character:04X} is not allowed")
    except RecursionError:
        raise RequestError(f"{name} is nested too deeply: a configuration needs {DEEPEST} levels at most")


class _Entries:
    """The entries of one text: `imports`, (path, where) in their order, and `entries` by key."""

    def __init__(self, name: str, has_lines: bool = True):
        self.imports: list[tuple[str, str]] = []
        self.entries: dict[str, Entry] = {}
        self._name, self._has_lines = name, has_lines
        self._nodes = 0
        self._lines: dict[str, tuple[int, bool]] = {}  # of each key its line, and whether a merge (<<) has given it

    def of_file(self, text: str) -> "_Entries":
        """Add what the text of a file gives."""
        root = composed(text, self._name, self._at)
        if root is not None and not isinstance(root, yaml.MappingNode):
            raise self._fault(root, "a configuration file holds keys with values, as `lr: 0.1`")
        if root is not None:
            self._add(root, "", False, 0)
        return self

    def of_flow(self, text: str, key: str) -> dict[str, Entry]:
        """Return what a list or a mapping gives to a key."""
        root = composed(text, self._name, self._at)
        if isinstance(root, yaml.MappingNode):
            self._add_given(root, root, key, False, 0)
            return self.entries
        return {key: Entry(self._text(root, key, 0), self._where(root))}

    def _fault(self, node: yaml.Node, words: str) -> RequestError:
        return RequestError(f"{self._where(node)}: {words}")

    def _where(self, node: yaml.Node) -> str:
        return self._at(node.start_mark.line)

    def _at(self, line: int) -> str:
        return f"{self._name}:{line + 1}" if self._has_lines else self._name

    def _count(self, node: yaml.Node, depth: int) -> None:
        """Raise RequestError where aliases repeat too much, or a value lies within itself."""
        self._nodes += 1
        if depth > DEEPEST:
            raise self._fault(node, f"more than {DEEPEST} levels, or an alias within its own anchor")
        if self._nodes > MOST_NODES:
            raise self._fault(node, f"the file and its aliases hold more than {MOST_NODES:,} values")

    def _add_given(self, node: yaml.MappingNode, at: yaml.Node, key: str, merged: bool, depth: int) -> None:
        """Add the entries of the mapping at a key. Raise RequestError where it has none: what was meant would be lost."""
        if not self._add(node, key, merged, depth):
            raise self._fault(at, f"{key}: {{}} gives nothing: give it a value, or keys with values")

    def _add(self, mapping: yaml.MappingNode, prefix: str, merged: bool, depth: int) -> bool:
        """Add the entries of a mapping, whose keys stand behind `prefix`. Return whether it has any, comments aside."""
        has_any = False
        for key_node, node, is_merged in self._pairs(mapping, depth):
            name = key_node.value
            if name.startswith("_") and not (prefix and name == "_"):
                continue
            has_any = True
            if not prefix and name == "import":
                if self._note("import", key_node, merged or is_merged):
                    self._import(node)
                continue
            key = "_".join(each for each in (prefix, name.replace(".", "_")) if each and each != "_")
            if isinstance(node, yaml.MappingNode):
                self._add_given(node, key_node, key, merged or is_merged, depth + 1)
            elif self._note(key, key_node, merged or is_merged):
                self.entries[key] = Entry(self._text(node, key, depth), self._where(key_node))
        return has_any

    def _pairs(self, mapping: yaml.MappingNode, depth: int) -> Iterator[tuple[yaml.Node, yaml.Node, bool]]:
        """Yield the keys of a mapping with their values, then those that it merges (`<<`) and does not have itself."""
        self._count(mapping, depth)
        if mapping.tag != MAPPING:
            raise self._fault(mapping, f"the tag {mapping.tag!r} is not allowed: give keys with values")
        own, merges = set(), []
        for key, value in mapping.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (*PLAIN, NULL, MERGE):
                raise self._fault(key, "a key is one word, the name of a flag")
            if key.tag == MERGE:
                merges += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            own.add(key.value)
            yield key, value, False
        for source in merges:
            if not isinstance(source, yaml.MappingNode):
                raise self._fault(source, "<< merges a mapping, such as *name")
            for key, value, _ in list(self._pairs(source, depth + 1)):
                if key.value not in own:
                    own.add(key.value)
                    yield key, value, True

    def _note(self, key: str, node: yaml.Node, merged: bool) -> bool:
        """Return whether an entry counts: what is merged does only where nothing else gives the key."""
        line, was_merged = self._lines.get(key, (0, True))
        if line and (merged or not was_merged):
            if merged:
                return False
            before = f", before in line {line}" * self._has_lines
            raise self._fault(node, f"{key!r} is given twice{before}: keep one of them")
        self._lines[key] = (node.start_mark.line + 1, merged)
        return True

    def _text(self, node: yaml.Node, key: str, depth: int) -> Text:
        """Return what stands there: texts as they are written, without YAML's reading of numbers and dates."""
        self._count(node, depth)
        if isinstance(node, yaml.MappingNode):
            raise self._fault(node, f"{key!r}: a list holds values, no keys")
        if isinstance(node, yaml.SequenceNode):
            if node.tag == LIST:
                return [self._text(each, key, depth + 1) for each in node.value]
        elif node.tag == NULL:
            return None
        elif node.tag in PLAIN:
            return node.value
        raise self._fault(node, f"{key!r}: the tag {node.tag!r} is not allowed: give a text, a number, a list or null")

    def _import(self, node: yaml.Node) -> None:
        names = self._text(node, "import", 0)
        for name in names if isinstance(names, list) else [names]:
            if not isinstance(name, str) or not name:
                raise self._fault(node, "import: takes the path of a file, from this one's folder, or a list of them")
            self.imports.append((name, self._where(node)))
