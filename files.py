"""Files that survive: where a run's files lie, and writing that leaves the old file or the new one, never a half.

    write_atomically(Path("study.csv"), lambda file: file.write(b"..."))

Imports no torch.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from errors import MachineFault, first_line

CHECKPOINTS, RUNS = Path("checkpoints"), Path("runs")


def checkpoint_path(name: str) -> Path:
    return CHECKPOINTS / f"{name}.pt"


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


def clear(path: Path, used: Path | None) -> None:
    """Before the first save: what a process left that was killed as it wrote goes, and a damaged file goes aside, so that
    the one before it, which was `used`, stays in reserve until there are two good ones."""
    for left in leavings(path):
        left.unlink(missing_ok=True)
    if used == previous(path) and os.path.lexists(path):
        aside = (path.with_name(f"{path.name}.damaged{number}") for number in ("", *range(2, 1000)))
        os.replace(path, next(each for each in aside if not os.path.lexists(each)))


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
