"""The words of a command line by what they are: flags, positional arguments, files of --config, key=value. Imports no torch.

words = words_of(training_parser(), ["--config", "base.yaml", "lr=0.05", "--seed", "3", "digits", "teacher"])
words.files, words.settings, words.flags, words.positional
# (["base.yaml"], ["lr=0.05"], ["--seed", "3"], ["digits", "teacher"])
"""

import re
from argparse import Action
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cli.command import Parser
from cli.config_files import Value
from system.errors import RequestError

BATCH_SIZES = "[1,128]"  # of --latency alone
SETTING = re.compile(r"([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)


@dataclass
class Words:
    """The words of a command line; `flags` are followed by their values.

    `unknown` are the flags that the parser does not know, of which nobody can say whether they take a value.
    """

    flags: list[str] = field(default_factory=list)
    positional: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def words_of(parser: Parser, arguments: Sequence[str]) -> Words:
    """Return the words of a command line by what they are. Raise RequestError where --config names no file.

    --config takes the words up to the next flag, but for key=value and, after its first file, a dataset and a mode.
    """
    words, rest = Words(), iter(arguments)
    in_config = needs_file = False
    for word in rest:
        is_config = word == "--config" or word.startswith("--config=")
        if needs_file and word.startswith("-"):
            break
        if word == "--":
            words.positional += rest
        elif is_config:
            words.files += [word.partition("=")[2]] if "=" in word else []
            in_config, needs_file = True, "=" not in word
        elif word.startswith("-") and len(word) > 1:
            in_config = False
            words.flags.append(word)
            words.unknown += [word] if not parser.knows(word) else []
            words.flags += [next(rest, None)] if parser.takes_next(word) else []
        elif SETTING.fullmatch(word):
            words.settings.append(word)
        elif needs_file or (in_config and not _is_positional(parser, word)):
            words.files.append(word)
            needs_file = False
        else:
            words.positional.append(word)
    if needs_file:
        hints = [hint for word in words.settings if (hint := as_file(word))]
        raise RequestError(f"argument --config: expected at least one file of YAML{''.join(hints[-1:])}")
    words.flags = [word for word in words.flags if word is not None]  # of a flag at the end its value may be missing
    return words


def with_sizes(arguments: Sequence[str]) -> list[str]:
    """Return a command line in which a --latency without batch sizes has those of its default.

    Sizes begin with a bracket, or by mistake with a digit; any other word after the flag is another argument.
    """
    words = list(arguments)
    for place, word in enumerate(words):
        if word == "--latency" and not re.match(r"[\[\d]", "".join(words[place + 1 : place + 2])):
            words[place] = f"--latency={BATCH_SIZES}"
    return words


def as_file(word: str) -> str:
    """Return the hint for a key=value that looks like the name of a file, else an empty string."""
    looks_so = word.endswith((".yaml", ".yml"))
    return f"; {word!r} is read as KEY=VALUE: write ./{word} if it is a file" if looks_so else ""


def _is_positional(parser: Parser, word: str) -> bool:
    """Return whether a word is a value of a positional argument."""
    return any(_accepts(parser, action, word) for action in parser.arguments() if not action.option_strings)


def _accepts(parser: Parser, action: Action, word: str) -> bool:
    try:
        parser.value(action, word)
    except RequestError:
        return False
    return True


def with_positional(parser: Parser, words: Words, layered: Mapping[str, Value]) -> tuple[set[str], list[str]]:
    """Return the keys of the positional arguments on the command line, and it with those that layers give for the others.

    Raise RequestError where nothing gives one. A mode may stand there alone.
    """
    actions, typed = [action for action in parser.arguments() if not action.option_strings], words.positional
    slots = dict(zip([action.dest for action in actions], typed))
    if len(typed) == 1 < len(actions) and _accepts(parser, actions[-1], typed[0]):
        slots = {actions[-1].dest: typed[0]}
    found = {action.dest: layered[action.dest].value for action in actions if action.dest in layered} | slots
    if missing := [action for action in actions if action.dest not in found]:
        names = ", ".join(action.metavar for action in missing)
        keys = " and ".join(f"`{action.dest}:`" for action in missing)
        raise RequestError(f"the following arguments are required: {names}, or {keys} in a file")
    return {*slots}, [*(found[action.dest] for action in actions), *typed[len(actions) :], *words.flags]
