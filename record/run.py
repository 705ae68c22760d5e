"""The record of a run: whose name it is, who is training it now, and what has come of it.

    found = find("wrn.teacher")                                   # both write nothing
    refuse("wrn.teacher", config, found, resume=True)             # RequestError tells the ways on
    with Run("wrn.teacher", config, about, found, resume=True) as run:
        for progress in fit(..., resumed=run.state):
            run.save(*progress)

A run NAME is checkpoints/NAME.pt, the one before it as NAME.pt.previous, and runs/NAME/ with config.json, metrics.jsonl
and TensorBoard's events. A name belongs to one configuration, and to one process at a time, which holds its lock.
"""

import errno
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from tensorboardX.event_file_writer import EventsWriter

from record import events, lock, outcome
from record.checkpoint import load, save
from record.identity import differences, name_of
from record.paths import CHECKPOINTS, RUNS, checkpoint_path, clear
from system.errors import MachineFault, RequestError, first_line
from system.files import partial_files, previous, write_atomically

# What may lie in the folder of a run of which nothing has been trained.
BEFORE = {"lock", "config.json.partial", "end.json", "end.json.partial", "answer.json", "answer.json.partial", "log"}


HISTORY = ("argv", "versions", "processes")  # what is recorded of every time that a run was begun or went on


class Found(NamedTuple):
    """What is there of a run: what tells whether the files are still the same, its configuration (None where the name is
    free), its checkpoint (None where no step has been kept) and the file of that."""

    stamp: tuple
    config: dict | None = None
    state: dict | None = None
    used: Path | None = None

    def without_weights(self) -> "Found":
        """What those need to know who are given the weights later."""
        return self._replace(state=self.state and {part: self.state[part] for part in ("epoch", "step")})


def find(name: str) -> Found:
    """What there is of a run. Writes nothing. MachineFault where it cannot be read, RequestError where the folder
    of the run holds something else."""
    stamp, path, folder = _stamp(name), checkpoint_path(name), RUNS / name
    if os.path.lexists(path) or os.path.lexists(previous(path)):
        state, used = load(path)
        return Found(stamp, state["config"], state, used)
    document, metrics = folder / "config.json", folder / "metrics.jsonl"
    if not document.exists():
        if folder.is_dir() and (others := {each.name for each in folder.iterdir()} - BEFORE):
            raise RequestError(f"{folder} holds {min(others)!r}, which is of no run of swapconv: choose another name")
        return Found(stamp)
    try:
        config = dict(json.loads(document.read_text())["config"])
        epochs = len(metrics.read_text().splitlines()) if metrics.exists() else 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MachineFault(
            f"{document} cannot be read ({first_line(error)}), and there is no checkpoint: delete {folder} to start again"
        )
    if epochs:
        raise MachineFault(
            f"{folder} records {epochs} epochs, but {path} is missing: put it back, or delete {folder} to start again"
        )
    return Found(stamp, config)


def _stamp(name: str) -> tuple:
    path = checkpoint_path(name)
    return tuple(_identity(each) for each in (path, previous(path), RUNS / name / "config.json"))


def _identity(path: Path) -> tuple | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def refuse(name: str, config: dict, found: Found, resume: bool) -> None:
    """RequestError where the name belongs to another run: to another configuration (the differences are listed), to
    the same one without `resume`, to another process, or as a name that differs in case alone. Writes nothing."""
    _refuse(name, config, found, resume)
    if process := lock.holder(RUNS / name):
        lock.refuse(name, process)


def _refuse(name: str, config: dict, found: Found, resume: bool) -> None:
    taken = {path.stem for path in CHECKPOINTS.glob("*.pt")} | {path.name for path in RUNS.glob("*")}
    if clash := sorted(other for other in taken if other != name and other.lower() == name.lower()):
        raise RequestError(f"the name {name!r} differs from the existing run {clash[0]!r} in case alone")
    if found.config is None:
        return
    if found.state is not None and name_of(found.config) != name_of(config):
        raise RequestError(
            f"{found.used} is a checkpoint of the run {name_of(found.config)!r}, not of {name!r}: put the right one back"
        )
    if different := differences(found.config, config):
        free = "" if found.state else f", or delete {RUNS / name}, nothing of it has been trained"
        raise RequestError(
            f"the run {name!r} exists with another configuration ({'; '.join(different)}): choose another name{free}"
        )
    if not resume:
        finished = found.state is not None and found.state["epoch"] >= config["epochs"]
        done = "is finished" if finished else f"exists, with {progress(found.state, config)} done"
        way = "show its result" if finished else "go on"
        raise RequestError(f"the run {name!r} {done}: {way} with --resume or choose another name")


def progress(state: dict | None, config: dict) -> str:
    """How far a state has got: `2 of 30 epochs`, `2 of 30 epochs and 17 steps`."""
    epoch, step = (state["epoch"], state["step"]) if state else (0, 0)
    return outcome.progress(epoch, step, config["epochs"])


