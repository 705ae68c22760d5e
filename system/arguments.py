"""Flags of a command line, and the types of their values: each turns a text into a value, or says what is allowed.

    Flag("--epochs", number(int, 1, 10**6), "epochs to train").add_to(parser)

The registries of networks, callbacks and losses declare their flags by it, too. Imports no torch.
"""

import argparse
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from system.errors import RequestError, did_you_mean, first_line


@dataclass(frozen=True)
class Flag:
    """One flag, or one positional argument, as `argparse` takes it.

    `name` is what a user types, `short` an abbreviation of it. `default` None means that the flag is off, or that a
    preset gives its value.
    """

    name: str
    type: Callable[[str], Any] | None = None
    help: str = ""
    default: Any = None
    metavar: str | None = None
    action: str | Callable[..., argparse.Action] | None = None
    short: str | None = None

    @property
    def dest(self) -> str:
        """Return the key of its value in a configuration."""
        return self.name.lstrip("-")

    def add_to(self, group: argparse._ActionsContainer) -> None:
        """Add the flag to a parser, or to a group of one."""
        names = [self.short, self.name] if self.short else [self.name]
        given = {"type": self.type, "default": self.default, "metavar": self.metavar, "action": self.action}
        given = {keyword: value for keyword, value in given.items() if value is not None}
        group.add_argument(*names, help=self.help, **given)


class Switch(argparse.Action):
    """A flag without a value that `--no_NAME` turns off, where a preset turns it on. None: it was not given."""

    def __init__(self, option_strings: Sequence[str], dest: str, **keywords):
        self.off = [f"--no_{name.removeprefix('--')}" for name in option_strings]
        super().__init__([*option_strings, *self.off], dest, nargs=0, **keywords)

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Note what was given."""
        setattr(namespace, self.dest, option_string not in self.off)


def choice(what: str, allowed: Sequence[str]) -> Callable[[str], str]:
    """Return a type that takes one of some words; `what` names their kind in the error."""

    def parse(text: str) -> str:
        if text not in allowed:
            hint = did_you_mean(text, allowed)
            raise argparse.ArgumentTypeError(f"unknown {what} {text!r}{hint} (known: {', '.join(allowed)})")
        return text

    return parse


def number(kind: type, low: float, high: float, above: bool = False) -> Callable[[str], float]:
    """Return a type that takes an int or float with low <= value <= high, or low < value with `above`."""
    wanted = f"{'a whole number' if kind is int else 'a number'} {'above' if above else 'of at least'} {low:g}"

    def parse(text: str) -> float:
        try:
            value = kind(text) if len(text) <= 40 and "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if not low <= value <= high or (above and value == low):  # also refuses nan
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted} and at most {high:g}")
        return value

    return parse


def amount(text: str) -> int:
    """Take a whole number of at least 1, which may be written as 5e5."""
    value = number(float, 1, 1e15)(text)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(value)


def milestones(text: str) -> list[int]:
    """Take a JSON list of rising epochs."""
    try:
        epochs = json.loads(text)
    except (ValueError, RecursionError):
        epochs = None
    whole = isinstance(epochs, list) and all(type(epoch) is int and epoch > 0 for epoch in epochs)
    if not whole or epochs != sorted(set(epochs)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON list of rising epochs, such as '[60,120,160]'")
    return epochs


def batch_sizes(text: str) -> list[int]:
    """Take a JSON list of rising numbers of images."""
    try:
        sizes = json.loads(text)
    except (ValueError, RecursionError):
        sizes = None
    whole = isinstance(sizes, list) and sizes and all(type(size) is int and 1 <= size <= 10**5 for size in sizes)
    if not whole or sizes != sorted(set(sizes)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a JSON list of rising batch sizes of at most 100,000 images, such as '[1,128]'"
        )
    return sizes


def points(text: str) -> list[list[float]]:
    """Take a JSON list of pairs [epoch, rate] in rising order, from epoch 0 on, with a rate above 0."""
    try:
        pairs = json.loads(text)
    except (ValueError, RecursionError):
        pairs = None
    numbers = isinstance(pairs, list) and all(
        isinstance(pair, list) and [type(each) in (int, float) and 0 <= each <= 1e30 for each in pair] == [True] * 2
        for pair in pairs
    )  # nan is not at least 0
    epochs = [pair[0] for pair in pairs] if numbers else []
    if epochs[:1] != [0] or epochs != sorted(set(epochs)) or not any(rate for _, rate in pairs):
        example = "'[[0,0],[5,0.4],[24,0]]'"
        wanted = f"a JSON list of rising epochs, the first 0, each with a rate, one above 0, such as {example}"
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return pairs


def factor(text: str) -> float | str:
    """Take a number above 0, `auto` or `shared`."""
    try:
        return text if text in ("auto", "shared") else number(float, 0, 1e6, above=True)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor auto or shared")


def gpus(text: str) -> list[int]:
    """Take the numbers of different GPUs: `0` or `0,1,2`."""
    numbers = text.split(",")
    if not all(re.fullmatch("[0-9]{1,4}", each) for each in numbers) or len({*map(int, numbers)}) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not a GPU's number, or different ones such as '0,1,2'")
    return [int(each) for each in numbers]


def filename(text: str) -> str:
    """Take a path; replace ~ by the home folder, which a shell does not do in --flag=~/x."""
    if not text:
        raise argparse.ArgumentTypeError("'' is not the name of a file or folder")
    return os.path.expanduser(text)


def source(text: str) -> str:
    """Take a run's name, or a path as `filename` does."""
    return os.path.expanduser(text) if "/" in text else text


def canonical(parse: Callable[[str], Any]) -> Callable[[str], str]:
    """Return the type of a flag that takes what a parser does, and whose value is the text of what that returns."""

    def take(text: str) -> str:
        try:
            return str(parse(text))
        except RequestError as error:
            raise argparse.ArgumentTypeError(str(error))

    return take


def pattern(text: str) -> str:
    """Take a regular expression."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what a later Python may read otherwise is refused
            re.compile(text)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {first_line(error)}")
    return text
