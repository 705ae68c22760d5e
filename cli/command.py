"""The command line's manners: exact flags, values that are checked, errors in one line, exit statuses.

    parser = Parser(prog="main.py")
    parser.add_argument("--epochs", type=number(int, 1))
    sys.exit(run(main))

Imports no torch.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import NoReturn

from record import outcome
from system.errors import (
    Interrupted,
    RequestError,
    SwapconvError,
    did_you_mean,
    first_line,
    is_out_of_memory,
    of_system,
)
from system.signals import end_at_once, interrupt, on_signal, stop_listening


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


def check(resolve: Callable[[], object]) -> None:
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
        outcome.answer(status, error)
    except Interrupted as error:
        message, status = str(error), error.exit_status
        outcome.answer(status, error)
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
