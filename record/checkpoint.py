"""Checkpoints that prove to be whole, with the one before as a reserve.

    save(checkpoint_path("wrn.teacher"), {"epoch": 3, "model": ..., ...})
    contents = load(checkpoint_path("wrn.teacher"))

A checkpoint is what torch.save writes and, as the last line, the SHA-256 of it. It is checked before anything else is
read. It holds plain types and tensors and is loaded with weights_only=True, so it cannot run anything.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from record.identity import name_of
from record.paths import CHECKPOINTS, RUNS, checkpoint_path
from system.errors import MachineFault, RequestError, did_you_mean, first_line
from system.files import previous, write_atomically

FORMAT = 3  # 2 called the callbacks companions
PARTS = {
    "format": int, "epoch": int, "step": int, "model": dict, "optimizer": dict, "callbacks": list, "meter": dict,
    "rng": dict, "config": dict, "rows": list,
}  # fmt: skip
TRAILER = len(b"sha256 " + 64 * b"0" + b"\n")


class _Hashing:
    """A file for torch.save: hashes what is written, and keeps the OSError, for which torch raises a RuntimeError without the reason."""

    def __init__(self, file: BinaryIO):
        self.file, self.sha256, self.error = file, hashlib.sha256(), None

    def write(self, data) -> int:
        try:
            written = self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.sha256.update(data)
        return written

    def flush(self) -> None:
        self.file.flush()


def save(path: Path, contents: dict) -> None:
    """Write a checkpoint and keep the one before. Raise MachineFault where that fails; both are then as they were."""

    write_atomically(path, partial(_write, {"format": FORMAT, **contents}), keep_previous=True)


def _write(contents: dict, file: BinaryIO) -> None:
    hashing = _Hashing(file)
    try:
        torch.save(_compact(contents), hashing)
    except RuntimeError:
        if hashing.error is None:
            raise
        raise hashing.error
    file.write(f"sha256 {hashing.sha256.hexdigest()}\n".encode())


def _compact(value: Any) -> Any:
    """Copy to the CPU; a view of a larger storage becomes a tensor of its own, since torch would save all of the storage."""
    match value:
        case torch.Tensor():
            whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
            return value.detach().cpu() if whole else value.detach().cpu().clone()
        case dict():
            return {key: _compact(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(_compact(item) for item in value)
    return value


def load(path: Path) -> tuple[dict, Path]:
    """Return a checkpoint, on the CPU, and its file: the one before, with a warning, where that at `path` is damaged.

    Raise MachineFault where both are damaged, RequestError where a newer version has written it.
    """
    faults: dict[Path, str] = {}
    for candidate in (path, previous(path)):
        try:
            contents = _read(candidate)
        except FileNotFoundError:
            faults[candidate] = "is missing"
        except OSError as error:
            faults[candidate] = f"cannot be read ({first_line(error)})"
        except _Damaged as error:
            faults[candidate] = f"is damaged ({error})"
        else:
            for fault in faults.values():
                where = f"epoch {contents['epoch']}" + (f", step {contents['step']}" * (contents["step"] > 0))
                print(f"warning: {path} {fault}: the one before it is used, of {where}", file=sys.stderr)
            return contents, candidate
    first, second = faults.values()
    raise MachineFault(
        f"{path} {first}, {previous(path).name} {second}: put a copy of either in its place, or delete what is there of "
        f"both, and {RUNS / path.stem}, to start again from the beginning"
    )


class _Damaged(Exception):
    """Why a file is no checkpoint."""


def _read(path: Path) -> dict:
    """Read one file. Nothing interprets its contents before its digest has been found right."""
    with path.open("rb") as file:
        sha256, left = hashlib.sha256(), os.fstat(file.fileno()).st_size - TRAILER
        if left < 0:
            raise _Damaged(f"it has {left + TRAILER} bytes")
        while left:
            chunk = file.read(min(left, 1 << 20))
            if not chunk:
                raise _Damaged("it became shorter as it was read")
            sha256.update(chunk)
            left -= len(chunk)
        trailer = file.read()
        if not trailer.startswith(b"sha256 "):
            raise _Damaged(
                "its SHA-256 is not at its end: it was cut, or another program or an earlier version wrote it"
            )
        if trailer != f"sha256 {sha256.hexdigest()}\n".encode():
            raise _Damaged("its SHA-256 is not the one at its end")
        file.seek(0)
        try:
            contents = torch.load(file, map_location="cpu", weights_only=True)
            found = contents["format"]
            if type(found) is not int:
                raise TypeError(f"its format is {found!r}")
        except Exception as error:  # whatever a file that something else has written makes pickle or torch raise
            raise _Damaged(f"its digest is right, but it holds no checkpoint: {first_line(error)}")
    if found == 2:
        contents["callbacks"] = contents.pop("companions", None)
    if found > FORMAT:
        raise RequestError(f"{path} has format {found}; this version of swapconv reads up to {FORMAT}")
    for part, kind in PARTS.items():
        if not isinstance(contents.get(part), kind):
            raise _Damaged(f"its digest is right, but its {part!r} is {type(contents.get(part)).__name__}")
    return contents


def load_run(name: str, role: str) -> dict:
    """Return the checkpoint of another run by its name. Raise RequestError where there is none.

    `role` is what messages call it, such as "teacher". Raise MachineFault where it is damaged: the one before it would be another network, unnoticed in the results.
    """
    path = checkpoint_path(name)
    if not path.exists():
        known = [path.stem for path in sorted(CHECKPOINTS.glob("*.pt"))]
        there = f" (there: {', '.join(known[:5])}{', …' * (len(known) > 5)})" if known else ""
        raise RequestError(f"no {role} {name!r}: {path} does not exist{did_you_mean(name, known)}{there}")
    contents = load_file(path, f"{role} {name!r}")
    if name_of(contents["config"]) != name:
        print(f"warning: {path} is a checkpoint of the run {name_of(contents['config'])!r}", file=sys.stderr)
    return contents


def load_file(path: Path, called: str) -> dict:
    """Return the checkpoint of another run, wherever it lies. Raise MachineFault where it is damaged.

    `called` is what messages call the run.
    """
    try:
        return _read(path)
    except (OSError, _Damaged) as error:
        raise MachineFault(
            f"the {called} cannot be used, {path} is damaged ({first_line(error)}): repeat that run's command "
            f"with --resume, which goes on from the checkpoint before it"
        )


def change_config(path: Path, change: Callable[[dict], dict]) -> None:
    """Write a checkpoint again with a changed configuration, where that differs. A damaged one stays as it is."""
    try:
        contents = _read(path)
    except _Damaged:
        return
    if (config := change(contents["config"])) != contents["config"]:
        write_atomically(path, partial(_write, {**contents, "format": FORMAT, "config": config}))


def is_checkpoint(path: Path) -> bool:
    """Return whether a file ends as checkpoints do."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TRAILER))
        return file.read(7) == b"sha256 "


