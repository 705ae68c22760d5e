"""What is being removed or renamed, until that is done: runs/.unfinished.json. After a kill the same command goes on.

    read()                                                   # Unfinished("rename", ["old", "new"]), None where nothing is
    check_name("old")                                        # RequestError says which command to repeat

Imports no torch.
"""

import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from record.paths import RUNS
from system.errors import MachineFault, RequestError, first_line
from system.files import write_atomically

NOTE = RUNS / ".unfinished.json"


class Unfinished(NamedTuple):
    """A command of schedules, `remove`, `rename` or `pack --open`, and the names that it was given; `below` what waits for it."""

    what: str
    names: list[str]
    below: "Unfinished | None" = None

    def command(self) -> str:
        """Return the command."""
        return f"python -m schedules.{self.what} {shlex.join(self.names)}"

    def document(self) -> dict:
        """Return what the note holds."""
        below = {"below": self.below.document()} if self.below else {}
        return {"what": self.what, "names": self.names, **below}


def read() -> Unfinished | None:
    """Return what was killed, or is being done; None where nothing is. Raise MachineFault for a damaged note."""
    try:
        return _of(json.loads(NOTE.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MachineFault(f"{NOTE} cannot be read ({first_line(error)}): delete it")


def _of(document: dict) -> Unfinished:
    below = _of(document["below"]) if "below" in document else None
    return Unfinished(str(document["what"]), [str(each) for each in document["names"]], below)


def check_name(name: str, role: str = "the run") -> None:
    """Raise RequestError where a run is one of those that are being removed or renamed, or were when that was killed."""
    found = read()
    while found is not None:
        if found.what in ("remove", "rename") and name in found.names:
            doing = f"is being {'removed' if found.what == 'remove' else 'renamed'}"
            raise RequestError(f"{role} {name!r} {doing}: if that was killed, first repeat {found.command()}")
        found = found.below


def check_finished(but: str = "") -> None:
    """Raise RequestError where a command was killed, unless it is of the kind `but`."""
    found = read()
    if found is not None and found.what != but:
        raise RequestError(
            f"an earlier command was killed: first repeat {found.command()} (if that cannot be, delete {NOTE})"
        )


@contextmanager
def noted(what: str, names: Sequence[str], check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Note within the context what is being done, so that the same command can finish it after a kill.

    Args: check: is called once the note is there, which whoever begins a run reads, and before anything is changed; where it raises,
    the note is as it was before.
    """
    before = read()
    below = before if before is None or before.what != what else before.below
    _write(Unfinished(what, list(names), below))
    try:
        check()
    except BaseException:
        _write(before)
        raise
    try:
        yield
    except OSError as error:
        raise MachineFault(f"{error.filename or RUNS} cannot be changed ({first_line(error)}): repeat the command")
    _write(below)


def _write(found: Unfinished | None) -> None:
    if found is None:
        os.unlink(NOTE)
        return
    contents = json.dumps(found.document()) + "\n"
    write_atomically(NOTE, lambda file: file.write(contents.encode()))
