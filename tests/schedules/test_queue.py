"""The queue, on run folders made by hand: which job comes next, and what becomes of one that has ended."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from queued import TINY, begin, jobs, states, train

import schedules.job_queue
import schedules.run
from cli import options
from record import outcome, reader
from schedules.job_queue import BLOCKED, DIVERGED, FAILED, FINISHED, RUNNING, WAITING, Queue, tail
from schedules.schedule import parse


def test_order_and_room(workplace):
    queue = Queue(jobs("t", "s<t", "a", "b", "c"), 0)
    assert begin(queue, 2) == ["t", "a"] and begin(queue, 0) == []
    assert begin(queue, 1) == ["b"]
    train("t", 3)
    assert queue.ended("t", 0).state == FINISHED
    assert begin(queue, 1) == ["s"]
    assert states(queue) == {"t": FINISHED, "s": RUNNING, "a": RUNNING, "b": RUNNING, "c": WAITING}
    assert queue.count(RUNNING) == 3 and queue.count(WAITING, FINISHED) == 2 and not queue.is_over()


def test_every_ancestor_has_to_be_finished(workplace):
    """A teacher of a teacher, and the network that a run starts from."""
    argv = ["python", "main.py", "digits", "student", "-t", "s", "-s", "both", "--init_from", "u", *TINY]
    queue = Queue(jobs("t", "s<t", "u=t") + [parse([argv])[0][0]], 0)
    for name, following in (("t", ["s", "u"]), ("s", []), ("u", ["both"]), ("both", [])):
        if name == "t":
            assert begin(queue) == ["t"]
        train(name, 3)
        queue.ended(name, 0)
        assert begin(queue) == following
    assert queue.is_over()


def test_a_large_job_is_not_overtaken(workplace):
    """One of two GPUs waits for both, unless there is no GPU to wait for."""
    all_jobs = jobs("a", "b", "c")
    all_jobs[1] = replace(all_jobs[1], options=all_jobs[1].options | {"GPU": [0, 1]})
    assert begin(Queue(all_jobs, 0), 2, has_gpus=True) == ["a"]
    assert begin(Queue(all_jobs, 0), 3, has_gpus=True) == ["a", "b"]
    assert begin(Queue(all_jobs, 0), 2) == ["a", "b"]


@pytest.mark.parametrize("status, state", [(3, DIVERGED), (2, FAILED)])
def test_what_comes_from_a_failed_run_is_blocked(workplace, status, state):
    """Transitively, by --teacher_checkpoint or by --init_from; the rest goes on."""
    queue = Queue(jobs("t", "s<t", "ss<s", "u=t", "uu=u", "a"), 5)
    assert begin(queue, 1) == ["t"]
    train("t", 1, status)
    assert queue.ended("t", status).state == state
    assert begin(queue) == ["a"]
    assert states(queue) == {"t": state, "s": BLOCKED, "ss": BLOCKED, "u": BLOCKED, "uu": BLOCKED, "a": RUNNING}
    assert [queue.places[name].reason for name in ("s", "ss", "u")] == [
        f"its teacher t {state}", "its teacher s blocked", f"its run t {state}",
    ]  # fmt: skip
    train("a", 3)
    queue.ended("a", 0)
    assert queue.is_over()


def test_a_teacher_that_the_schedule_does_not_make(workplace):
    """The check of the schedule has found it."""
    assert begin(Queue(jobs("s<elsewhere"), 0)) == ["s"]


@pytest.mark.parametrize("status", [1, 4, 130, 143, -9, -15, None, 0])
def test_retries(workplace, clock, status):
    """As many as asked for after the first start, each after a longer wait."""
    queue = Queue(jobs("t"), 2)
    for wait in (1, 4):
        assert begin(queue) == ["t"]
        assert queue.ended("t", status).state == WAITING
        clock(wait - 0.01)
        assert begin(queue) == []
        clock(0.01)
    assert begin(queue) == ["t"] and queue.ended("t", status).state == FAILED and queue.is_over()


@pytest.mark.parametrize("status, state", [(2, FAILED), (3, DIVERGED)])
def test_what_is_not_tried_again(workplace, status, state):
    queue = Queue(jobs("t"), 1000)
    begin(queue)
    assert queue.ended("t", status).state == state and queue.is_over()


def test_no_retries_at_all(workplace):
    queue = Queue(jobs("t"), 0)
    begin(queue)
    train("t", 2)  # it got further
    assert queue.ended("t", -9).state == FAILED


def test_progress_begins_the_count_anew(workplace, clock):
    """A job that is killed once an epoch finishes all the same."""
    queue = Queue(jobs("t"), 1)
    for epochs in (1, 2):
        begin(queue)
        train("t", epochs, 4)
        assert (queue.ended("t", 4).state, queue.places["t"].tries) == (WAITING, 1)
        clock(1)
    begin(queue)
    assert queue.ended("t", 4).state == FAILED  # no epoch since the last


def test_waiting_does_not_grow_for_ever(workplace, clock, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: None)  # a thousand times it would wait for the disk
    queue = Queue(jobs("t"), 1000)
    for _ in range(1000):
        assert begin(queue) == ["t"]
        assert queue.ended("t", 4).state == WAITING
        clock(300)
    assert begin(queue) == ["t"] and queue.ended("t", 4).state == FAILED


def test_reasons(workplace, clock):
    """The run's own reason, else its log, else the signal; never that of an earlier process."""
    queue = Queue(jobs("t"), 10)
    place = queue.places["t"]

    def after(status, log=None, end=None):
        clock(300)
        assert begin(queue) == ["t"]
        if log is not None:
            place.folder.mkdir(parents=True, exist_ok=True)
            place.log.write_text(log)
        if end is not None:
            train("t", 0, end)
        return queue.ended("t", status).reason

    assert after(None) == "its worker was lost" and after(-9) == "killed by signal 9"
    assert after(4) == "exit status 4"
    assert after(4, end=4) == "it ended with 4"
    assert after(143, end=143) == "it ended with 143"
    assert after(4, log="error: no room at all\n") == "no room at all"
    assert after(1, log="Traceback (most recent call last):\n  ...\nKeyError: 3\n\n") == "KeyError: 3"
    assert after(-11, end=4) == "killed by signal 11"


