"""The layers of a request: configuration files, key=value, flags, each stronger than the one before. Imports no torch.

    asked = read(training_parser(), ["--config", "base.yaml", "mine.yaml", "lr=0.05", "-t", "demo.teacher"])
    asked.options.lr, asked.origins["lr"]                    # (0.05, "lr=0.05")
    asked.origins["prune_at"]                                # "mine.yaml:3"

What no layer gives has the default of its flag, as on a command line that does not give it. Presets are weaker than all
layers, and none of this file's business. Each value, of whatever layer, passes through the parser of its flag.
"""

import argparse
import json
import os
import re
from argparse import Action, Namespace
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from cli.command import Parser
from cli.config_files import ConfigFiles, Entry, Value, entries_of_flow, taken
from cli.words import SETTING, Words, as_file, with_positional, words_of
from layers.mixed import parse_name, parse_open, several
from system.arguments import batch_sizes, gpus, milestones, points
from system.errors import Busy, RequestError, did_you_mean
from weights.sources import check_run_name, check_source

NO_KEYS = ("help", "config", "print_config")
SWITCHED = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NOT_GIVEN = object()


def add_flags(parser: Parser) -> None:
    """Add --config and --print_config to a parser."""
    about = "layers of flags: each file is stronger than those before it, KEY=VALUE than files, flags than both"
    group = parser.add_argument_group("configuration", about)
    group.add_argument(
        "--config", nargs="+", metavar="FILE",
        help="files of YAML whose keys are the names of flags, dataset and mode among them; KEY=VALUE after them, or anywhere, "
        "is one such key",
    )  # fmt: skip
    group.add_argument(
        "--print_config", action="store_true", help="print the configuration with the origin of each value, and end"
    )


@dataclass
class Asked:
    """What was asked for: `options` of all flags, `origins` of what was given, and whether it is only to be printed.

    An origin is `file:line`, `key=value`, `--flag`, or the name of a positional argument; `layered` are the keys whose value is of
    one of the first two, `of_files` of the first.
    """

    options: Namespace
    origins: dict[str, str]
    layered: frozenset[str]
    of_files: frozenset[str] = frozenset()
    is_printed: bool = False

    def without_of_files(self, parser: Parser, keys: Collection[str]) -> "Asked":
        """Return the same without what files give to some keys, which have the defaults of their flags instead."""
        left_out = self.of_files & {*keys}
        options = Namespace(**{**vars(self.options), **{key: default_of(parser, key) for key in left_out}})
        origins = {key: origin for key, origin in self.origins.items() if key not in left_out}
        return Asked(options, origins, self.layered - left_out, self.of_files - left_out, self.is_printed)

    def as_given(self) -> dict[str, Any]:
        """Return the values that were given, by key; resolving changes `options`, not these."""
        return {key: getattr(self.options, key) for key in self.origins}

    def located(self) -> AbstractContextManager[None]:
        """Within it, a RequestError begins with where the values stand that it is about, those of files and of key=value."""
        return located(self.as_given(), self.origins, self.layered)


@contextmanager
def located(given: Mapping[str, Any], origins: Mapping[str, str], layered: Collection[str]) -> Iterator[None]:
    """Put before a RequestError where the values stand that it is about, of the given keys those that are `layered`."""
    try:
        yield
    except RequestError as error:
        places = [origins[key] for key in _mentioned(str(error), given) if key in layered]
        if not places or isinstance(error, Busy):
            raise
        raise RequestError(f"{', '.join(dict.fromkeys(places))}: {error}")


def _mentioned(message: str, given: Mapping[str, Any]) -> list[str]:
    """Return the given keys that a message names as flags; where it names none of them, those whose text it quotes."""
    short = {"t": "teacher_checkpoint", "s": "student_checkpoint"}
    words = [re.sub("^no_", "", word) for word in re.findall(r"(?<![\w-])--?(\w+)", message)]
    named = [key for key in (short.get(word, word) for word in words) if key in given]
    return named or [key for key, value in given.items() if isinstance(value, str) and repr(value) in message]


def read(parser: Parser, arguments: Sequence[str], others: Sequence[Parser] = ()) -> Asked:
    """Return what the layers of a command line ask for. Raise RequestError for the first that is wrong.

    Args: others: parsers whose keys files may give too, which are checked and otherwise ignored here.
    """
    words = words_of(parser, arguments)
    if {"-h", "--help"} & {*words.flags}:
        parser.parse_args(["--help"])
    keys = Keys(parser, others)
    layered = _layered(words, keys)
    if words.files or words.settings:
        if words.unknown:
            raise parser.unexpected(words.unknown[0])
        typed, arguments = with_positional(parser, words, layered)
        layered = {key: each for key, each in layered.items() if key not in typed}
    known = parser.parse_args(arguments, Namespace(**dict.fromkeys(keys.flags, _NOT_GIVEN)))
    return _merged(parser, known, layered)


