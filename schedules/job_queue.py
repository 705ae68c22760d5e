"""Which job comes next, and what becomes of one that has ended. Starts nothing itself.

    queue = Queue(read("study.json"), retries=2)
    for job in queue.ready(room=2): ...               # not finished, trained by nobody else, its teacher finished
    queue.ended("digits.teacher", 0)

A job is what its run's folder says, so a launcher that was killed and started again knows all that the one before knew.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    """A job in the queue: its state, why, tries without progress, epochs and checkpoint at its last start, when to look at it
    again, and how its last process ended (the fields of ending.read)."""

    job: Job
    state: str = WAITING
    reason: str = ""
    tries: int = 0
    epochs: int = 0
    saved: int = 0
    began: float = 0.0
    not_before: float = 0.0
    end: dict = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return RUNS / self.job.name

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def record(self) -> Record | None:
        return read(self.folder)

    def checkpoint(self) -> int:
        """When it was last written."""
        try:
            return checkpoint_path(self.job.name).stat().st_mtime_ns
        except OSError:
            return 0


class Queue:
    """The jobs of a schedule in its order. A job that fails is tried again `retries` times, unless it got further."""

    def __init__(self, jobs: Sequence[Job], retries: int):
        self.places = {job.name: Place(job) for job in jobs}
        self.retries = retries
        for place in self.places.values():
            self._look(place)
        self.skipped = sum(place.state == FINISHED for place in self.places.values())

    def count(self, *states: str) -> int:
        return sum(place.state in states for place in self.places.values())

    def is_over(self) -> bool:
        return all(place.state in OVER for place in self.places.values())

    def ready(self, room: float = math.inf, has_gpus: bool = False) -> Iterator[Place]:
        """The jobs that may start now and have `room`; each is RUNNING from here on."""
        now = time.monotonic()
        for place in self.places.values():
            if room < 1:
                return
            if place.state not in (WAITING, ELSEWHERE) or place.not_before > now or not self._may_start(place):
                continue
            self._look(place)
            if place.state == WAITING:
                size = max(1, place.job.gpus) if has_gpus else 1
                if size > room:  # what is large waits for its room, and is not overtaken for ever
                    return
                record = place.record()
                outcome.clear(place.folder)  # of the process before: this one may end before it has a record
                place.state, place.reason, place.began = RUNNING, "", now
                place.epochs, place.saved = record.epochs_done if record else 0, place.checkpoint()
                room -= size
                yield place

    def _look(self, place: Place) -> None:
        """What its folder says: finished already, trained elsewhere, or free."""
        record = place.record()
        if record is not None and record.state == "finished":
            place.state = FINISHED
        elif record is not None and record.state == "diverged":  # and would again
            place.state, place.reason = DIVERGED, record.reason
        elif record is not None and (process := holder(place.folder)):
            place.state, place.reason = ELSEWHERE, f"trained by {process}"
            place.not_before = time.monotonic() + LOOK_AGAIN
        else:
            place.state = WAITING

    def _may_start(self, place: Place) -> bool:
        """Whether all that it comes from is finished; BLOCKED where one of it never will be."""
        for need, what in place.job.needs.items():
            if (other := self.places.get(need)) is None or other.state == FINISHED:
                continue
            if other.state in OVER:
                place.state, place.reason = BLOCKED, f"its {what} {need} {other.state}"
            return False
        return True

    def ended(self, name: str, status: int | None, stopping: bool = False) -> Place:
        """The place of a job whose process has ended (None: with its worker), with its new state. `stopping`: it was asked
        to, and that is no try."""
        place = self.places[name]
        record = place.record()
        if record is not None and record.state == "finished":
            place.state, place.reason = FINISHED, ""
            return place
        answer = outcome.answered(place.folder, status)
        outcome.clear_answer(place.folder)
        place.reason = _reason(place, record, answer, status)
        unknown = {"cause": outcome.cause_of(-9 if status is None else status), "epochs": None, **answer}
        place.end = unknown if record is None or record.end is None else record.end
        if status == 2 and self._is_elsewhere(place, answer):
            place.state, place.not_before = ELSEWHERE, time.monotonic() + LOOK_AGAIN
            return place
        if stopping and status in (130, 143):
            place.state = WAITING
            return place
        if record is None or record.end is None:
            outcome.note(place.folder, -9 if status is None else status, place.reason)
        place.tries = 1 if self._got_further(place, record, status) else place.tries + 1
        if status == 3:
            place.state = DIVERGED
        elif status == 2 or place.tries > self.retries:
            place.state = FAILED
        else:
            wait = min(4.0 ** min(place.tries - 1, 9), LONGEST_WAIT)
            place.state, place.not_before = WAITING, time.monotonic() + wait
        return place

    def _got_further(self, place: Place, record: Record | None, status: int | None) -> bool:
        """By an epoch, or by a checkpoint within one, if what ended it came from outside."""
        if record is not None and record.epochs_done > place.epochs:
            return True
        return (status is None or status < 0 or status in (130, 143)) and place.checkpoint() != place.saved

    def give_up(self) -> None:
        """What runs no longer, and of which nobody has told how it ended, waits for the next launcher."""
        for place in self.places.values():
            place.state = WAITING if place.state == RUNNING else place.state

    def _is_elsewhere(self, place: Place, answer: dict) -> bool:
        """Whether another process trains it, or did when this one was refused."""
        if process := holder(place.folder):
            place.reason = f"trained by {process}"
        return process is not None or answer.get("busy", False)


def _reason(place: Place, record: Record | None, answer: dict, status: int | None) -> str:
    """Why a process ended, in one line: as its record says, as it has answered, or the last line of its log."""
    if status is None:
        return "its worker was lost"
    if status < 0:
        return f"killed by signal {-status}"
    said = [answer["reason"]] if answer else [line.removeprefix("error: ") for line in tail(place.log, 1)]
    if record is not None and record.end is not None:
        said = [record.end["reason"]]
    return said[0] if said else f"exit status {status}"


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log, as a terminal would show them: of a bar, only how it was left."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 100_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    shown = [line.rstrip("\r").split("\r")[-1].rstrip() for line in text.split("\n")]
    return [line for line in shown if line][-lines:]
