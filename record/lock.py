"""One process trains a run at a time: it holds a lock on runs/NAME/lock until it ends, however it ends.

    with take("wrn.teacher"): ...                      # Busy where another process has it
    holder(RUNS / "wrn.teacher")                           # "process 4711 on node7", None where nobody has it

Imports no torch.
"""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TextIO

from record.paths import RUNS
from system.errors import Busy, MachineFault, first_line

PATIENCE = 0.2  # seconds after which a process that only looks at a lock has let it go


def take(name: str) -> TextIO:
    """Return the run's lock file, locked until it is closed or this process ends. Raise Busy where another one has it."""
    return _take(RUNS / name / "lock", lambda process: refuse(name, process))


@contextmanager
def only_process(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock at `path`, a file that is there only meanwhile. Raise Busy, `busy` and by which process, where another has it.

    A folder that is made for it is removed too where nothing else has come into it.
    """

    def refuse_second(process: str) -> NoReturn:
        raise Busy(f"{busy}, by {process}")

    with _take(path, refuse_second):
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()


def _take(path: Path, refuse: Callable[[str], NoReturn]) -> TextIO:
    """Return the file at `path`, made where it is missing, locked. Call `refuse` with who has it where another process does."""
    while not _is_at(file := _opened(path, refuse), path):  # its last holder removed or renamed it in the meantime
        file.close()
    try:
        file.truncate(0)
        print(f"process {os.getpid()} on {socket.gethostname()}", end="", file=file, flush=True)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise MachineFault(f"{path} cannot be written: {first_line(error)}")
        raise
    return file


def _opened(path: Path, refuse: Callable[[str], NoReturn]) -> TextIO:
    """Return the file at a path, locked; `refuse` as of `_take`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except FileNotFoundError:  # the folder was removed between these two
        return _opened(path, refuse)
    except OSError as error:
        raise MachineFault(f"{path} cannot be written: {first_line(error)}")
    try:
        deadline = time.monotonic() + PATIENCE
        while not _lock(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                refuse(_says(file))
            time.sleep(PATIENCE / 20)
    except BaseException:
        file.close()
        raise
    return file


def _is_at(file: TextIO, path: Path) -> bool:
    """Return whether the file at a path is the open one: a lock on a file that was removed keeps nobody out."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def holder(folder: Path) -> str | None:
    """Return which process trains the run of a folder, None where none does. Nothing is taken or written."""
    try:
        with (folder / "lock").open() as file:
            return None if _lock(file, fcntl.LOCK_SH) else _says(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MachineFault(f"{folder / 'lock'} cannot be read: {first_line(error)}")


def refuse(name: str, process: str) -> NoReturn:
    """Raise Busy."""
    raise Busy(f"the run {name!r} is being trained at this moment, by {process}")


def _says(file: TextIO) -> str:
    file.seek(0)
    return file.read(300) or "another process"


def _lock(file: TextIO, kind: int) -> bool:
    """Return whether it could be locked now."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise MachineFault(f"{file.name} cannot be locked: {first_line(error)}")
    return True
