"""How a run may end badly: three kinds of failure, each with the exit status that a scheduler can act on.

raise RequestError(f"unknown conv {name!r}" + did_you_mean(name, known))
"""

from collections.abc import Callable, Iterable
from difflib import get_close_matches


class SwapconvError(Exception):
    """Ends a command with one line on stderr and `exit_status`, never with a traceback."""

    exit_status = 1


class RequestError(SwapconvError, ValueError):
    """What was asked for cannot be done: a wrong name, number or combination. Nothing has been written."""

    exit_status = 2


class Diverged(SwapconvError):
    """The loss left the finite numbers; the last good checkpoint is kept."""

    exit_status = 3


class Interrupted(SwapconvError):
    """Stopped by the user, with Ctrl-C."""

    exit_status = 130


class MachineFault(SwapconvError):
    """The machine failed: disk, memory or damaged data. Finished epochs are kept."""

    exit_status = 4


def did_you_mean(value: str, allowed: Iterable[str], show: Callable[[str], str] = repr) -> str:
    """`; did you mean 'x'?` for the entry of `allowed` nearest to `value` whatever the case, else an empty string."""
    by_lower = {name.lower(): name for name in allowed}
    close = get_close_matches(value.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {show(by_lower[close[0]])}?" if close else ""


def first_line(error: BaseException) -> str:
    """An exception in one line: the first of its message, or its type where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
