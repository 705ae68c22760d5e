"""Values of flags, checked: each function turns a text into a value, or raises ArgumentTypeError with what is allowed.

    parser.add_argument("--epochs", type=number(int, 1, 10**6))

Imports no torch.
"""

import argparse
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Sequence

from system.errors import (
    did_you_mean,
    first_line,
)


def choice(what: str, allowed: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            hint = did_you_mean(text, allowed)
            raise argparse.ArgumentTypeError(f"unknown {what} {text!r}{hint} (known: {', '.join(allowed)})")
        return text

    return parse


def number(kind: type, low: float, high: float, above: bool = False) -> Callable[[str], float]:
    """An int or float with low <= value <= high, or low < value where `above`."""
    wanted = f"{'a whole number' if kind is int else 'a number'} {'above' if above else 'of at least'} {low:g}"

    def parse(text: str) -> float:
        try:
            value = kind(text) if len(text) <= 40 and "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if not low <= value <= high or (above and value == low):  # nan is neither
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted} and at most {high:g}")
        return value

    return parse


def amount(text: str) -> int:
    """A whole number of at least 1 that may be written as 5e5."""
    value = number(float, 1, 1e15)(text)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(value)


def milestones(text: str) -> list[int]:
    try:
        epochs = json.loads(text)
    except (ValueError, RecursionError):
        epochs = None
    whole = isinstance(epochs, list) and all(type(epoch) is int and epoch > 0 for epoch in epochs)
    if not whole or epochs != sorted(set(epochs)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON list of rising epochs, such as '[60,120,160]'")
    return epochs


def gpus(text: str) -> list[int]:
    """`0` or `0,1,2`: different numbers of GPUs."""
    numbers = text.split(",")
    if not all(re.fullmatch("[0-9]{1,4}", each) for each in numbers) or len({*map(int, numbers)}) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not a GPU's number, or different ones such as '0,1,2'")
    return [int(each) for each in numbers]


def filename(text: str) -> str:
    """A path, in which ~ stands for the home folder even where no shell has replaced it, as in --flag=~/x."""
    if not text:
        raise argparse.ArgumentTypeError("'' is not the name of a file or folder")
    return os.path.expanduser(text)


def source(text: str) -> str:
    """A run's name, or a path as `filename` takes it."""
    return os.path.expanduser(text) if "/" in text else text


def pattern(text: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what Python may read otherwise one day
            re.compile(text)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {first_line(error)}")
    return text
