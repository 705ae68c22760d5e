"""The file that schedules.pack makes: an uncompressed tar whose first member says what follows, and nothing else is believed.

    write(Path("s.pack.tar"), {"s": {"teacher": "t"}}, [Path("checkpoints/s.pt"), Path("runs/s/config.json"), …])
    with opened("s.pack.tar") as pack:                    # RequestError where it is no pack that can be trusted
        pack.extract(checkpoints=Path(…), runs=Path(…))

The manifest has a format, the runs with what they need, and of each file its size and SHA-256. A member is a plain file that the manifest
names once, with that size and digest; its name is checkpoints/NAME.pt, or runs/NAME/ and one of the files that a run writes.
"""

import hashlib
import io
import json
import re
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from system.errors import RequestError, did_you_mean, first_line
from system.files import write_atomically
from weights.sources import check_run_name

FORMAT = 1
MANIFEST = "swapconv-pack.json"
LARGEST_MANIFEST = 1 << 24  # bytes
OF_RECORD = re.compile(
    r"(config\.json|config\.yaml|metrics\.jsonl|end\.json|latency\.json|events\.out\.tfevents\.[\w.-]{1,200})"
)
NEEDED = ("config.json", "metrics.jsonl")
CHUNK = 1 << 20
READABLE = {"path", "size"}  # the extended headers that this program writes


def write(path: Path, runs: Mapping[str, Mapping[str, str]], files: Sequence[Path]) -> int:
    """Write a pack of runs, each with what it needs by role, and return its size in bytes. Raise MachineFault where that fails."""
    said = {each.as_posix(): {"bytes": each.stat().st_size, "sha256": digest_of(each)} for each in files}
    manifest = {"format": FORMAT, "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "runs": {**runs}, "files": said}
    document = json.dumps(manifest, indent=1).encode()

    def pack(file: BinaryIO) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(_member(MANIFEST, len(document)), io.BytesIO(document))
            for name, about in said.items():
                with open(name, "rb") as contents:
                    archive.addfile(_member(name, about["bytes"]), contents)

    write_atomically(path, pack)
    return path.stat().st_size


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, int(time.time())
    return member


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Pack:
    """A pack whose manifest makes sense: `runs` with what they need by role, `files` by name, their total of `bytes`."""

    def __init__(self, path: str, archive: tarfile.TarFile, manifest: dict):
        self.path, self._archive = path, archive
        self.runs: dict[str, dict[str, str]] = manifest["runs"]
        self.files: dict[str, dict] = manifest["files"]
        self.bytes = sum(each["bytes"] for each in self.files.values())

    def extract(self, checkpoints: Path, runs: Path) -> None:
        """Write the files into two folders. Raise RequestError for the first member that is not what the manifest says."""
        left = dict(self.files)
        for member in self._archive:
            if member.name == MANIFEST and member.offset == 0:
                continue
            about = left.pop(member.name, None)
            if about is None:
                again = "twice" if member.name in self.files else "which its manifest does not name"
                raise self.refused(f"it holds {_shown(member.name)}, {again}")
            _check_plain(member, self)
            if member.size != about["bytes"]:
                raise self.refused(f"{member.name} has {member.size:,} bytes, its manifest says {about['bytes']:,}")
            top, _, rest = member.name.partition("/")
            self._copy(member, about["sha256"], (checkpoints if top == "checkpoints" else runs) / rest)
        if left:
            raise self.refused(f"{next(iter(left))} is missing: it was cut, or not wholly copied")

    def _copy(self, member: tarfile.TarInfo, sha256: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        found = hashlib.sha256()
        with self._archive.extractfile(member) as contents, target.open("xb") as file:
            while chunk := contents.read(CHUNK):
                found.update(chunk)
                file.write(chunk)
        if found.hexdigest() != sha256:
            raise self.refused(f"{member.name} is damaged: its SHA-256 is not the one in the manifest")

    def refused(self, why: str) -> RequestError:
        """Return the error of a pack that cannot be trusted."""
        return RequestError(f"{self.path} is refused, {why}: nothing of it was kept; have it made and copied again")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:80]}…")


