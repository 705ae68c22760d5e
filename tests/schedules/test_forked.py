"""Jobs that are forked from a template: each is as a process of its own, whatever becomes of the template."""

import json
import os
import signal
import socket
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
from results import same_run
from small_runs import ROOT, TINY

from record import outcome
from schedules.launchers import Task, forked, template
from schedules.launchers.forked import Forked
from schedules.launchers.local import Local

LONG = [*TINY[:-1], "1000"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has descriptors of processes")


@pytest.fixture
def launcher(workplace, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    local = Local(Namespace(slots=2))
    del local.template.environment["PYTEST_CURRENT_TEST"]  # it changes now
    monkeypatch.setattr(forked, "OF_A_JOB", forked.OF_A_JOB | {"PYTEST_CURRENT_TEST"})
    return local


def start(launcher, name, *flags):
    """Start a run of main.py and return its process."""
    argv = [sys.executable, str(ROOT / "main.py"), "digits", "teacher", "-t", name, *flags]
    launcher.start([Task(name, argv, Path(f"runs/{name}/log").absolute(), 0)])
    return launcher.running[name][0]


def ends(launcher):
    wait_for(lambda: (ended := launcher.ended()) and found.update(ended) or not launcher.running, found := {})
    return found


def wait_for(condition, *_, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


def test_a_job_is_as_if_it_were_started_alone(teacher, launcher, workplace):
    """Its results to the bit, its session, directory, statuses and signals; when the template is killed, it stops."""
    right, wrong = start(launcher, "t", *TINY), start(launcher, "w", "--device", "cuda", *TINY)
    assert isinstance(right, Forked) and isinstance(wrong, Forked)
    assert ends(launcher) == {"t": 0, "w": 2}
    assert same_run(teacher, workplace, "t")
    assert json.loads(Path("runs/t/config.json").read_text())["argv"] == right.task.argv[1:]
    assert outcome.answered(Path("runs/w"), 2)["reason"].startswith("--device cuda: torch sees no GPU here")

    process = start(launcher, "stopped", *LONG)
    wait_for(lambda: process.poll() is None and Path("runs/stopped/lock").exists())
    assert os.getsid(process.pid) == process.pid and os.readlink(f"/proc/{process.pid}/cwd") == str(workplace)
    assert not [
        each for each in os.listdir(f"/proc/{process.pid}/fd") if int(each) > 2 and "socket" in link(process, each)
    ]
    launcher.stop()
    assert launcher.ended() == [("stopped", 143)] and "stopped by SIGTERM" in Path("runs/stopped/log").read_text()

    process = start(launcher, "lost", *LONG)
    wait_for(lambda: process.poll() is None and Path("checkpoints/lost.pt").exists())
    os.kill(int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    assert ends(launcher) == {"lost": 143} and "stopped by SIGTERM" in Path("runs/lost/log").read_text()
    assert not isinstance(start(launcher, "alone", "--what"), Forked) and ends(launcher) == {"alone": 2}


def link(process, descriptor):
    return os.readlink(f"/proc/{process.pid}/fd/{descriptor}")


def test_another_program_or_environment_has_its_own_process(launcher, monkeypatch):
    launcher.start([Task("x", ["true"], Path("x.log"), 0)])
    assert not isinstance(launcher.running["x"][0], Forked) and ends(launcher) == {"x": 0}
    monkeypatch.setenv("KMP_BLOCKTIME", "0")  # OpenMP has read its own when torch was imported
    assert not isinstance(start(launcher, "t", "--what"), Forked) and ends(launcher) == {"t": 2}


@pytest.mark.parametrize("says", [b'{"refused": "threads"}', b""])
def test_a_template_that_does_not_serve_is_gone_around(launcher, monkeypatch, says):
    """The requests that it has taken are not lost."""

    def begin(self):
        self.socket, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end = self.socket.close
        there.send(says) if says else there.shutdown(socket.SHUT_WR)
        said.append(there)

    said = []
    monkeypatch.setattr(forked.Template, "_begin", begin)
    assert isinstance(start(launcher, "a", "--what"), Forked) and ends(launcher) == {"a": 2}
    assert not isinstance(start(launcher, "b", "--what"), Forked) and ends(launcher) == {"b": 2}
    launcher.template.socket and launcher.template.socket.close(), said[0].close()


def test_a_program_that_has_changed_is_not_forked(monkeypatch):
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there, open(os.devnull, "wb") as log:
        serving = template.Template(there)
        assert len(serving.code) > 10 and serving.code == template._code()
        serving.code = dict(serving.code, other=1)
        socket.send_fds(here, [b'{"argv": []}'], [log.fileno()])
        with pytest.raises(SystemExit):
            serving.serve()
        assert json.loads(here.recv(1000)) == {"refused": "the program has changed"}
