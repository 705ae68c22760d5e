"""Runs that another process trains, and a lock that many processes look at."""

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from children import context, started
from queued import begin, jobs, states, train

from record import lock, outcome
from schedules.job_queue import ELSEWHERE, FAILED, FINISHED, Queue
from system.errors import Busy, RequestError


@contextmanager
def held(name):
    """While another process has the run."""
    (Path("runs") / name).mkdir(parents=True, exist_ok=True)
    ours, theirs = context.Pipe()
    process = started(_hold, name, os.getcwd(), theirs)
    try:
        assert ours.recv() == "held"
        yield process
    finally:
        process.kill()
        process.join()


def _hold(name, folder, pipe):
    os.chdir(folder)
    with lock.take(name):
        pipe.send("held")
        signal.pause()


def test_a_run_that_another_process_trains(workplace, clock):
    """It is left to that process and looked at from time to time; when the process ends, the run goes on here."""
    with held("t") as process:
        train("t", 1)
        queue = Queue(jobs("t", "s<t"), 0)
        place = queue.places["t"]
        assert place.state == ELSEWHERE and f"trained by process {process.pid} on " in place.reason
        clock(2)
        assert begin(queue) == [] and place.state == ELSEWHERE and not queue.is_over()
    assert begin(queue) == []  # not looked at yet
    clock(2)
    assert begin(queue) == ["t"] and place.reason == ""


def test_a_run_that_another_process_finishes(workplace, clock):
    with held("t"):
        queue = Queue(jobs("t", "s<t"), 0)
        train("t", 3)
        assert states(queue)["t"] == ELSEWHERE
        clock(2)
        assert begin(queue) == ["s"]
    assert states(queue)["t"] == FINISHED


def test_a_run_that_another_process_was_quicker_to_take(workplace, clock, monkeypatch):
    def answer(error):
        """As main.py answers a launcher."""
        monkeypatch.setenv(outcome.ANSWER, str(outcome.answer_file(Path("runs/t"))))
        outcome.answer(error.exit_status, str(error), isinstance(error, Busy))

    queue = Queue(jobs("t"), 0)
    begin(queue)
    with held("t"):
        Path("runs/t/log").write_text("epoch 1/3 of the other one, which has the same log\n")
        answer(Busy("the run 't' is being trained at this moment, by process 1 on x"))
        assert queue.ended("t", 2).state == ELSEWHERE and queue.places["t"].tries == 0
        clock(2)
        assert begin(queue) == [] and not queue.is_over()
    clock(2)
    assert begin(queue) == ["t"]
    answer(Busy("the run 't' is being trained at this moment, by process 1 on x"))
    assert queue.ended("t", 2).state == ELSEWHERE  # it is gone already
    clock(2)
    assert begin(queue) == ["t"]
    answer(RequestError("--device cuda: torch sees no GPU here"))
    assert queue.ended("t", 2).state == FAILED and queue.places["t"].reason == "--device cuda: torch sees no GPU here"


def _look(folder, until):
    os.chdir(folder)
    while not Path(until).exists():
        lock.holder(Path("runs/t"))


def test_a_look_at_a_lock_does_not_keep_others_from_it(workplace):
    """Four processes do nothing else, while the lock is taken and let go."""
    lock.take("t").close()
    watchers = [started(_look, str(workplace), "enough") for _ in range(4)]
    try:
        deadline, taken = time.monotonic() + 1, 0
        while time.monotonic() < deadline:
            with lock.take("t"):  # RequestError where it is refused
                assert lock.holder(Path("runs/t")) == f"process {os.getpid()} on {lock.socket.gethostname()}"
                with pytest.raises(RequestError, match=f"by process {os.getpid()} on"):
                    _take_at_once("t")
            taken += 1
        assert taken > 0
    finally:
        Path("enough").touch()
        for watcher in watchers:
            watcher.join()
    assert lock.holder(Path("runs/t")) is None and lock.holder(Path("runs/nobody")) is None
    assert [watcher.exitcode for watcher in watchers] == [0] * 4


def _take_at_once(name):
    patience, lock.PATIENCE = lock.PATIENCE, 0.0
    try:
        lock.take(name)
    finally:
        lock.PATIENCE = patience