def _check_plain(member: tarfile.TarInfo, pack: Pack) -> None:
    """Raise RequestError unless a member is a plain file, whose size is that of its bytes in the archive."""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
        raise pack.refused(f"{member.name} is no plain file but a link, a device or the like")
    if odd := set(member.pax_headers) - READABLE:
        raise pack.refused(f"{member.name} has the header {_shown(min(odd))}")


@contextmanager
def opened(path: str) -> Iterator[Pack]:
    """Yield a pack after its manifest was checked. Raise RequestError where the file is none, or damaged."""
    if not Path(path).is_file():
        what = "is no file" if Path(path).exists() else "does not exist"
        near = did_you_mean(path, (each.name for each in Path(".").glob("*.tar"))) if what == "does not exist" else ""
        raise RequestError(f"{path} {what}{near}")
    try:
        with tarfile.open(path, "r:") as archive:
            yield Pack(path, archive, _manifest(path, archive))
    except RequestError:
        raise
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {first_line(error)}")
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise RequestError(
            f"{path} is no pack of schedules.pack, or it is damaged ({first_line(error)}): nothing of it was kept"
        )


def _manifest(path: str, archive: tarfile.TarFile) -> dict:
    """Return the manifest of a pack. Raise RequestError where there is none, or it makes no sense."""
    first = archive.next()
    if first is None or first.name != MANIFEST or first.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or first.sparse:
        raise RequestError(f"{path} is no pack of schedules.pack: it does not begin with {MANIFEST}")
    if first.size > LARGEST_MANIFEST:
        raise RequestError(
            f"{path} is refused: its manifest has {first.size:,} bytes, {LARGEST_MANIFEST:,} are allowed"
        )
    manifest = json.loads(archive.extractfile(first).read())
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if type(found) is not int or found != FORMAT:
        raise RequestError(f"{path} has format {_shown(str(found))}; this version of swapconv reads format {FORMAT}")
    if why := _fault(manifest, Path(path).stat().st_size):
        raise RequestError(f"{path} is refused, its manifest is wrong: {why}")
    return manifest


def _fault(manifest: Mapping, size: int) -> str:
    """Return what is wrong with a manifest of a file of so many bytes; empty where nothing is."""
    runs, files = manifest.get("runs"), manifest.get("files")
    if not (isinstance(runs, dict) and isinstance(files, dict) and runs):
        return "it names no runs or no files"
    for name, needs in runs.items():
        check_run_name(name, "a run of the pack")
        if not isinstance(needs, dict) or not all(isinstance(each, str) for each in needs.values()):
            return f"what {name} needs is no object of names"
    if len({name.lower() for name in runs}) < len(runs):
        return "two of its runs differ in case alone"
    for name, about in files.items():
        if (run := run_of(name)) is None or run not in runs:
            return f"{_shown(name)} is no file of one of its runs"
        plain = isinstance(about, dict) and type(about.get("bytes")) is int and 0 <= about["bytes"]
        if not plain or not re.fullmatch("[0-9a-f]{64}", str(about.get("sha256"))):
            return f"{name} has no size or no SHA-256"
    for run in runs:
        wanted = [f"checkpoints/{run}.pt", *(f"runs/{run}/{each}" for each in NEEDED)]
        if lacking := [each for each in wanted if each not in files]:
            return f"{lacking[0]} is missing"
    stated = sum(about["bytes"] for about in files.values())
    return f"its files have {stated:,} bytes, the pack {size:,}" if stated > size else ""


def run_of(name: str) -> str | None:
    """Return the run that a member is a file of; None for what no pack may hold."""
    match name.split("/"):
        case ["checkpoints", file] if file.endswith(".pt"):
            return file.removesuffix(".pt")
        case ["runs", run, file] if OF_RECORD.fullmatch(file):
            return run
    return None
