"""Writing that leaves the old file or the new one, never a half; reading and identifying files.

    write_atomically(Path("study.csv"), lambda file: file.write(b"..."))
    write_new(Path("wrn.onnx"), lambda path: path.write_bytes(b"..."))      # replaces nothing

Imports no torch.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from system.errors import MachineFault, RequestError, first_line


def previous(path: Path) -> Path:
    """Return where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.name}.previous")


def _partial(path: Path) -> Path:
    """Return where the next contents of `path` are written first."""
    return path.with_name(f"{path.name}.partial")


def _link(path: Path) -> Path:
    """Return a second name of the file at `path`, which becomes the name of the previous one."""
    return path.with_name(f"{path.name}.link")


def partial_files(path: Path) -> list[Path]:
    """Return the files that a process left which was killed while it wrote to `path`."""
    return [left for left in (_partial(path), _link(path)) if os.path.lexists(left)]


def write_atomically(path: Path, write: Callable[[BinaryIO], Any], keep_previous: bool = False) -> None:
    """Write beside, flush to disk, rename: at every moment `path` is the old file or the new one, whole.

    Args: write: what writes to the open file; keep_previous: whether the old file stays at `previous(path)`. Raises
    MachineFault where that fails; `path` is then as it was, and no partial file is left.
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


def write_new(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file that does not exist yet: beside it, under a name that no other process has, which then becomes `path`.

    Args: write: what writes to the path that it is given, and checks what it has written. Raises RequestError where `path`
    exists by then, which is left as it is, MachineFault where writing fails. The file beside is not left.
    """
    mine = path.with_name(f"export.{os.getpid()}.{secrets.token_hex(4)}.partial")
    try:
        try:
            mine.open("xb").close()
            write(mine)
            with mine.open("rb") as file:
                os.fsync(file.fileno())
            _place(mine, path)
        finally:
            with suppress(OSError):
                mine.unlink()
    except FileExistsError:
        raise RequestError(f"{path} was written by another program meanwhile, and is left as it is: choose another -o")
    except OSError as error:
        raise MachineFault(f"{path} cannot be written: {first_line(error)}")


def _place(written: Path, path: Path) -> None:
    """Give a file the name `path`. Raise FileExistsError where a file has it already."""
    try:
        os.link(written, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name with an empty file first
        path.open("xb").close()
        try:
            os.replace(written, path)
        except BaseException:
            path.unlink()
            raise


def _copy(path: Path, target: Path) -> None:
    shutil.copyfile(path, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def variable(name: str) -> str | None:
    """Return a path in the environment, with ~ replaced; None where it is not set, or empty."""
    return os.path.expanduser(os.environ.get(name, "")) or None


def file_identity(path: Path) -> tuple | None:
    """Return what changes when a file is written or replaced; None where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_file(path: str) -> bytes:
    """Return a file's contents.

    Raises RequestError where it cannot be read, or is a pipe or a device, which might never end.
    """
    try:
        contents = Path(path).read_bytes() if Path(path).is_file() or not Path(path).exists() else None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise RequestError(f"{path} cannot be read: {first_line(error)}")
    if contents is None:
        raise RequestError(f"{path} cannot be read: it is no file")
    return contents


def keep(flag: str, path: str, what: str, is_ours: Callable[[bytes], bool]) -> None:
    """Raise RequestError where writing to `path` would lose anything but an earlier `what`.

    Args: flag: the flag that named the path; is_ours: returns whether contents are those of a `what`.
    """
    if os.path.lexists(path) and not (Path(path).is_file() and is_ours(read_file(path))):
        raise RequestError(f"{path} exists and is no {what}, so it is left as it is: choose another {flag}")


def file_digest(path: str) -> str:
    """Return the first 16 digits of the SHA-256 of a file's contents. Raise RequestError where it cannot be read."""
    return hashlib.sha256(read_file(path)).hexdigest()[:16]