def digest(state: dict[str, torch.Tensor]) -> str:
    """Return what identifies weights: a hash of a state dict's names and bytes."""
    sha = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return sha.hexdigest()[:16]


def disk_room(name: str, network: nn.Module, kept: int, more: int = 0, is_only: bool = False) -> tuple[int, int]:
    """Return the bytes that a run's checkpoints still need, and those that are free. Raise MachineFault where they are too few.

    Two checkpoints are kept while a third is written. Args: kept: tensors that the optimizer keeps for each parameter; more:
    bytes of what else the state of training holds; is_only: a single checkpoint is written.
    """
    tensors = [*network.state_dict().values(), *[*network.parameters()] * kept]
    size = (
        sum(tensor.nbytes + 500 for tensor in tensors) + more + 20_000
    )  # with their names, the generators and the metrics
    path = checkpoint_path(name)
    needed, free = room(path, size)
    needed, what = (
        (size, "its checkpoint")
        if is_only
        else (needed, f"three checkpoints of {size:,}, two that are kept and one that is written")
    )
    if needed > free:
        raise MachineFault(f"{path.parent}/ has {free:,} bytes free, this run needs {needed:,}: {what}")
    return needed, free


def room(path: Path, size: int) -> tuple[int, int]:
    """Return the bytes that a run with checkpoints of `size` bytes still needs at `path`, and those that are free there."""
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    there = sum(each.stat().st_size for each in (path, previous(path)) if each.exists())
    return max(3 * size - there, size), shutil.disk_usage(folder).free
