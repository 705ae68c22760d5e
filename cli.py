"""The command line's manners: exact flags, values that are checked, errors in one line, exit statuses.

    parser = Parser(prog="main.py")
    parser.add_argument("--epochs", type=number(int, 1))
    sys.exit(run(main))

Imports no torch.
"""

import argparse
import hashlib
import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from errors import RequestError, SwapconvError, did_you_mean, first_line


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default only where there is one to show; the presets' are told in the help texts."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return super()._get_help_string(action) if action.default not in (None, False, "") else action.help


class Parser(argparse.ArgumentParser):
    """argparse with exact flags, and errors in one line that name the nearest right word."""

    def __init__(self, **keywords):
        super().__init__(allow_abbrev=False, formatter_class=Formatter, **keywords)

    def error(self, message: str) -> NoReturn:
        raise RequestError(message)

    def parse_args(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        known, unknown = self.parse_known_args(arguments)
        if unknown:
            first = unknown[0]
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            what = "unknown flag" if first.startswith("-") else "unexpected argument"
            raise RequestError(f"{what} {first!r}{did_you_mean(first.split('=')[0], flags)}")
        return known


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
    except ValueError:
        epochs = None
    whole = isinstance(epochs, list) and all(type(epoch) is int and epoch > 0 for epoch in epochs)
    if not whole or epochs != sorted(set(epochs)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON list of rising epochs, such as '[60,120,160]'")
    return epochs


def pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}")
    return text


def file_digest(path: str) -> str:
    """What identifies a file's contents, such as a user's module. RequestError where it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}")


def check(resolve: Callable[[], argparse.Namespace]) -> None:
    """Ends the process if the command line asks for help or cannot be meant; for what comes before `run`."""
    if status := run(lambda: resolve() and 0):
        sys.exit(status)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while torch is imported, Ctrl-C just ends it


def run(main: Callable[[], int]) -> int:
    """Runs a command's main: what ends it badly becomes one line on stderr and an exit status.

    2: a wrong request; 3: diverged; 4: the machine failed; 130: interrupted. Other exceptions are bugs and stay as they are.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return main()
    except SwapconvError as error:
        message, status = str(error), error.exit_status
    except KeyboardInterrupt:
        message, status = "interrupted", 130
    except BrokenPipeError:  # whoever read the output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        message, status = str(error), 4
    except (MemoryError, RuntimeError) as error:  # torch's allocators have no class in common
        known = ("out of memory", "can't allocate memory", "not enough memory")
        if not isinstance(error, MemoryError) and not any(phrase in str(error) for phrase in known):
            raise
        message, status = f"out of memory, a smaller --batch_size needs less: {first_line(error)}", 4
    print("error: " + " ".join(message.splitlines()), file=sys.stderr)
    return status
