"""The rounds of a search as one queue: when all runs of a round are over, the best of them go on, each from its checkpoint.

    search = planned(read("space.yaml"))                       # RequestError where any run could not begin
    queue = Rounds(search, retries=2)                          # a Queue, for every launcher
    queue.results                                              # once it is over: each run of each round

Rounds are synchronous: a round begins when the one before it is over. Brackets wait for nothing of each other, so their runs
fill the slots that are free. Nothing is kept but the runs: which go on follows from their records, so that after any kill the
same search comes to the same end. The last job is the test of the winner (tested.py).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from record import outcome, reader
from record.paths import RUNS, checkpoint_path
from record.reader import Record
from schedules.job_queue import FAILED, FINISHED, OVER, WAITING, Place, Queue
from schedules.schedule import Job, conflicts, parse
from schedules.search.brackets import Round, bracket, counted
from schedules.search.space import Space
from schedules.search.tested import TestJob, TestPlace
from system.errors import RequestError


@dataclass(frozen=True)
class Search:
    """A space with the first job of each run, to all R epochs, by bracket and index."""

    space: Space
    jobs: dict[int, list[Job]]

    @property
    def rounds(self) -> dict[int, list[Round]]:
        """The rounds of each bracket that is run."""
        return {s: bracket(self.space.R, self.space.eta, s) for s in self.space.chosen}

    def job(self, s: int, index: int, epochs: int) -> Job:
        """Return the job of a run that has `epochs` epochs when it ends."""
        whole = self.jobs[s][index]
        if epochs == self.space.R:
            return whole
        until = ("--until", str(epochs))
        return replace(
            whole, argv=(*whole.argv, *until), arguments=(*whole.arguments, *until), options=whole.options | {"until": epochs}
        )  # fmt: skip

    def every(self) -> list[Job]:
        """Return the whole jobs of all runs."""
        return [job for jobs in self.jobs.values() for job in jobs]


@dataclass(frozen=True)
class Result:
    """A run in one round: the epochs that it was to have, its error on the images held out after the last of them in %.

    error: None where it did not come so far, by `status` (finished, diverged or failed); kept: whether it goes on, None in the
    last round; reason: why it did not come so far.
    """

    bracket: int
    round: int
    index: int
    name: str
    epochs: int
    error: float | None
    status: str
    kept: bool | None
    reason: str = ""

    @property
    def rank(self) -> tuple:
        """What runs of a round are sorted by: the error, of equal ones the index; a run without one is worse than all."""
        return math.inf if self.error is None else self.error, self.index


def planned(space: Space) -> Search:
    """Return the search. Raise RequestError in one line where a run cannot begin, or exists and is another."""
    from schedules.check import of_networks  # imports torch

    argvs, of = [], {}
    for s in space.chosen:
        for index in range(bracket(space.R, space.eta, s)[0].runs):
            argvs.append(["python", "main.py", *command(space, s, index)])
            of[len(argvs)] = s, index
    jobs, faults = parse(argvs)
    for check in (conflicts, unfinished, of_networks):  # each takes longer than the one before
        faults = faults or list(check(jobs))
    if faults:
        number, fault = min(faults)
        raise _fault(space, *of[number], fault, len({number for number, _ in faults}))
    by_bracket: dict[int, list[Job]] = {s: [] for s in space.chosen}
    for job in jobs:
        by_bracket[of[job.number][0]].append(job)
    return Search(space, by_bracket)


def command(space: Space, s: int, index: int, name: str | None = None) -> list[str]:
    """Return the words after main.py of a run to all epochs. With `name` it is a run of its own, which is tested too."""
    named = ["-s" if space.mode == "student" else "-t", name or space.name_of(s, index)]
    untested = [] if name else ["--test_every", "0"]
    return [*space.base, *named, *space.words(s, index), "--epochs", str(space.R), *untested]


def _fault(space: Space, s: int, index: int, fault: str, runs: int) -> RequestError:
    named = [flag for flag in space.drawn if f"--{flag} " in fault or f"--{flag}:" in fault]
    more = f"; {counted(runs - 1, 'more run')} {'has' if runs == 2 else 'have'} faults" if runs > 1 else ""
    return RequestError(
        f"{space.lines[named[0] if named else 'base']}: bracket {s}, run {index} ({described(space.flags(s, index))}): {fault}{more}"
    )


def described(flags: dict[str, str | None]) -> str:
    """Return the values of flags in one line: `lr 0.0173823, nesterov true`."""
    return ", ".join(f"{flag} {'not given' if value is None else value}" for flag, value in flags.items())


def unfinished(jobs: Sequence[Job]) -> Iterator[tuple[int, str]]:
    """Yield a fault for each job that needs a run which is there, but not finished."""
    for job in jobs:
        for need, what in job.needs.items():
            record = reader.read(RUNS / need)
            if record is not None and record.state != "finished" and checkpoint_path(need).exists():
                has = f"{record.epochs_done} of {record.epochs_planned} epochs"
                yield job.number, f"its {what} {need!r} has {has} ({record.state}): finish it first"


def error_after(record: Record | None, epochs: int) -> float | None:
    """Return the error on the images held out after so many epochs, in %; None where it is not known, or no number."""
    rows = record.rows if record is not None else []
    found = next((row.get("val_top1_error") for row in rows if row.get("epoch") == epochs - 1), None)
    return found if found is not None and math.isfinite(found) else None


class Rounds(Queue):
    """The runs of all brackets. A run has one place, which the next round replaces, and at last the test of the winner.

    results: of the rounds that are over; best: the winner, None where there is none, or not yet.
    """

    def __init__(self, search: Search, retries: int):
        self.search, self.rounds = search, search.rounds
        self.alive = {s: list(range(rounds[0].runs)) for s, rounds in self.rounds.items()}  # in the current round
        self.number = dict.fromkeys(self.rounds, 0)  # of the current round
        self.results: list[Result] = []
        self.best: Result | None = None
        super().__init__(
            [search.job(s, index, self.rounds[s][0].epochs) for s in self.alive for index in self.alive[s]], retries
        )
        self._advance()

    def ready(self, room: float = math.inf, has_gpus: bool = False) -> Iterator[Place]:
        """Yield the jobs that may start now, as Queue does; note then which rounds are over."""
        yield from super().ready(room, has_gpus)
        self._advance()  # a run that another process has trained is found finished here

    def ended(self, name: str, status: int | None, stopping: bool = False) -> Place:
        """Set and return the new state of a job whose process has ended, as Queue does; begin the next round where it was the last."""
        place = super().ended(name, status, stopping)
        if place.state == FAILED and place.end["cause"] == "until" and place.tries == 1:
            place.state, place.not_before = (
                WAITING,
                0.0,
            )  # a process of the round before, which an earlier launcher had started
        if isinstance(place, TestPlace):
            outcome.clear(place.folder)  # how a test ended says nothing of the run, which is finished
        self._advance()
        return place

    def _advance(self) -> None:
        for s in self.rounds:
            while self.alive[s] and all(self._place(s, index).state in OVER for index in self.alive[s]):
                self._begin_next(s)
        if self.best is None and not any(self.alive.values()):
            self._begin_test()

    def _begin_test(self) -> None:
        """Put the test of the winner, if there is one, in the place of its run."""
        self.best = winner(self.results, self.search.space.R)
        if self.best is not None:
            place = TestPlace(TestJob.of(self.search.job(self.best.bracket, self.best.index, self.best.epochs)))
            self.places[place.job.name] = place
            self._look(place)

    def _place(self, s: int, index: int) -> Place:
        return self.places[self.search.space.name_of(s, index)]

    def _begin_next(self, s: int) -> None:
        """Note the results of a bracket's round, and begin the next with those that go on."""
        number = self.number[s]
        found = [self._result(s, number, index) for index in self.alive[s]]
        kept = self.rounds[s][number].kept
        best = [each.index for each in sorted(found, key=lambda each: each.rank) if each.error is not None][: kept or 0]
        self.results += [each if kept is None else replace(each, kept=each.index in best) for each in found]
        self.alive[s], self.number[s] = sorted(best), number + 1
        for index in self.alive[s]:
            place = Place(self.search.job(s, index, self.rounds[s][number + 1].epochs))
            self.places[place.job.name] = place
            self._look(place)

    def _result(self, s: int, number: int, index: int) -> Result:
        place, epochs = self._place(s, index), self.rounds[s][number].epochs
        error = error_after(place.record(), epochs) if place.state == FINISHED else None
        why = "its record has no error of images held out" if place.state == FINISHED else place.reason
        reason = "" if error is not None else why  # of a finished one it may say which other process has trained it
        return Result(s, number, index, place.job.name, epochs, error, place.state, None, reason)


def winner(results: Sequence[Result], R: int) -> Result | None:
    """Return the best of the runs that have all R epochs; of equal ones that of the larger bracket, then of the lower index.

    A run that was left behind earlier is none, whatever its error: the learning rate of R epochs has not come down there.
    """
    whole = [each for each in results if each.epochs == R and each.error is not None]
    return min(whole, key=lambda each: (each.error, -each.bracket, each.index), default=None)
