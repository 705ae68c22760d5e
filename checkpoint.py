"""What outlives a process: atomic checkpoints and the record of a run.

    refuse_or_find("wrn.teacher", config, resume=True)          # writes nothing; RequestError tells the ways on
    with Run("wrn.teacher", config, about, resume=True) as run:
        fit(..., resumed=run.state)                              # None where there is nothing to go on from
        run.save(row, state)                                     # after each epoch

A run NAME is checkpoints/NAME.pt, the one before it as NAME.pt.previous, and runs/NAME/ with config.json, metrics.jsonl
and TensorBoard's events. One process at a time holds its lock. A checkpoint holds plain types and tensors, so it is
loaded with weights_only=True and cannot run anything.
"""

import fcntl
import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import torch
from tensorboardX import SummaryWriter

from errors import MachineFault, RequestError, did_you_mean, first_line
from options import NOT_IDENTITY

FORMAT = 1
REQUIRED = {"format", "epoch", "model", "optimizer", "companions", "rng", "config", "rows"}
CHECKPOINTS, RUNS = Path("checkpoints"), Path("runs")


def checkpoint_path(name: str) -> Path:
    return CHECKPOINTS / f"{name}.pt"


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.name}.previous")


def write_atomically(path: Path, write: Callable[[Any], None], keep_previous: bool = False) -> None:
    """Writes beside, flushes to disk, renames: at every moment `path` is the old file or the new one, whole."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep_previous and path.exists():
            link = path.with_name(f"{path.name}.link")
            link.unlink(missing_ok=True)
            os.link(path, link)
            link.replace(previous(path))
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError where a disk is full
        with suppress(OSError):
            partial.unlink()
        raise MachineFault(f"{path} cannot be written: {error}")


def save(path: Path, contents: dict) -> None:
    write_atomically(path, lambda file: torch.save(_compact({"format": FORMAT, **contents}), file), keep_previous=True)


def _compact(value: Any) -> Any:
    """The same on the CPU; a view of a larger storage becomes a tensor of its own, since torch would save it all."""
    match value:
        case torch.Tensor():
            whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
            return value.detach().cpu() if whole else value.detach().cpu().clone()
        case dict():
            return {key: _compact(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(_compact(item) for item in value)
    return value


def load(path: Path) -> dict:
    """A checkpoint, on the CPU. A damaged file is named, and the one before it used. MachineFault where none is whole."""
    for candidate in (path, previous(path)):
        try:
            with zipfile.ZipFile(candidate) as archive:
                if damaged := archive.testzip():
                    raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
            contents = torch.load(candidate, map_location="cpu", weights_only=True)
            if contents["format"] <= FORMAT and (missing := REQUIRED - contents.keys()):
                raise KeyError(f"{min(missing)} is missing")
        except FileNotFoundError:
            continue
        except Exception as error:  # whatever a damaged file makes zipfile, pickle or torch raise
            print(f"warning: {candidate} is damaged: {first_line(error)}", file=sys.stderr)
            continue
        if contents["format"] > FORMAT:
            raise RequestError(
                f"{candidate} has format {contents['format']}; this version of swapconv reads up to {FORMAT}"
            )
        return contents
    raise MachineFault(f"{path} cannot be loaded, nor the one before it")


def load_run(name: str, what: str) -> dict:
    """The checkpoint of another run by its name; `what` it is to this one. RequestError where there is none."""
    if not checkpoint_path(name).exists():
        known = [path.stem for path in sorted(CHECKPOINTS.glob("*.pt"))]
        there = f" (there: {', '.join(known[:5])}{', …' * (len(known) > 5)})" if known else ""
        raise RequestError(
            f"no {what} {name!r}: {checkpoint_path(name)} does not exist{did_you_mean(name, known)}{there}"
        )
    return load(checkpoint_path(name))


def digest(state: dict[str, torch.Tensor]) -> str:
    """What identifies weights: a hash of a state dict's names and bytes."""
    sha = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return sha.hexdigest()[:16]


