"""The record of a run: whose name it is, who is training it now, and what has come of it.

    found = find("wrn.teacher")                                   # record/found.py
    with Run("wrn.teacher", config, about, found, resume=True) as run:
        for row, state in fit(..., resumed=run.state):
            run.save(row, state)

A run NAME is checkpoints/NAME.pt, the one before it as NAME.pt.previous, and runs/NAME/ with config.json, config.yaml,
metrics.jsonl and TensorBoard's events. A name belongs to one configuration, and to one process at a time, which holds its lock.
"""

import errno
import json
import os
import time
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from pathlib import Path

import yaml
from tensorboardX.event_file_writer import EventsWriter

from record import events, hyperparameters, lock, outcome, reader
from record.checkpoint import save
from record.found import Found, check_needs, find, progress, refuse, refuse_other, stamp_of
from record.paths import CHECKPOINTS, RUNS, checkpoint_path, clear
from system.errors import MachineFault, first_line
from system.files import file_identity, partial_files, write_atomically

HISTORY = ("argv", "versions", "machine", "processes")  # what is recorded of every time that a run was begun or went on


class Run:
    """The record of one run, held by this process alone while the context lasts.

    The record of a finished run is only read, not a byte of it changes; a missing or wrong file of it is written again. So is that
    of one that has the `until` epochs that it is to have this time. `config` is what
    identifies the run, `about` what is only recorded (argv, costs, versions), `document` the request as a configuration file, `needs`
    the other runs that it begins from. `state` is the last that was kept of the training,
    `rows` the metrics of its finished epochs.
    """

    def __init__(
        self,
        name: str,
        config: Mapping,
        about: dict,
        found: Found,
        resume: bool,
        until: int | None = None,
        document: str | None = None,
        needs: Collection[str] = (),
    ):
        self.name, self.config, self.folder = name, dict(config), RUNS / name
        self._lock, self._events = None, None
        if self._shows(found, resume, until):
            return
        self._lock = lock.take(name)
        try:
            if found.stamp != stamp_of(name):  # another process was here since
                found = find(name)
            refuse_other(name, config, found, resume)
            check_needs(name, needs if found.state is None else ())
            self._take(found)
            try:
                self._begin(about, found)
                if document is not None:
                    write_document(self.folder / "config.yaml", document)
            except OSError as error:
                raise MachineFault(f"{error.filename or self.folder} cannot be written: {first_line(error)}")
        except BaseException:
            self.__exit__()
            raise

    def _take(self, found: Found) -> None:
        self.state = found.state
        self.rows: list[dict] = list(self.state["rows"]) if self.state else []

    def _shows(self, found: Found, resume: bool, until: int | None) -> bool:
        """Return whether nothing is to be written, not even a lock: the run is as far as it is to be and its record whole.

        Raise RequestError where another process holds it.
        """
        self._take(found)
        if not (resume and self.state is not None and found.stamp == stamp_of(self.name)):
            return False
        if not self.is_finished() and (until is None or self.state["epoch"] < until):
            return False
        refuse(self.name, self.config, found, resume)
        path = checkpoint_path(self.name)
        is_clear = outcome.read(self.folder) is None or not self.is_finished()
        return found.used == path and not partial_files(path) and is_clear and self._is_whole()

    def _is_whole(self) -> bool:
        """Return whether the folder says what the checkpoint does, to the point."""
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
        """Return metrics.jsonl as the checkpoint has it."""
        return "".join(json.dumps(row) + "\n" for row in self.rows)

    def _begin(self, about: dict, found: Found) -> None:
        """Write the record anew, as far as the checkpoint goes: no row and no point of a lost epoch stays."""
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
        for event in hyperparameters.beginning(self.config, about.get("counts", {})):
            self._events.write_event(event)
        for row in self.rows:
            self._plot(row)
        self._events.flush()
        for path in stale:  # every point up to the checkpoint has just been written again
            path.unlink()

    def _history(self, about: dict) -> dict:
        """Return how the run began, and under `resumed` from where and how it went on."""
        try:
            before = json.loads((self.folder / "config.json").read_text())
            resumed, shrunk = before.get("resumed", []), before["config"].get("shrunk_from")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return about
        if shrunk:  # what a killed shrink.py left (record/found.py) is no part of this run
            return about
        if self.state is not None and not self.is_finished():
            resumed = [*resumed, {"after": self.progress(), **{key: about[key] for key in HISTORY}}]
        return about | {key: before[key] for key in about if key in before} | ({"resumed": resumed} if resumed else {})

    def save(self, row: dict | None, state: dict) -> dict | None:
        """Keep what has been trained: write the checkpoint first and then, where an epoch has ended, its row. Return the row.

        Raise MachineFault where a file cannot be written, or the lock is no longer this process's own.
        """
        if (file_identity(self.folder / "lock") or (None,))[0] != os.fstat(self._lock.fileno()).st_ino:
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
        """Add the best test so far to a row whose epoch was tested."""
        errors = [each["test_top1_error"] for each in (*self.rows, row) if "test_top1_error" in each]
        return {**row, "best_test_top1_error": min(errors)} if "test_top1_error" in row else row

    def progress(self) -> str:
        """Say how far the run has got, as far as it is kept."""
        return progress(self.state, self.config)

    def is_finished(self) -> bool:
        """Return whether all epochs are done."""
        return len(self.rows) >= self.config["epochs"]

    def beginning(self, until: int) -> str:
        """Say where a resumed run begins that is to have `until` epochs this time."""
        if self.is_finished():
            unmet = self.config.get("reestimate_bn") and "test_reestimated_loss" not in self.rows[-1]
            late = ": --reestimate_bn tests where the last epoch ends" if unmet else ""
            return f"{self.name} is finished, nothing is left to do{late}"
        if self.state and self.state["epoch"] >= until:
            return f"{self.progress()} are done, nothing is left to do until then"
        return f"resuming after {self.progress()}" if self.state else "nothing to resume: starting"

    def note_end(self, status: int, reason: str) -> None:
        """Write how the process ends where it does not end well, with what is kept of the run."""
        kept = (self.state["epoch"], self.state["step"]) if self.state else (0, 0)
        outcome.note(self.folder, status, reason, *kept)

    def latency(self) -> dict:
        """Return how long inference takes, as the record says; empty where it does not."""
        return reader.latency(self.folder)

    def note_latency(self, found: dict) -> None:
        """Write how long inference takes. Raise RequestError where another process holds the run."""
        with nullcontext() if self._lock is not None else lock.take(self.name):
            document = json.dumps(found, indent=1) + "\n"
            write_atomically(self.folder / "latency.json", lambda file: file.write(document.encode()))

    def note_early_end(self) -> None:
        """Write that the process has ended as --until says, where epochs are left."""
        if not self.is_finished() and self._lock is not None:
            self.note_end(0, f"ended by --until; {self.progress()} are kept")

    def _plot(self, row: dict) -> None:
        """Write TensorBoard's points in this thread: its own writer would hide a full disk in another one."""
        for event in events.of_row(row):
            self._events.write_event(event)
        if row["epoch"] + 1 >= self.config["epochs"]:
            self._events.write_event(hyperparameters.end())

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind=None, error: BaseException | None = None, traceback=None) -> None:
        if error is not None and self._lock is not None:
            self.note_end(getattr(error, "exit_status", 1), first_line(error))
        if self._events is not None:
            try:
                self._events.close()
            except OSError:  # a disk that is full; what could not be written is written at the next resume
                pass
        if self._lock is not None:
            self._lock.close()


def write_document(path: Path, document: str) -> None:
    """Write a configuration file, unless the one that is there says the same, whose comments then say where it came from."""
    for left in partial_files(path):
        left.unlink(missing_ok=True)
    try:
        is_same = yaml.safe_load(path.read_text()) == yaml.safe_load(document)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        is_same = False
    if not is_same:
        write_atomically(path, lambda file: file.write(document.encode()))


class Unrecorded:
    """The record as the ranks see it that do not write one."""

    state = None

    def save(self, row: dict | None, state: dict) -> dict | None:
        """Return the row and keep nothing."""
        return row

    def note_early_end(self) -> None:
        """Write nothing."""
