"""What a launcher gives to a process: GPUs, threads, a log, and an end with its own. Ray and SLURM: nodes/, slurm/."""

import os
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
from small_runs import ROOT

from record import outcome
from schedules import launchers
from schedules.launchers import Task, process, ray
from schedules.launchers.local import Local, visible_gpus
from schedules.launchers.process import attend, start_process
from system.errors import RequestError


def task(name, script, gpus=1):
    return Task(name, ["sh", "-c", script], Path(f"{name}.log"), gpus)


def finish(launcher, count):
    ends, deadline = [], time.monotonic() + 30
    while len(ends) < count and time.monotonic() < deadline:
        ends += launcher.ended()
        time.sleep(0.01)
    return dict(ends)


@pytest.mark.parametrize("value, gpus", [("3,5", ["3", "5"]), ("", []), ("-1", []), ("GPU-1a2b", ["GPU-1a2b"])])
def test_visible_gpus(monkeypatch, value, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == gpus


def test_gpus_that_the_driver_lists(monkeypatch, workplace):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(workplace))
    assert visible_gpus() == []
    script = Path("nvidia-smi")
    script.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA H200 (UUID: GPU-2)'\n")
    script.chmod(0o755)
    assert visible_gpus() == ["0", "1"]


def test_each_slot_has_its_own_gpu(monkeypatch, workplace):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    launcher = Local(Namespace(slots=None))
    assert (launcher.room(), launcher.has_gpus, launcher.about()) == (3, True, "3 slots on this machine, GPU 3,5,7")
    show = "echo $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS; exit"
    launcher.start([task("a", f"{show} 0"), task("b", f"{show} 3", gpus=2)])
    assert launcher.room() == 0
    assert finish(launcher, 2) == {"a": 0, "b": 3} and launcher.room() == 3
    (one, threads), (two, _) = (Path(f"{name}.log").read_text().split() for name in "ab")
    assert sorted([one, *two.split(",")]) == ["3", "5", "7"]
    assert threads == str(max(1, len(os.sched_getaffinity(0)) // 3))


def test_more_slots_than_gpus_share_them(monkeypatch, workplace):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    launcher = Local(Namespace(slots=4))
    show = "echo $CUDA_VISIBLE_DEVICES"
    launcher.start([task(name, show) for name in "abc"])
    assert finish(launcher, 3) == {name: 0 for name in "abc"}
    assert sorted(Path(f"{name}.log").read_text().strip() for name in "abc") == ["0", "0", "1"]
    launcher.start([task("two", show, gpus=2)])
    finish(launcher, 1)
    assert sorted(Path("two.log").read_text().strip().split(",")) == ["0", "1"]


def test_without_gpus(monkeypatch, workplace):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    launcher = Local(Namespace(slots=2))
    assert (launcher.room(), launcher.has_gpus, launcher.about()) == (2, False, "2 slots on this machine")
    launcher.start([task("a", "echo x$CUDA_VISIBLE_DEVICES", gpus=5)])
    assert launcher.room() == 1 and finish(launcher, 1) == {"a": 0}
    assert Path("a.log").read_text() == "x\n"


def test_a_log_is_appended_to(workplace):
    for word in ("one", "two"):
        assert start_process(task("a", f"echo {word}; echo {word} >&2")).wait() == 0
    assert Path("a.log").read_text() == "one\none\ntwo\ntwo\n"


def test_a_process_ends_with_the_one_that_started_it(workplace):
    """Even if that one was ended by SIGKILL."""
    script = (
        "import time; from pathlib import Path; from schedules.launchers import Task;"
        "from schedules.launchers.process import start_process;"
        "start_process(Task('a', ['sh', '-c', \"trap 'echo stopped; exit' TERM; echo ready; while :; do sleep 0.05; done\"],"
        "Path('a.log'))); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_for(lambda: Path("a.log").exists() and "ready" in Path("a.log").read_text())
    parent.kill(), parent.wait()
    wait_for(lambda: "stopped" in Path("a.log").read_text())


def test_a_log_that_cannot_be_written_is_the_end_of_its_job_alone(workplace, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    Path("runs/a/log").mkdir(parents=True)
    launcher = Local(Namespace(slots=2))
    bad, good = (Task(name, ["true"], Path(f"runs/{name}/log")) for name in "ab")
    launcher.start([bad, good])
    assert finish(launcher, 2) == {"a": 4, "b": 0} and launcher.room() == 2 and attend(bad) == 4
    assert "it cannot be started: " in outcome.read(Path("runs/a"))["reason"]


def test_the_reader_of_the_output_may_leave(workplace):
    """The jobs go on when the reader of the output leaves, as behind `| head`."""
    script = (
        "from schedules.job_queue import Queue; from schedules.view import View\n"
        "with View(Queue([], 0), 'here') as view:\n    [view.event('a', 'started') for _ in range(9000)]\nprint('end')"
    )
    command = f'{sys.executable} -c "{script}" | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)


def test_attend_asks_its_process_to_stop_and_waits(workplace, monkeypatch):
    class Clock:
        interrupted = False

        def sleep(self, seconds):
            time.sleep(seconds)
            if not self.interrupted and "ready" in Path("a.log").read_text():
                self.interrupted = True
                raise KeyboardInterrupt

    monkeypatch.setattr(process, "time", Clock())
    assert attend(task("a", "trap 'exit 143' TERM; echo ready; while :; do sleep 0.05; done")) == 143


def test_stop_waits_for_all(workplace, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    launcher = Local(Namespace(slots=2))
    launcher.start(
        [task(name, "trap 'sleep 0.2; exit 143' TERM; echo ready; while :; do sleep 0.05; done") for name in "ab"]
    )
    wait_for(lambda: all(Path(f"{name}.log").read_text() for name in "ab"))
    launcher.stop()
    assert dict(launcher.ended()) == {"a": 143, "b": 143}


@pytest.mark.parametrize("name, package", [("ray", "ray"), ("slurm", "submitit")])
def test_a_package_that_is_missing_is_named(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    options = Namespace(slots=1, job_cpus=1, job_gpus=None, address=None, sbatch={}, partition=None)
    with pytest.raises(RequestError, match=f"--launcher {name} needs the package {package}.*requirements-clusters.txt"):
        launchers.build(name, options)


def test_ray_carries_every_module_that_a_process_needs():
    """A node imports nothing of ours: what `attend` imports is pickled by value, packages with all that they hold."""
    script = "import sys; import schedules.launchers.process; print(*(each.__file__ for each in sys.modules.values()))"
    script = script.replace("each.__file__", "getattr(each, '__file__', None)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    files = [Path(each) for each in shown.stdout.split() if Path(each).is_relative_to(ROOT)]
    ours = {
        each.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for each in files if each.stat().st_size
    }
    carried = {module.__name__ for module in ray.CARRIED}
    needed = {each.removesuffix(".__init__") for each in ours if ".venv" not in each}
    assert {"schedules.launchers.process", "record.outcome"} <= needed
    of_people = {"schedules", "system.lazy"}  # the names that the package offers, which no process asks for
    assert {each for each in needed if not {each, each.rpartition(".")[0]} & carried} == of_people


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