def refuse_or_find(name: str, config: dict, resume: bool) -> dict | None:
    """The checkpoint that a run of this name goes on from, or None where it starts. Writes nothing.

    RequestError where the name belongs to another run: another configuration (the differences are listed), the same one
    without `resume`, or a name that differs in case alone.
    """
    taken = {path.stem for path in CHECKPOINTS.glob("*.pt")} | {path.name for path in RUNS.glob("*")}
    if clash := sorted(other for other in taken if other != name and other.lower() == name.lower()):
        raise RequestError(f"the name {name!r} differs from the existing run {clash[0]!r} in case alone")
    path = checkpoint_path(name)
    found = load(path) if path.exists() or previous(path).exists() else None
    record = RUNS / name / "config.json"
    if found is not None:
        before = found["config"]
    elif record.exists():
        try:
            before = json.loads(record.read_text())["config"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MachineFault(f"{record} cannot be read: {first_line(error)}")
    else:
        return None
    if differences := _differences(before, config):
        raise RequestError(
            f"the run {name!r} exists with another configuration ({'; '.join(differences)}): choose another name"
        )
    if not resume:
        done = found["epoch"] if found is not None else 0
        raise RequestError(
            f"the run {name!r} exists, with {done} epochs done: go on with --resume or choose another name"
        )
    return found


def _differences(before: dict, now: dict) -> list[str]:
    """What tells two configurations apart. A flag that one of them does not know yet is taken as off."""
    keys = [key for key in {**before, **now} if key not in NOT_IDENTITY]
    off = {key: None for key in keys if not (before.get(key) or now.get(key))}
    before, now = ({**configuration, **off} for configuration in (before, now))
    return [f"{key} was {before.get(key)}, is {now.get(key)}" for key in keys if before.get(key) != now.get(key)]


def _lock(name: str) -> TextIO:
    """The run's lock file, locked until it is closed or this process ends. RequestError where another one has it."""
    path = RUNS / name / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise MachineFault(f"{path} cannot be written: {error}")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if isinstance(error, BlockingIOError):
            raise RequestError(f"the run {name!r} is being trained by another process at this moment")
        raise MachineFault(f"{path} cannot be locked: {error}")
    return file


class Run:
    """The record of one run, held by this process alone while the context lasts.

    `config` is what identifies it, `about` what is only recorded (argv, costs, versions). `state` is that of the last
    finished epoch and `rows` the metrics so far.
    """

    def __init__(self, name: str, config: dict, about: dict, resume: bool):
        self.name, self.config, self.folder = name, config, RUNS / name
        self._lock = _lock(name)
        try:
            self.state = refuse_or_find(name, config, resume)
            self.rows: list[dict] = self.state["rows"] if self.state else []
            self._begin(about)
        except BaseException:
            self._lock.close()
            raise

    def _begin(self, about: dict) -> None:
        """Writes the record anew, as far as the checkpoint goes: no row and no point of a lost epoch stays."""
        CHECKPOINTS.mkdir(parents=True, exist_ok=True)  # or fail now, not after an epoch
        document = json.dumps({"config": self.config, **about}, indent=1) + "\n"
        write_atomically(self.folder / "config.json", lambda file: file.write(document.encode()))
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_atomically(self.folder / "metrics.jsonl", lambda file: file.write(lines.encode()))
        stale = list(self.folder.glob("events.out.tfevents.*"))
        self._writer = SummaryWriter(str(self.folder), filename_suffix=f".{os.getpid()}")
        for row in self.rows:
            self._plot(row)
        for path in stale:  # every point up to the checkpoint has just been written again
            path.unlink()

    def save(self, row: dict, state: dict) -> dict:
        """Makes a finished epoch lasting: the checkpoint first, then its row of metrics. Returns the row."""
        row = {**row, "best_test_top1_error": min(each["test_top1_error"] for each in [*self.rows, row])}
        save(checkpoint_path(self.name), {**state, "config": self.config, "rows": [*self.rows, row]})
        self.rows.append(row)
        try:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            self._plot(row)
        except OSError as error:
            raise MachineFault(f"{self.folder} cannot be written: {error}")
        return row

    def _plot(self, row: dict) -> None:
        for name, value in row.items():
            if name != "epoch":
                prefix, _, rest = name.partition("_")
                tag = f"{prefix}/{rest}" if prefix in ("train", "val", "test") else name
                self._writer.add_scalar(tag, value, row["epoch"] + 1)
        self._writer.flush()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception) -> None:
        self._writer.close()
        self._lock.close()
