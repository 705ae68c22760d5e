"""How a run may end badly: kinds of failure, each with the exit status that a scheduler can act on.

raise RequestError(f"unknown conv {name!r}" + did_you_mean(name, known))
"""

import errno
from collections.abc import Callable, Iterable
from difflib import get_close_matches


class SwapconvError(Exception):
    """Ends a command with one line on stderr and `exit_status`, never with a traceback."""

    exit_status = 1


class RequestError(SwapconvError, ValueError):
    """A request that cannot be met: a wrong name, number or combination. Nothing of it has been begun."""

    exit_status = 2


class Busy(RequestError):
    """Another process trains the run now."""


class Diverged(SwapconvError):
    """The loss or a gradient is not finite; the last good checkpoint is kept."""

    exit_status = 3


class MachineFault(SwapconvError):
    """The machine failed: disk, memory or damaged data. Finished epochs are kept."""

    exit_status = 4


class Elsewhere(SwapconvError):
    """Another process of the same run prints what has happened; this one ends silently with the same status."""

    def __init__(self, exit_status: int):
        super().__init__()
        self.exit_status = exit_status


class Interrupted(KeyboardInterrupt):
    """Stopped by a signal. Like KeyboardInterrupt it is no Exception, so that no handler of failures catches it."""

    def __init__(self, message: str, exit_status: int):
        super().__init__(message)
        self.exit_status = exit_status


def did_you_mean(value: str, allowed: Iterable[str], show: Callable[[str], str] = repr, cutoff: float = 0.51) -> str:
    """Return `; did you mean 'x'?` for the entry that begins with `value` or is nearest to it, else an empty string.

    Args: allowed: the entries, compared whatever the case; show: how the entry is written; cutoff: how near it has to be, from 0
    to 1, the ratio of difflib.
    """
    by_lower, value = {name.lower(): name for name in allowed}, value.lower()
    longer = sorted((name for name in by_lower if len(value) > 2 and name.startswith(value)), key=len)
    close = longer or get_close_matches(value, by_lower, n=1, cutoff=cutoff)
    return f"; did you mean {show(by_lower[close[0]])}?" if close else ""


def first_line(error: BaseException) -> str:
    """Return an exception in one line: the system's words for an OSError, else the first line, else the type."""
    words = getattr(error, "strerror", None) or str(error)
    return next(iter(str(words).splitlines()), "") or type(error).__name__


def of_system(error: OSError) -> str:
    """Return what the system refused, with the file where it names one.

    An error of writing that names none is the output's.
    """
    of_output = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EPIPE, errno.EIO)
    where = error.filename or ("standard output" if of_output else None)
    return (f"{where}: " if where else "") + first_line(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocation failed, in Python or torch, whose exceptions have no class in common."""
    known = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory", "alloc_failed")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in known)
    )
