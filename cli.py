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
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import ending
from errors import Interrupted, RequestError, SwapconvError, did_you_mean, first_line, is_out_of_memory, of_system
from signals import end_at_once, interrupt, on_signal, stop_listening


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
            hint = did_you_mean(first.split("=")[0], flags) if first.startswith("-") else ""
            raise RequestError(f"{what} {first!r}{hint}")
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


def variable(name: str) -> str | None:
    """A path in the environment, with ~ replaced; None where it is not set, or empty."""
    return os.path.expanduser(os.environ.get(name, "")) or None


def pattern(text: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what Python may read otherwise one day
            re.compile(text)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {first_line(error)}")
    return text


def read_file(path: str) -> bytes:
    """A file's contents. RequestError where it cannot be read, or is none: a pipe or a device might never end."""
    try:
        contents = Path(path).read_bytes() if Path(path).is_file() or not Path(path).exists() else None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise RequestError(f"{path} cannot be read: {first_line(error)}")
    if contents is None:
        raise RequestError(f"{path} cannot be read: it is no file")
    return contents


def keep(flag: str, path: str, what: str, is_ours: Callable[[bytes], bool]) -> None:
    """RequestError where writing to `path` would lose anything but an earlier `what`, which `is_ours` knows by its
    contents."""
    if os.path.lexists(path) and not (Path(path).is_file() and is_ours(read_file(path))):
        raise RequestError(f"{path} exists and is no {what}, so it is left as it is: choose another {flag}")


def file_digest(path: str) -> str:
    """What identifies a file's contents, such as a user's module. RequestError where it cannot be read."""
    return hashlib.sha256(read_file(path)).hexdigest()[:16]


def duration(seconds: float) -> str:
    """`45 s`, `12.5 min`, `3.2 h`, `4.1 days`."""
    for unit, size, upto in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 72)):
        if seconds < upto * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"


def check(resolve: Callable[[], argparse.Namespace]) -> None:
    """Ends the process if the command line asks for help or cannot be meant; for what comes before `run`."""
    if status := run(lambda: resolve() and 0):
        sys.exit(status)
    on_signal(end_at_once)  # torch is imported next


def run(main: Callable[[], int], reader_may_leave: bool = False) -> int:
    """Runs a command's main: what ends it badly becomes one line on stderr and an exit status.

    2: a wrong request; 3: diverged; 4: the machine failed; 130, 143: stopped by a signal. Other exceptions are bugs and
    stay as they are. `reader_may_leave`: it is no failure if nobody reads the output to its end, as behind `| head`.
    """
    on_signal(interrupt)
    try:
        if sys.stdout is not None:  # no name or path is worth a failure, whatever the encoding
            sys.stdout.reconfigure(errors="backslashreplace")
        return main()
    except SwapconvError as error:
        _tell(getattr(error, "__notes__", []))
        message, status = f"error: {error}" if str(error) else "", error.exit_status
        ending.answer(status, error)
    except Interrupted as error:
        message, status = str(error), error.exit_status
        ending.answer(status, error)
    except OSError as error:
        message, status = f"error: {of_system(error)}", 4
        if reader_may_leave and isinstance(error, BrokenPipeError):
            message, status = "", 0
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message, status = f"error: out of memory: {first_line(error)}", 4
    finally:
        stop_listening(for_good=True)
    _tell([message] if message else [])
    return status


def _tell(messages: Iterable[str]) -> None:
    """A line of each on stderr, if anybody listens. What standard output can no longer take goes nowhere, instead of failing
    again as Python ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        for message in messages:
            print(" ".join(message.splitlines()), file=sys.stderr)
