"""Files that survive: where a run's files lie, and writing that leaves the old file or the new one, never a half.

    write_atomically(Path("study.csv"), lambda file: file.write(b"..."))

Imports no torch.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from system.errors import (
    MachineFault,
    RequestError,
    first_line,
)


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.name}.previous")


def _partial(path: Path) -> Path:
    """Where what will be at `path` is written first."""
    return path.with_name(f"{path.name}.partial")


def _link(path: Path) -> Path:
    """A second name of the file at `path`, which becomes the name of the one before."""
    return path.with_name(f"{path.name}.link")


def leavings(path: Path) -> list[Path]:
    """What a process left that was killed as it wrote to `path`."""
    return [left for left in (_partial(path), _link(path)) if os.path.lexists(left)]


def write_atomically(path: Path, write: Callable[[BinaryIO], Any], keep_previous: bool = False) -> None:
    """Writes beside, flushes to disk, renames: at every moment `path` is the old file or the new one, whole.

    MachineFault where that fails; `path` is then as it was, and nothing lies beside it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _partial(path).open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep_previous and path.exists():
            _link(path).unlink(missing_ok=True)
            try:
                os.link(path, _link(path))
            except OSError:  # a file system without hard links
                _copy(path, _link(path))
            os.replace(_link(path), previous(path))
        os.replace(_partial(path), path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise MachineFault(f"{path} cannot be written: {first_line(error)}")
    finally:
        with suppress(OSError):
            _partial(path).unlink()


def _copy(path: Path, target: Path) -> None:
    shutil.copyfile(path, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def variable(name: str) -> str | None:
    """A path in the environment, with ~ replaced; None where it is not set, or empty."""
    return os.path.expanduser(os.environ.get(name, "")) or None


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
