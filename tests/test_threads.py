"""Threads: as many as this process's share of the machine, waiting without burning CPUs; what the user set stays."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

import launch
import threads
from errors import RequestError


@pytest.fixture
def environment(monkeypatch):
    """None of the variables that decide about threads and processes."""
    for name in (*threads.WAITING, "OMP_NUM_THREADS", *launch.NEEDED, "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def group(environment, folder, **files):
    """The control group of this process, with these files, as the only one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        (folder / name.replace("__", ".")).write_text(contents)
    version = "v2" if "cpu__max" in files else "v1"
    environment.setattr(threads, "_groups", lambda: [(version, folder)])


@pytest.mark.parametrize(
    "files, share",
    [
        ({}, 8),
        ({"cpu__max": "max 100000\n"}, 8),
        ({"cpu__max": "250000 100000\n"}, 2),
        ({"cpu__max": "50000 100000\n"}, 1),
        ({"cpu__max": "9900000 100000\n"}, 8),
        ({"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"}, 8),
        ({"cpu__cfs_quota_us": "300000\n", "cpu__cfs_period_us": "100000\n"}, 3),
        ({"cpu__max": "what"}, 8),
    ],
)
def test_the_share_of_a_control_group(files, share, environment, tmp_path):
    environment.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    environment.setattr(threads, "CGROUPS", tmp_path)
    group(environment, tmp_path / "slice" / "job", **files)
    assert threads.cpus() == share
    if "cpu__max" in files:  # a group above limits too
        (tmp_path / "slice" / "cpu.max").write_text("100000 100000")
        assert threads.cpus() == 1


def test_configure(environment, tmp_path):
    environment.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    group(environment, tmp_path, cpu__max="200000 100000")
    environment.setenv("GOMP_SPINCOUNT", " ")
    threads.configure()
    assert os.environ["OMP_NUM_THREADS"] == "2" and not set(threads.WAITING) & set(os.environ)
    kept = {"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "ACTIVE"}
    for name, value in kept.items():
        environment.setenv(name, value)
    threads.configure()
    assert {name: os.environ[name] for name in kept} == kept


@pytest.mark.parametrize("variables, watched", [({}, True), ({"GOMP_SPINCOUNT": "300000"}, False), ({"OMP_NUM_THREADS": "1"}, False)])
def test_main_watches_unless_the_user_has_set_how_threads_wait(variables, watched, environment, workplace):
    code = """if True:
        import runpy, sys, threading
        sys.argv = [sys.argv[1], "digits", "teacher", "-t", "t", "--evaluate"]
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit:
            print([thread.name for thread in threading.enumerate()])
        """
    command = [sys.executable, "-c", code, ROOT / "main.py"]
    told = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "2"} | variables, capture_output=True, text=True
    )
    assert "no run 't'" in told.stderr and ("'watch'" in told.stdout) == watched, told


def test_a_crowd_makes_the_threads_of_openmp_sleep():
    """One of two threads waits while the other does something else: it spins, unless there is a crowd. Then back again."""
    code = """if True:
        import os
        import time
        import torch
        import threads

        crowd, x = threads.Crowd(threads._openmp(), 2), torch.ones(2**16)

        def times():
            return {task: int(open(f"/proc/self/task/{task}/schedstat").read().split()[0]) for task in os.listdir("/proc/self/task")}

        def ran():
            x.add_(1)  # so that the second thread is there
            before = times()
            for _ in range(100):
                x.add_(1)
                time.sleep(0.002)
            now = times()
            return sum(now[task] - before[task] for task in before) / 1e6

        spinning, alone = ran(), len(times())
        crowd.turn(True)
        time.sleep(0.1)
        asleep, among = ran(), len(times())
        crowd.turn(False)
        crowd.turn(False)
        time.sleep(0.1)
        print(spinning, asleep, ran(), among - alone, len(times()) - alone)
        """
    environment = {name: value for name, value in os.environ.items() if name not in threads.WAITING}
    spoken = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "2"}, capture_output=True, text=True
    )
    spinning, asleep, again, crowd, left = map(float, spoken.stdout.split())
    assert min(spinning, again) > 3 * asleep and crowd >= 2 and left == 0, spoken


def test_when_threads_sleep(monkeypatch):
    """Above a tenth of the time spent in waiting they do, below a twentieth no longer, and between as before."""
    looks = iter([(0, 0), (0, 0), (99, 1), (186, 7), (276, 19), (366, 27), (461, 31)])
    turned = []

    class Recorder:
        def turn(self, on):
            turned.append(on)

    def look(clock):
        try:
            return next(looks)
        except StopIteration:
            raise KeyboardInterrupt

    monkeypatch.setattr(threads, "LOOK", 0)
    monkeypatch.setattr(threads, "_times", look)
    with pytest.raises(KeyboardInterrupt):
        threads._watch(Recorder())
    assert turned == [False, False, True, False]  # 0, 0.01, (0.06), 0.12, (0.08), 0.04


def test_a_kernel_that_keeps_no_times(monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "CLOCK", tmp_path / "none")
    threads._watch(None)  # ends at once


BAD = [
    ({"RANK": "x"}, "RANK='x', which is not a whole number"),
    ({"LOCAL_RANK": "-1"}, "LOCAL_RANK='-1', which is not a whole number"),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0, 1 to"),
    ({"RANK": "1"}, "RANK=1, 0 to 0 is allowed"),
    ({"WORLD_SIZE": "2", "RANK": " "}, "WORLD_SIZE=2, but no RANK, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
    ({"WORLD_SIZE": "2", "RANK": "abc"}, "RANK='abc', which is not a whole number"),
    ({"WORLD_SIZE": "2", "RANK": "1"}, "WORLD_SIZE=2, but no LOCAL_RANK"),
    ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "1"}, "but no MASTER_ADDR"),
    ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}, "but no MASTER_PORT"),
    ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
     "RANK=2, 0 to 1 is allowed"),
    ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "99999"},
     "MASTER_PORT=99999, 1 to 65535"),
]  # fmt: skip


@pytest.mark.parametrize("variables, message", BAD)
def test_variables_of_processes_that_contradict_each_other(variables, message, environment):
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(RequestError, match=message):
        launch.check()


@pytest.mark.parametrize("variables", [{}, dict.fromkeys(("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"), ""), {"WORLD_SIZE": "1"}])
def test_one_process(variables, environment):
    """A job script's templates that were left empty are as if they were not there."""
    for name, value in variables.items():
        environment.setenv(name, value)
    launch.check()
    assert (launch.rank(), launch.count(), launch.local_rank(), launch.local_count()) == (0, 1, 0, 1)