def layered(parser: Parser, arguments: Sequence[str], others: Sequence[Parser] = ()) -> dict[str, Value]:
    """Return what files and key=value give, with `others` as of `read`. Raise RequestError for the first that is wrong."""
    return _layered(words_of(parser, arguments), Keys(parser, others))


def _layered(words: Words, keys: "Keys") -> dict[str, Value]:
    return {key: each for key, each in given(words, keys).items() if each.value is not None}


def given(words: Words, keys: "Keys") -> dict[str, Value]:
    """Return what files and key=value give to a program's own keys, nulls too. Raise RequestError for the first that is wrong."""
    found: dict[str, Value] = {}
    files = ConfigFiles(keys.take)
    for path in words.files:
        key = path.replace(".", "_")
        if key in keys.own and not os.path.lexists(path):
            raise RequestError(f"there is no configuration file {path!r}; to give this key a value, write {path}=VALUE")
        found |= files.read(path)
    for word in words.settings:
        found |= taken(_entries(word, keys), lambda key, entry: keys.take(key, entry, is_setting=True))
    return {key: each for key, each in found.items() if key in keys.own}


def _entries(word: str, keys: "Keys") -> dict[str, Entry]:
    """Return what a key=value gives: a list or a mapping in brackets where the key takes one, else the text as it is."""
    key, text = SETTING.fullmatch(word).groups()
    key = key.removesuffix("._").replace(".", "_")
    if text[:1] + text[-1:] == "{}" and keys.below(key) or text[:1] + text[-1:] == "[]" and keys.takes_list(key):
        return entries_of_flow(text, key, word)
    return {key: Entry(None if text == "null" else text, word)}


def _merged(parser: Parser, known: Namespace, layered: Mapping[str, Value]) -> Asked:
    """Return the values of a command line, below them those of the layers, below these the defaults."""
    options, origins, of_layers, of_files = Namespace(), {}, set(), set()
    for key, action in keys_of(parser).items():
        value = getattr(known, key)
        if key in layered and (value is _NOT_GIVEN or not action.option_strings):
            value, origins[key], of_file = layered[key]
            of_layers.add(key)
            of_files |= {key} if of_file else set()
        elif value is not _NOT_GIVEN:
            origins[key] = f"--{key}" if action.option_strings else action.metavar or key
        else:
            value = default_of(parser, key)
        setattr(options, key, value)
    return Asked(options, origins, frozenset(of_layers), frozenset(of_files), known.print_config is True)


def default_of(parser: Parser, key: str) -> Any:
    """Return the value of a key that nothing gives."""
    action = keys_of(parser)[key]
    return parser.value(action, action.default) if isinstance(action.default, str) else action.default


def keys_of(parser: Parser) -> dict[str, Action]:
    """Return what a key may be, each with the flag or positional argument that takes its value, in the parser's order."""
    return {action.dest: action for action in parser.arguments() if action.dest not in NO_KEYS}


