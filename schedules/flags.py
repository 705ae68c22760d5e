"""The flags of a study's jobs, as words of a command line, by their keys. Imports no torch.

without(["--lr", "0.1", "--nocrswd"], {"lr"})         # ["--nocrswd"]
without_teaching(["--lr", "0.1", "--alpha=.5"])       # ["--lr", "0.1"]
as_words("epoch_step", ["60", "120"])                 # ("--epoch_step", "[60, 120]")
behind(["--config", "base.yaml", "lr=0.05"]).words    # ["--epochs", "8", "--lr", "0.05"]
"""

from argparse import Action
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from cli.command import Parser
from cli.config_files import Text, Value
from cli.counting import counting_parser
from cli.flags import training_parser
from cli.layers import SWITCHED, Keys, given, join_of, keys_of
from cli.words import words_of
from system.arguments import Switch
from system.errors import RequestError
from training import registry

OF_EACH_JOB = ("teacher_checkpoint", "student_checkpoint", "seed", "conv", "network", "resume", "dataset", "mode")
OF_ONE_RUN = ("teacher_checkpoint", "student_checkpoint", "dataset", "mode")  # a file may say them, for its own run


@cache
def _keys(parser: Parser) -> dict[str, str]:
    """Return the key of each flag as it is written."""
    return {word: action.dest for action in parser.arguments() for word in action.option_strings}


def parts(words: Sequence[str]) -> Iterator[tuple[str | None, list[str]]]:
    """Yield each flag of a command line with its value, and its key, which is None of a word that is no flag."""
    parser, rest = training_parser(), iter(words)
    for word in rest:
        value = [each] if parser.takes_next(word) and (each := next(rest, None)) is not None else []
        flag = word.partition("=")[0] if word.startswith("--") else word[:2]
        yield _keys(parser).get(flag), [word, *value]


def keys_in(words: Sequence[str]) -> set[str]:
    """Return the keys of the flags of a command line."""
    return {key for key, _ in parts(words) if key is not None}


def without(words: Sequence[str], keys: Collection[str]) -> list[str]:
    """Return the words of a command line without the flags of some keys and their values."""
    return [word for key, part in parts(words) if key not in keys for word in part]


def teaching_keys() -> frozenset[str]:
    """Return the keys that say how a teacher teaches."""
    return frozenset(flag.dest for flag in registry.teaching_flags())


def without_teaching(words: Sequence[str]) -> list[str]:
    """Return the words of a command line without the flags that say how a teacher teaches."""
    return without(words, teaching_keys())


def as_words(key: str, text: Text) -> tuple[str, ...]:
    """Return a key with its text, or list of texts, as words of a command line; () where it is null or off."""
    if text is None:
        return ()
    action: Action = keys_of(training_parser())[key]
    if action.nargs == 0:
        is_on = SWITCHED[text.lower()]
        return (f"--{key}",) if is_on else (f"--no_{key}",) if isinstance(action, Switch) else ()
    text = join_of(action)(text) if isinstance(text, list) else text
    return (f"--{key}={text}",) if text.startswith("-") else (f"--{key}", text)


@dataclass(frozen=True)
class Behind:
    """What stands behind the `--` of a command, for every job, as `words` of flags.

    origins: of each key among them, where it was given, for messages; keys: these and those that were taken back, as by
    `lr=null` or `nocrswd=false`. What a study itself gives to any of `keys` is weaker.
    """

    words: tuple[str, ...]
    origins: Mapping[str, str]
    keys: frozenset[str]


class _Texts(Keys):
    """The keys of files and key=value; each gives its text, after its flag has taken it, where others give a value."""

    def value_at(self, parser, key: str, text: str | list, where: str) -> str | list:
        """Return the text. Raise RequestError where its flag does not take it."""
        super().value_at(parser, key, text, where)
        return text


def behind(arguments: Sequence[str], has_students: bool = True) -> Behind:
    """Return what stands behind the `--` of a command: flags, files of --config, key=value, the first the strongest.

    Names, dataset and mode of a file are those of a run of its own, and what it says about teaching is for students: both
    are left out where they go to no job. Raise RequestError for what no file or key may say, and for what each job has of
    its own, or no job can have.
    """
    parser = training_parser()
    words = words_of(parser, arguments)
    layered: dict[str, Value] = {}
    if words.files or words.settings:
        if words.unknown:
            raise parser.unexpected(words.unknown[0])
        layered = given(words, _Texts(parser, [counting_parser()]))
        arguments = [*words.flags, *words.positional]
    flags = {key: part[0].partition("=")[0] for key, part in parts(arguments) if key is not None}
    found: dict[str, tuple[str, ...]] = {}
    origins: dict[str, str] = {}
    for key, value in layered.items():
        left_out = {*OF_ONE_RUN, *(() if has_students else teaching_keys())} if value.of_file else ()
        if key in left_out or key in flags:
            continue
        found[key] = as_words(key, value.value)
        if found[key]:
            origins[key] = f"{value.where}: {key}"
    origins |= flags
    _check(origins, has_students)
    words = [*(word for each in found.values() for word in each), *arguments]
    keys = frozenset({*found, *flags} - {*OF_EACH_JOB})  # what is null or off of these is that of no job
    return Behind(tuple(words), origins, keys)


def _check(origins: Mapping[str, str], has_students: bool) -> None:
    """Raise RequestError where a key behind `--` is one that each job has of its own, or that no job can have."""
    for key, origin in origins.items():
        if key in OF_EACH_JOB:
            raise RequestError(f"{origin} after --: every job has its own")
        if key in teaching_keys() and not has_students:
            raise RequestError(f"{origin} after --: it goes to students, and this schedule has none")
        if key == "allocate":
            raise RequestError(
                f"{origin} after --: generate finds one number for all layers; write such jobs into the schedule"
            )
