"""Arrays that took long to make, kept on disk as .npz, which is never half written.

    cache = place(Path("data/cifar10.tar.xz"), "decoded")       # data/cifar10.tar.xz.decoded.npz
    keep(cache, {"stamp": np.array("1"), "images": images}, "decoded images")
    load(cache, ["stamp", "images"])["images"]        # None where the cache is missing or damaged

No pickle is ever written or read. Imports no torch.
"""

import hashlib
import os
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from system.errors import first_line

_waiting: list[tuple[Path, dict[str, np.ndarray], str]] | None = None


def place(path: Path, kind: str) -> Path:
    """Return where a cache lies: beside the file or folder, or in the user's cache folder where that is read-only."""
    path = path.resolve()
    if path.parent.stat().st_mode & 0o222 and os.access(path.parent, os.W_OK):
        return path.parent / f"{path.name}.{kind}.npz"
    home = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"))
    return home / "swapconv" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}-{path.name}.{kind}.npz"


def load(cache: Path, names: Iterable[str]) -> dict[str, np.ndarray] | None:
    """Return the arrays of these names, checksums verified; None where one is missing or the file is damaged.

    A name is missing from a cache of an earlier version. Damage is a warning on stderr. What waits to be saved is there.
    """
    names = list(names)
    for waiting, arrays, _ in reversed(_waiting or []):
        if waiting == cache and set(names) <= arrays.keys():
            return {name: arrays[name] for name in names}
    if not cache.exists():
        return None
    try:
        with zipfile.ZipFile(cache) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        with np.load(cache, allow_pickle=False) as stored:
            return {name: stored[name] for name in names} if set(names) <= set(stored.files) else None
    except Exception as error:  # whatever a damaged file makes zipfile or numpy raise: the cache can be made anew
        print(f"warning: {cache} is damaged and is made anew: {first_line(error)}", file=sys.stderr)
        return None


@contextmanager
def deferred() -> Iterator[None]:
    """Delay what `keep` saves until the end of this context; discard it where the context ends with an exception.

    So a request that is refused leaves no file behind. Within another such context the end of that one counts.
    """
    global _waiting
    if _waiting is not None:
        yield
        return
    _waiting = []
    try:
        yield
        kept, _waiting = _waiting, None
        for each in kept:
            keep(*each)
    finally:
        _waiting = None


def keep(cache: Path, arrays: dict[str, np.ndarray], what: str) -> None:
    """Save arrays. Where that fails, warn that `what` cannot be kept."""
    if _waiting is not None:
        _waiting.append((cache, arrays, what))
        return
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        _save(cache, arrays)
    except OSError as error:
        print(f"warning: the {what} cannot be kept in {cache}: {first_line(error)}", file=sys.stderr)


def _save(cache: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write beside and rename, so that another run never sees half a cache."""
    partial = cache.with_name(f"{cache.name}.{os.getpid()}.partial")
    for other in cache.parent.glob(f"{cache.name}.*.partial"):
        if time.time() - other.stat().st_mtime > 3600:  # left by a process that was killed while it wrote
            other.unlink(missing_ok=True)
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(cache)
    finally:
        partial.unlink(missing_ok=True)