class Keys:
    """The keys that files and key=value may give, and how each takes its value."""

    def __init__(self, parser: Parser, others: Sequence[Parser] = ()):
        self.own = keys_of(parser)
        self.flags = [action.dest for action in parser.arguments() if action.option_strings and action.dest != "help"]
        self._parsers = [parser, *others]
        self._program = parser.prog

    def below(self, key: str) -> list[str]:
        """Return the keys of all programs that begin with a key and `_`."""
        return [each for parser in self._parsers for each in keys_of(parser) if each.startswith(f"{key}_")]

    def takes_list(self, key: str) -> bool:
        """Return whether the flag of a key takes several values."""
        action = next((keys_of(parser)[key] for parser in self._parsers if key in keys_of(parser)), None)
        return action is not None and join_of(action) is not None

    def take(self, key: str, entry: Entry, is_setting: bool = False) -> dict[str, Value]:
        """Return the value of a key, None where the text is null; of a group, which has no flag, None for all below it.

        Raise RequestError where key or text is wrong. Args: is_setting: whether it stands on the command line, where a key has to
        be one of this program's.
        """
        text, where = entry.text, entry.where
        is_flag = any(key in keys_of(each) for each in self._parsers)
        means = self.below(key) if text is None and not is_flag else [key]
        parser = next((each for each in self._parsers if keys_of(each).keys() & means), None)
        if parser is None:
            raise RequestError(f"{where}: unknown key {key!r}{self._hint(key, where if is_setting else '')}")
        if not self.own.keys() & means:
            self._check_other(key, parser, where, is_setting)
        if text is None:
            return {each: Value(None, where, not is_setting) for each in means}
        return {key: Value(self.value_at(parser, key, text, where), where, not is_setting)}

    def _check_other(self, key: str, parser: Parser, where: str, is_setting: bool) -> None:
        """Raise RequestError for a key of another program on the command line, or one that may be an own key cut short."""
        words = f"{where}: {key!r} is a key of {parser.prog}, {self._program} does not take it"
        longer = [each for each in self.own if each.startswith(f"{key}_")]
        if is_setting or longer:
            raise RequestError(f"{words}{f'; did you mean {longer[0]!r}?' if longer else ''}")

    def value_at(self, parser: Parser, key: str, text: str | list, where: str) -> Any:
        """Return the value that a text gives to a key. Raise RequestError with the place where it is wrong."""
        try:
            value = value_of(parser, keys_of(parser)[key], text)
            if key in CHECKS:
                CHECKS[key](value)
        except RequestError as error:
            raise RequestError(f"{where}: {error}")
        return value

    def _hint(self, key: str, word: str) -> str:
        """Return what may have been meant. Args: word: the key=value, where it is one."""
        if hint := as_file(word):
            return hint
        if key in NO_KEYS:
            return (
                "; `import: FILE` takes in another file" if key == "config" else f": --{key} is given as a flag alone"
            )
        known = {each: action for parser in self._parsers for each, action in keys_of(parser).items()}
        short = [each for each, action in known.items() if f"-{key}" in action.option_strings]
        off = [each for each, action in known.items() if f"--{key}" in action.option_strings and each != key]
        if off:
            return f"; did you mean `{off[0]}: false`?"
        near = f"; did you mean {short[0]!r}?" if short else did_you_mean(key, known, cutoff=0.65)
        return near or f"; {self._program} --help lists all flags"


def value_of(parser: Parser, action: Action, text: str | list) -> Any:
    """Return the value that a flag's parser makes of a text, or of a list as the flag writes it.

    Raise RequestError where the flag does not take it.
    """
    name = argparse.ArgumentError(action, "").argument_name
    if isinstance(text, list):
        if (join := join_of(action)) is None:
            raise RequestError(f"argument {name}: takes one value, no list")
        text = join(text)
    try:
        is_possible = "\0" not in text and bool(os.fsencode(text) or True)
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise RequestError(f"argument {name}: {text[:80]!r} has a character that no argument can have")
    if action.nargs != 0:
        return parser.value(action, text)
    if text.lower() not in SWITCHED:
        raise RequestError(f"argument {name}: {text!r} is neither true nor false")
    return SWITCHED[text.lower()]


def join_of(action: Action) -> Callable[[list], str] | None:
    """Return what writes a list as the text of a flag; None where the flag takes one value."""
    return LISTS.get(action.type) or LISTS.get(action.dest)


def _json(texts: list | str | None) -> str:
    """Return a list of texts as JSON: what reads as a number there is one."""
    if isinstance(texts, list):
        return f"[{', '.join(map(_json, texts))}]"
    try:
        is_number = type(json.loads(texts or "")) in (int, float)
    except ValueError:
        is_number = False
    return texts if is_number else json.dumps(texts)


def _joined(between: str) -> Callable[[list], str]:
    return lambda texts: between.join(each if isinstance(each, str) else _json(each) for each in texts)


def _convs(texts: list) -> str:
    """Return convs as --compare takes them: behind a semicolon each where a mixed one has commas of its own."""
    joined = _joined(";")(texts)
    return joined if "=" in joined else _joined(",")(texts)


# How a list is written for a flag, by the type of its value or its key; other flags take none.
LISTS: dict[Any, Callable[[list], str]] = {
    milestones: _json, batch_sizes: _json, points: _json, gpus: _joined(","), several: _convs, "conv": _joined(","),
}  # fmt: skip


def _check_conv(text: str) -> None:
    """Raise RequestError unless a conv has a right name, with its number or, for a budget, without."""
    try:
        parse_name(text)
    except RequestError as error:
        try:
            parse_open(text)
        except RequestError:
            raise error


# What a parser of flags leaves to later, and can be said of a value alone.
CHECKS: dict[str, Callable[[str], Any]] = {
    "conv": _check_conv,
    "teacher_checkpoint": lambda text: check_source(text, "-t"),
    "student_checkpoint": lambda text: check_run_name(text, "-s"),
    "init_from": lambda text: check_source(text, "--init_from"),
}
