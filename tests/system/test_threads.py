"""Threads: as many as this process's share of the machine, waiting without burning CPUs; what the user set stays."""

import os
import subprocess
import sys
import threading

import pytest
from small_runs import ROOT

from distributed import launch
from system import threads
from system.errors import RequestError


@pytest.fixture
def environment(monkeypatch):
    """None of the variables that decide about threads and processes."""
    for name in (*threads.WAITING, "OMP_NUM_THREADS", *launch.NEEDED, "WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # so that it is as before at the end, whatever the test does
        monkeypatch.delenv(name)
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


@pytest.mark.parametrize(
    "variables, watched", [({}, True), pytest.param({"GOMP_SPINCOUNT": "300000"}, False, marks=pytest.mark.long)]
)
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


def test_one_thread_waits_for_nobody():
    before = threading.active_count()
    threads.sleep_when_busy(1)
    assert threading.active_count() == before


def test_idle_threads_make_the_threads_of_openmp_sleep():
    """One of two threads waits for the other: it spins, unless there are idle threads. Then it spins again."""
    if len(os.sched_getaffinity(0)) == 1:
        assert threads.IdleThreads(threads._openmp(), 1).missing == 1  # two threads on one CPU sleep as it is
        return
    code = """if True:
        import os
        import time
        import torch
        from system import threads

        library = threads._openmp()
        idle, x = threads.IdleThreads(library, library.omp_get_num_procs() - 1), torch.ones(2**16)

        def times():
            found = {}
            for task in os.listdir("/proc/self/task"):
                try:
                    found[task] = int(open(f"/proc/self/task/{task}/schedstat").read().split()[0])
                except OSError:
                    pass
            return found

        def ran():
            x.add_(1)  # so that the second thread is there
            before = times()
            for _ in range(100):
                x.add_(1)
                time.sleep(0.002)
            now = times()
            return sum(now.get(task, ran) - ran for task, ran in before.items()) / 1e6

        def reach(count):
            until = time.monotonic() + 30
            while len(times()) != count and time.monotonic() < until:
                time.sleep(0.01)
            return len(times()) == count

        spinning, alone = ran(), len(times())
        idle.switch(True)
        came = reach(alone + 1 + idle.missing)
        asleep = min(ran() for _ in range(3))
        idle.switch(False)
        idle.switch(False)
        print(spinning, asleep, came, reach(alone), ran())
        """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    spoken = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert spoken.returncode == 0, spoken.stderr
    spinning, asleep, came, left, again = spoken.stdout.split()
    assert (came, left) == ("True", "True"), spoken
    assert min(float(spinning), float(again)) > 3 * float(asleep), spoken


def test_when_threads_sleep(monkeypatch):
    """They do where they wait for more than a tenth of the time, do not below a twentieth, and between stay as they are."""
    looks = iter([(0, 0), (0, 0), (0.01, 0.01), (1, 0.02), (1.87, 0.08), (2.77, 0.2), (3.67, 0.28), (4.62, 0.32)])
    turned = []

    class Recorder:
        def switch(self, on):
            turned.append(on)

    def look(clock):
        try:
            return next(looks)
        except StopIteration:
            raise OSError

    monkeypatch.setattr(threads, "INTERVAL", 0)
    monkeypatch.setattr(threads, "CLOCK", os.devnull)
    monkeypatch.setattr(threads, "_times", look)
    watched(Recorder())
    assert turned == [False, True, False]  # nothing, too little, 0.01, (0.06), 0.12, (0.08), 0.04


def watched(idle):
    """Runs the watch in a thread, as it blocks that thread's signals, until it gives up."""
    thread = threading.Thread(target=threads._watch, args=(idle,))
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()


@pytest.mark.parametrize("contents", [None, "", "1 2", "a b c"])
def test_a_kernel_that_keeps_no_times(contents, monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "CLOCK", tmp_path / "clock")
    if contents is not None:
        (tmp_path / "clock").write_text(contents)
    watched(None)


def test_a_system_that_gives_no_threads(monkeypatch):
    """OpenMP is not asked then: it would end the process."""
    started = []

    def start(thread):
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        original(thread)

    class Library:
        def __getattr__(self, name):
            raise AssertionError(f"{name} was asked for")

    original = threading.Thread.start
    idle = threads.IdleThreads(Library(), 10)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start"):
        idle.switch(True)
    monkeypatch.undo()
    assert idle.over is None and len(started) == 3
    for thread in started:
        thread.join(timeout=60)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "7f r-xp 0 0:0 1 /lib/libtorch_cpu.so",
        "7f r-xp 0 0:0 1 /lib/libiomp5.so",
        "7f r-xp 0 0:0 1 /l\udce9/x",
        "7f r-xp /x",
    ],
)
def test_no_openmp_of_gccs(line, monkeypatch, tmp_path):
    (tmp_path / "maps").write_text(line + "\n", errors="surrogateescape")
    monkeypatch.setattr(threads, "MAPS", tmp_path / "maps")
    assert threads._openmp() is None


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


@pytest.mark.parametrize(
    "variables", [{}, dict.fromkeys(("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"), ""), {"WORLD_SIZE": "1"}]
)
def test_one_process(variables, environment):
    """A job script's templates that were left empty are as if they were not there."""
    for name, value in variables.items():
        environment.setenv(name, value)
    launch.check()
    assert (launch.rank(), launch.world_size(), launch.local_rank(), launch.local_world_size()) == (0, 1, 0, 1)