def test_how_a_process_ended_that_could_not_say_so_is_noted(workplace):
    queue = Queue(jobs("t", "a"), 0)
    begin(queue)
    train("t", 1), train("a", 1, 143)
    queue.ended("t", -9), queue.ended("a", 143)
    assert (outcome.read(Path("runs/t"))["status"], outcome.read(Path("runs/a"))["status"]) == (-9, 143)
    queue = Queue(jobs("t", "a"), 0)  # of the next launcher: both are to be gone on with
    assert states(queue) == {"t": WAITING, "a": WAITING} and begin(queue) == ["t", "a"]
    assert not (Path("runs/t/end.json")).exists()  # they run


def test_finished_runs_are_skipped(workplace):
    train("t", 3), train("s", 2), train("a", 0, 3)
    queue = Queue(jobs("t", "s<t", "a", "b"), 0)
    assert queue.skipped == 1 and states(queue)["t"] == FINISHED
    assert begin(queue) == ["s", "b"] and queue.places["s"].epochs == 2
    assert (queue.places["a"].state, queue.places["a"].reason) == (DIVERGED, "it ended with 3")  # and would again
    train("s", 3), train("a", 3), train("b", 3)
    assert Queue(jobs("t", "s<t", "a", "b"), 0).is_over()


def test_a_job_is_done_with_the_epochs_of_its_until(workplace):
    """Though its run is not finished: it is neither tried again nor failed, and a student of it may start."""
    (until,) = parse([["python", "main.py", "digits", "teacher", "-t", "t", *TINY, "--until", "2"]])[0]
    queue = Queue([until, *jobs("s<t")], 0)
    assert begin(queue) == ["t"] and until.epochs == 2
    train("t", 2, 0)
    assert queue.ended("t", 0).state == FINISHED and begin(queue) == ["s"]
    assert reader.read(Path("runs/t")).state == "incomplete"
    again = Queue([until], 0)
    assert states(again) == {"t": FINISHED} and again.skipped == 1
    assert schedules.run.report(again) == 0
    assert states(Queue(jobs("t"), 0)) == {"t": WAITING}  # without --until there is more to do


def test_damaged_folders_do_not_stop_the_queue(workplace):
    """main.py reports a file of another program, or half a line."""
    train("half", 2), Path("runs/half/metrics.jsonl").write_text('{"epoch": 0}\n{"epoch": 1}\n{"epoch": 2, "test')
    train("broken", 1), Path("runs/broken/metrics.jsonl").write_text("{\n")
    train("alien", 3), Path("runs/alien/config.json").write_text('{"config": {"epochs": "3"}}')
    Path("runs/file").write_text("")
    Path("runs/endless").mkdir(), Path("runs/endless/end.json").write_text("[]")
    queue = Queue(jobs("half", "broken", "alien", "endless"), 0)
    assert begin(queue) == ["half", "broken", "alien", "endless"] and queue.places["half"].epochs == 2


def test_the_end_of_a_log_as_a_terminal_shows_it(tmp_path):
    path = tmp_path / "log"
    assert tail(path, 5) == []
    path.write_bytes(b"start\r\n" + b"x" * 200_000 + b"\n 10%|#   \r100%|####\r\n\nlast \xff\r\n")
    assert tail(path, 2) == ["100%|####", "last \ufffd"]
    assert len(tail(path, 9)) == 3


def test_two_thousand_jobs_are_looked_at_once_each(workplace, monkeypatch):
    """Each folder when the queue is made and when its job starts and ends; none while there is no room."""
    read, looks = reader.read, []
    monkeypatch.setattr(schedules.job_queue, "read", lambda folder: looks.append(folder.name) or read(folder))
    queue = Queue(jobs("t", *(f"s{number}<t" for number in range(1999))), 0)
    assert len(looks) == len(set(looks)) == 2000
    looks.clear()
    assert begin(queue, 2) == ["t"] and len(looks) <= 2
    for _ in range(100):
        assert begin(queue, 0) == [] and begin(queue, 1) == []
    assert len(looks) <= 2
    train("t", 3)
    queue.ended("t", 0)
    looks.clear()
    assert len(begin(queue, 2)) == 2 and len(looks) <= 4


def test_options_of_a_job_are_those_of_its_command():
    """These tests make the same jobs by hand as are read from a schedule."""
    (job,) = jobs("s<t")
    assert job.options == options.training(list(job.arguments)) and job.needs == {"t": "teacher"}
