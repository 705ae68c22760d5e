"""The members of an archive, read in place and in one pass; and which of them are refused.

    for member in members(Path("cifar10.tar.zst")):
        member.name, member.size, member.read()
    guard = Guard(Path("cifar10.zip"), largest=1 << 20)
    guard.check(member)                         # MachineFault where it is refused

Nothing is ever unpacked to disk. Kinds are told apart by their first bytes: zip, zstd (by the package zstandard), and
what tarfile reads. Imports no torch.
"""

import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from input.image_files import shown
from system.errors import MachineFault, RequestError, first_line

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".zip")
MOST_BYTES = 1 << 31  # of all images of an archive together: they are kept in memory
DRIVE = re.compile(r"[A-Za-z]:/")
FAULTS = (
    tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip


class Member(NamedTuple):
    """An entry of an archive: name with slashes, size in bytes as the header says, kind, and what reads it.

    `end`: in a tar, the place of the first byte after its contents (before compression); 0 in a zip.
    """

    name: str
    size: int
    is_folder: bool
    is_link: bool
    is_file: bool
    read: Callable[[], bytes]
    end: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders of its path and its own name."""
        return PurePosixPath(self.name).parts


class Guard:
    """A check that refuses members: outside of the archive, a link, no file, too large, cut off, or there twice.

    Args: largest: bytes that a member may have; most: bytes that all of them may have; size: bytes of the archive,
    where members may end beyond it.
    """

    def __init__(self, path: Path, largest: int | None = None, most: int | None = None, size: int | None = None):
        self.path, self.largest, self.most, self.size, self.taken = path, largest, most, size, 0
        self.seen: set[Hashable] = set()

    def check(self, member: Member, identity: Hashable | None = None) -> None:
        """Raise MachineFault where a member is refused.

        Args: identity: what may be there only once; default: its path.
        """
        parts, identity = member.parts, member.parts if identity is None else identity
        self.taken += member.size
        problem = (
            "its path is absolute" if parts[0] == "/" or DRIVE.match(member.name) else
            "its path leaves the archive" if ".." in parts else
            "it is a link" if member.is_link else
            "it is no file" if not member.is_file else
            f"{member.size:,} bytes are no small image" if self.largest is not None and member.size > self.largest else
            "it is there twice" if identity in self.seen else
            f"with it, images take more than {self.most:,} bytes" if self.most is not None and self.taken > self.most else
            "the archive ends before it does" if self.size is not None and member.end > self.size else None
        )  # fmt: skip
        if problem:
            raise MachineFault(f"{self.path}: {member.name!r} cannot be used: {problem}")
        self.seen.add(identity)


class StrictTarInfo(tarfile.TarInfo):
    """A header that has to be whole: tarfile takes a damaged one for the end, and what follows would be lost."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        """Return the header in `buf`. Raise tarfile.ReadError where it is damaged or missing."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.EmptyHeaderError:
            raise tarfile.ReadError("its end is missing")
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(first_line(error))


def of_tar(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Member:
    """Return the member that a header of a tar describes."""
    return Member(
        entry.name, entry.size, entry.isdir(), entry.islnk() or entry.issym(), entry.isreg() and not entry.issparse(),
        lambda: tar.extractfile(entry).read(), entry.offset_data + entry.size,
    )  # fmt: skip


def check_end(tar: tarfile.TarFile) -> None:
    """Raise tarfile.ReadError where something follows the end of the archive, as where several were joined to one."""
    while chunk := tar.fileobj.read(1 << 20):
        if chunk.strip(b"\0"):
            raise tarfile.ReadError("it goes on after its end, as archives do that were joined to one")


def find(folder: Path, name: str) -> list[Path]:
    """Return the archives in a folder that are called `name` but for their suffix."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob(f"{name}.*") if path.name.lower().removeprefix(name) in SUFFIXES)


def members(path: Path) -> Iterator[Member]:
    """Yield all members of an archive in order; each can be read until the next one is asked for.

    Raises MachineFault where the archive is damaged, RequestError where it needs a package or a password.
    """
    with _readable(path), path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        found = _of_zip(path, file) if head[:2] == b"PK" else _of_tar(path, file, head == b"\x28\xb5\x2f\xfd")
        for member in found:
            yield member._replace(read=partial(_contents, path, member))


def _contents(path: Path, member: Member) -> bytes:
    with _readable(path):
        return member.read()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever a damaged archive raises into a MachineFault that names it."""
    try:
        yield
    except (MachineFault, RequestError):
        raise
    except FAULTS as error:
        raise MachineFault(f"{shown(str(path))} cannot be read: {first_line(error)}")


def _of_tar(path: Path, file: IO[bytes], zstd: bool) -> Iterator[Member]:
    with tarfile.open(
        fileobj=_unzstd(path, file) if zstd else file, mode="r|" if zstd else "r|*", tarinfo=StrictTarInfo
    ) as tar:
        for entry in tar:
            yield of_tar(tar, entry)
        check_end(tar)


def _unzstd(path: Path, file: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard
    except ImportError:
        raise RequestError(
            f"{shown(str(path))} is packed by zstd, which needs the package zstandard: pip install zstandard"
        )

    class Reader:
        """A stream that raises OSError where it is damaged. Where it was cut, tarfile misses the end."""

        stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)

        def read(self, size: int) -> bytes:
            try:
                return self.stream.read(size)
            except zstandard.ZstdError as error:
                raise OSError(first_line(error))

    return Reader()


def _of_zip(path: Path, file: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise MachineFault(f"{shown(str(path))}: {info.filename!r} is encrypted: pack it without a password")
            kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0  # 3: made on Unix
            name = info.filename.replace("\\", "/")
            yield Member(
                name,
                info.file_size,
                name.endswith("/"),
                stat.S_ISLNK(kind),
                kind in (0, stat.S_IFREG),
                partial(_unzip, archive, info),
            )


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return the contents; no more than one byte above what the header says, however far it would unpack."""
    with archive.open(info) as file:
        return file.read(info.file_size + 1)