class Run:
    """The record of one run, held by this process alone while the context lasts. One that is finished and whole is only
    read: not a byte of it changes; what is missing of it is written anew.

    `config` is what identifies it, `about` what is only recorded (argv, costs, versions). `state` is the last that was
    kept of the training and `rows` the metrics of its finished epochs.
    """

    def __init__(self, name: str, config: dict, about: dict, found: Found, resume: bool):
        self.name, self.config, self.folder = name, config, RUNS / name
        self._lock, self._events = None, None
        if self._shows(found, resume):
            return
        self._lock = lock.take(name)
        try:
            if found.stamp != _stamp(name):  # another process was here since
                found = find(name)
            _refuse(name, config, found, resume)
            self._take(found)
            try:
                self._begin(about, found)
            except OSError as error:
                raise MachineFault(f"{error.filename or self.folder} cannot be written: {first_line(error)}")
        except BaseException:
            self.__exit__()
            raise

    def _take(self, found: Found) -> None:
        self.state = found.state
        self.rows: list[dict] = list(self.state["rows"]) if self.state else []

    def _shows(self, found: Found, resume: bool) -> bool:
        """Whether nothing is to be written, not even a lock: the run is finished and its record whole. RequestError where
        another process holds it."""
        self._take(found)
        if not (resume and self.state is not None and self.is_finished() and found.stamp == _stamp(self.name)):
            return False
        refuse(self.name, self.config, found, resume)
        path = checkpoint_path(self.name)
        return found.used == path and not partial_files(path) and outcome.read(self.folder) is None and self._is_whole()

    def _is_whole(self) -> bool:
        """Whether the folder says what the checkpoint does, to the point."""
        try:
            document = json.loads((self.folder / "config.json").read_text())
            points = [point for path in self.folder.glob(events.FILES) for point in events.read(path)]
            wanted = [point for row in self.rows for event in events.of_row(row) for point in events.points(event)]
            metrics = (self.folder / "metrics.jsonl").read_text()
            return (
                isinstance(document["config"], dict) and metrics == self._lines() and sorted(points) == sorted(wanted)
            )
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _lines(self) -> str:
        """metrics.jsonl as the checkpoint has it."""
        return "".join(json.dumps(row) + "\n" for row in self.rows)

    def _begin(self, about: dict, found: Found) -> None:
        """Writes the record anew, as far as the checkpoint goes: no row and no point of a lost epoch stays."""
        CHECKPOINTS.mkdir(parents=True, exist_ok=True)
        if not os.access(CHECKPOINTS, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "this process may not write there", str(CHECKPOINTS))
        clear(checkpoint_path(self.name), found.used)
        outcome.clear(self.folder)
        document = json.dumps({"config": self.config, **self._history(about)}, indent=1) + "\n"
        write_atomically(self.folder / "config.json", lambda file: file.write(document.encode()))
        lines = self._lines()
        write_atomically(self.folder / "metrics.jsonl", lambda file: file.write(lines.encode()))
        stale = list(self.folder.glob(events.FILES))
        self._events = EventsWriter(str(self.folder / "events"), f".{os.getpid()}.{time.monotonic_ns()}")
        for row in self.rows:
            self._plot(row)
        self._events.flush()
        for path in stale:  # every point up to the checkpoint has just been written again
            path.unlink()

    def _history(self, about: dict) -> dict:
        """How the run began, and under `resumed` from where and how it went on."""
        try:
            before = json.loads((self.folder / "config.json").read_text())
            resumed = before.get("resumed", [])
        except (OSError, ValueError, AttributeError):
            return about
        if self.state is not None and not self.is_finished():
            resumed = [*resumed, {"after": self.progress(), **{key: about[key] for key in HISTORY}}]
        return about | {key: before[key] for key in about if key in before} | ({"resumed": resumed} if resumed else {})

    def save(self, row: dict | None, state: dict) -> dict | None:
        """Makes lasting what has been trained: the checkpoint first and then, where an epoch has ended, its row.

        MachineFault where a file cannot be written, or the lock is no longer this process's own."""
        if (_identity(self.folder / "lock") or (None,))[0] != os.fstat(self._lock.fileno()).st_ino:
            raise MachineFault(
                f"{self.folder / 'lock'} was deleted or replaced: another process may train this run, so this one stops"
            )
        if row is not None:
            row = self._with_best(row)
        rows = [*self.rows, row] if row is not None else self.rows
        save(checkpoint_path(self.name), {**state, "config": self.config, "rows": rows})
        self.rows, self.state = rows, state
        if row is not None:
            try:
                with (self.folder / "metrics.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
                self._plot(row)
                self._events.flush()
            except OSError as error:
                raise MachineFault(f"{error.filename or self.folder} cannot be written: {first_line(error)}")
        return row

    def _with_best(self, row: dict) -> dict:
        """A row with the best test so far, where its epoch was tested."""
        errors = [each["test_top1_error"] for each in (*self.rows, row) if "test_top1_error" in each]
        return {**row, "best_test_top1_error": min(errors)} if "test_top1_error" in row else row

    def progress(self) -> str:
        """How far the run has got, as far as it is kept."""
        return progress(self.state, self.config)

    def is_finished(self) -> bool:
        return len(self.rows) >= self.config["epochs"]

    def beginning(self) -> str:
        """What a resume begins with, for a person."""
        if self.is_finished():
            return f"{self.name} is finished, nothing is left to do"
        return f"resuming after {self.progress()}" if self.state else "nothing to resume: starting"

    def _plot(self, row: dict) -> None:
        """Writes in this thread: TensorBoard's own writer would hide a full disk in another."""
        for event in events.of_row(row):
            self._events.write_event(event)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind=None, error: BaseException | None = None, traceback=None) -> None:
        if error is not None and self._lock is not None:
            kept = (self.state["epoch"], self.state["step"]) if self.state else (0, 0)
            outcome.note(self.folder, getattr(error, "exit_status", 1), first_line(error), *kept)
        if self._events is not None:
            try:
                self._events.close()
            except OSError:  # a disk that is full; what could not be written is written at the next resume
                pass
        if self._lock is not None:
            self._lock.close()
