"""How a command line is read and how a command ends: exact flags, errors in one line, exit statuses.

    parser = Parser(prog="main.py")
    Flag("--epochs", number(int, 1, 10**6)).add_to(parser)
    sys.exit(run(main))

Imports no torch.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from record import outcome
from system.errors import (
    Busy,
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
    """Show a flag's default, except where it is off; the help texts themselves say what the presets are."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return super()._get_help_string(action) if action.default not in (None, False, "") else action.help


class Parser(argparse.ArgumentParser):
    """Read a command line with exact flags; errors are one line that names the nearest right word."""

    def __init__(self, **keywords):
        super().__init__(allow_abbrev=False, formatter_class=Formatter, **keywords)

    def error(self, message: str) -> NoReturn:
        """Raise RequestError, where argparse would print its usage and exit."""
        raise RequestError(message)

    def parse_args(
        self, arguments: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Return the values of all flags. Raise RequestError for an unknown flag or a wrong value."""
        known, unknown = self.parse_known_args(arguments, namespace)
        if unknown:
            raise self.unexpected(unknown[0])
        return known

    def unexpected(self, word: str) -> RequestError:
        """Return the error for a word of a command line that is no flag, or one argument too many."""
        if not word.startswith("-"):
            return RequestError(f"unexpected argument {word!r}")
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        return RequestError(f"unknown flag {word!r}{did_you_mean(word.split('=')[0], flags)}")

    def knows(self, word: str) -> bool:
        """Return whether a word of a command line begins with a flag of this parser."""
        names = self._option_string_actions
        return (word.partition("=")[0] if word.startswith("--") else word[:2]) in names

    def arguments(self) -> list[argparse.Action]:
        """Return its flags and positional arguments, in the order in which they were added."""
        return list(self._actions)

    def takes_next(self, word: str) -> bool:
        """Return whether a flag, as it stands on a command line, takes the next word as its value."""
        found = self.valued(word)
        return found is not None and found[2] is None

    def valued(self, word: str) -> tuple[str, str, str | None] | None:
        """Return of a word that is a flag with a value: its key, the word without the value, and the value.

        That is None where the next word is the value. Return None for any other word.
        """
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            action = self._option_string_actions.get(flag)
            return (
                None if action is None or action.nargs == 0 else (action.dest, flag + equals, value if equals else None)
            )
        for place, letter in enumerate(word[1:] if word.startswith("-") else "", 2):  # -rtNAME is -r -t NAME
            action = self._option_string_actions.get(f"-{letter}")
            if action is None or action.nargs != 0:
                place += word[place : place + 1] == "="
                return action and (action.dest, word[:place], word[place:] or None)
        return None

    def value(self, action: argparse.Action, text: str) -> Any:
        """Return the value that an argument's type makes of a text. Raise RequestError where the type refuses it."""
        try:
            return self._get_value(action, text)
        except argparse.ArgumentError as error:
            raise RequestError(str(error))


def check(resolve: Callable[[], object]) -> None:
    """Call `resolve` before torch is imported; exit where the command line is wrong or asks for help."""
    if status := run(lambda: resolve() and 0):
        sys.exit(status)
    on_signal(end_at_once)  # while torch is imported, which takes seconds


def run(main: Callable[[], int], reader_may_leave: bool = False) -> int:
    """Run a command's main and return its exit status; turn an expected exception into one line on stderr.

    The status is 2 for a wrong request, 3 for a run that diverged, 4 for a failure of the machine, 130 or 143 for a
    signal. Other exceptions are bugs and pass. With `reader_may_leave` a closed pipe, as behind `| head`, is no
    failure.
    """
    on_signal(interrupt)
    busy = False
    try:
        if sys.stdout is not None:  # no name or path is worth a failure, whatever the encoding
            sys.stdout.reconfigure(errors="backslashreplace")
        return main()
    except SwapconvError as error:
        _tell(getattr(error, "__notes__", []))
        message, status = f"error: {error}" if str(error) else "", error.exit_status
        busy = isinstance(error, Busy)
    except Interrupted as error:
        message, status = str(error), error.exit_status
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
    if message:  # one of several ranks for which another one speaks says nothing
        outcome.answer(status, message.removeprefix("error: "), busy)
        _tell([message])
    return status


def _tell(messages: Iterable[str]) -> None:
    """Print a line for each message on stderr, if it is open.

    Redirect a standard output that can no longer be written to, so that Python does not fail on it again at its end.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        for message in messages:
            print(" ".join(message.splitlines()), file=sys.stderr)
