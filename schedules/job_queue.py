"""Decide which job of a schedule comes next, and what becomes of one that has ended. Starts no process itself.

    queue = Queue(read("study.json"), retries=2)
    for place in queue.ready(room=2): ...             # not finished, trained by no other process, its teacher finished
    queue.ended("digits.teacher", 0)

The state of a job is read from the folder of its run, so a launcher goes on where the last one ended.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from record import outcome
from record.paths import RUNS, checkpoint_path
from record.reader import Record, holder, read
from schedules.schedule import Job

WAITING, RUNNING, ELSEWHERE, FINISHED, DIVERGED, FAILED, BLOCKED = (
    "waiting", "running", "elsewhere", "finished", "diverged", "failed", "blocked",
)  # fmt: skip
OVER = (FINISHED, DIVERGED, FAILED, BLOCKED)
LOOK_AGAIN = 2.0  # seconds until a run that another process trains is looked at again
LONGEST_WAIT = 300.0  # seconds until a job that has failed is tried again


@dataclass
class Place:
    """A job in the queue.

    state, and the reason for it; tries: starts without progress; epochs, saved: the epochs done and the checkpoint's
    time at its last start; began, not_before: when it was started, and from when on it may be, on the monotonic clock;
    end: the fields of record.outcome of its last process.
    """

    job: Job
    state: str = WAITING
    reason: str = ""
    tries: int = 0
    epochs: int = 0
    saved: int = 0
    began: float = 0.0
    not_before: float = 0.0
    end: dict = field(default_factory=dict)
    begins: ClassVar[str] = ""  # what an event says of its start; "" where it trains its run

    @property
    def folder(self) -> Path:
        """The folder of its run."""
        return RUNS / self.job.name

    @property
    def log(self) -> Path:
        """The file that takes the output of its processes."""
        return self.folder / "log"

    def record(self) -> Record | None:
        """Read what its run has left so far."""
        return read(self.folder)

    def result(self) -> str:
        """Return what came of it in words, where that is not the result of its run; else ""."""
        return ""

    def is_done(self, record: Record | None) -> bool:
        """Return whether its run has all epochs that the job asks for."""
        if record is None:
            return False
        return (
            record.state == "finished" or self.job.options.until is not None and record.epochs_done >= self.job.epochs
        )

    def checkpoint(self) -> int:
        """Return when its checkpoint was last written, in nanoseconds; 0 where there is none."""
        try:
            return checkpoint_path(self.job.name).stat().st_mtime_ns
        except OSError:
            return 0


class Queue:
    """The jobs of a schedule in its order. A job that fails `retries` times more without progress is given up."""

    def __init__(self, jobs: Sequence[Job], retries: int):
        self.places = {job.name: Place(job) for job in jobs}
        self.retries = retries
        for place in self.places.values():
            self._look(place)
        self.skipped = sum(place.state == FINISHED for place in self.places.values())

    def count(self, *states: str) -> int:
        """Return how many jobs are in these states."""
        return sum(place.state in states for place in self.places.values())

    def is_over(self) -> bool:
        """Return whether no job is left to start or to wait for."""
        return all(place.state in OVER for place in self.places.values())

    def ready(self, room: float = math.inf, has_gpus: bool = False) -> Iterator[Place]:
        """Yield the jobs that may start now, up to `room` slots; each is RUNNING from then on.

        A job takes a slot, or as many as it has GPUs where there are any.
        """
        now = time.monotonic()
        for place in self.places.values():
            if room < 1:
                return
            if place.state not in (WAITING, ELSEWHERE) or place.not_before > now or not self._may_start(place):
                continue
            self._look(place)
            if place.state == WAITING:
                size = max(1, place.job.gpus) if has_gpus else 1
                if size > room:  # no small job may keep a large one waiting for ever
                    return
                record = place.record()
                outcome.clear(place.folder)  # else the last end is read again if this process ends before it writes one
                place.state, place.reason, place.began = RUNNING, "", now
                place.epochs, place.saved = record.epochs_done if record else 0, place.checkpoint()
                room -= size
                yield place

    def _look(self, place: Place) -> None:
        """Set the state of a job that does not run here: finished (or as far as its --until), diverged, trained elsewhere, or waiting."""
        record = place.record()
        if place.is_done(record):
            place.state = FINISHED
        elif record is not None and record.state == "diverged":  # it would diverge again
            place.state, place.reason = DIVERGED, record.reason
        elif record is not None and (process := holder(place.folder)):
            place.state, place.reason = ELSEWHERE, f"trained by {process}"
            place.not_before = time.monotonic() + LOOK_AGAIN
        else:
            place.state = WAITING

    def _may_start(self, place: Place) -> bool:
        """Return whether the runs that it needs are finished; set BLOCKED where one of them never will be."""
        for need, what in place.job.needs.items():
            if (other := self.places.get(need)) is None or other.state == FINISHED:
                continue
            if other.state in OVER:
                place.state, place.reason = BLOCKED, f"its {what} {need} {other.state}"
            return False
        return True

    def ended(self, name: str, status: int | None, stopping: bool = False) -> Place:
        """Set and return the new state of a job whose process has ended.

        Args: status: its exit status, None where its worker was lost; stopping: the launcher has asked it to stop,
            which counts as no try.
        """
        place = self.places[name]
        record = place.record()
        if place.is_done(record):
            place.state, place.reason = FINISHED, ""
            return place
        answer = outcome.answered(place.folder, status)
        outcome.clear_answer(place.folder)
        place.reason = _reason(place, record, answer, status)
        known = -9 if status is None else status  # a lost worker counts as a killed process
        cause = outcome.cause_of(known)
        noted = record.end if record is not None else None
        place.end = noted or answer or outcome.fields(known, place.reason)
        if cause == "request" and self._is_elsewhere(place, answer):
            place.state, place.not_before = ELSEWHERE, time.monotonic() + LOOK_AGAIN
            return place
        if stopping and cause == "stopped":
            place.state = WAITING
            return place
        if noted is None:
            outcome.note(place.folder, known, place.reason)
        place.tries = 1 if self._got_further(place, record, cause) else place.tries + 1
        if cause == "diverged":
            place.state = DIVERGED
        elif not place.end["resumable"] or place.tries > self.retries:
            place.state = FAILED
        else:
            wait = min(4.0 ** min(place.tries - 1, 9), LONGEST_WAIT)
            place.state, place.not_before = WAITING, time.monotonic() + wait
        return place

    def _got_further(self, place: Place, record: Record | None, cause: str) -> bool:
        """Return whether it finished an epoch, or was ended from outside after a checkpoint within one."""
        if record is not None and record.epochs_done > place.epochs:
            return True
        return cause in ("stopped", "killed") and place.checkpoint() != place.saved

    def give_up(self) -> None:
        """Leave to the next launcher the jobs whose end was not reported; they run no longer."""
        for place in self.places.values():
            place.state = WAITING if place.state == RUNNING else place.state

    def _is_elsewhere(self, place: Place, answer: dict) -> bool:
        """Return whether another process trains it, or did when this one was refused."""
        if process := holder(place.folder):
            place.reason = f"trained by {process}"
        return process is not None or answer.get("busy", False)


def _reason(place: Place, record: Record | None, answer: dict, status: int | None) -> str:
    """Return why a process ended, for a person: what its record says, its answer, or the last line of its log."""
    if status is None:
        return "its worker was lost"
    if status < 0:
        return f"killed by signal {-status}"
    said = [answer["reason"]] if answer else [line.removeprefix("error: ") for line in tail(place.log, 1)]
    if record is not None and record.end is not None:
        said = [record.end["reason"]]
    return said[0] if said else f"exit status {status}"


def tail(log: Path, lines: int) -> list[str]:
    """Return the last lines of a log as a terminal would show them, a progress bar in its last state."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 100_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    shown = [line.rstrip("\r").split("\r")[-1].rstrip() for line in text.split("\n")]
    return [line for line in shown if line][-lines:]
