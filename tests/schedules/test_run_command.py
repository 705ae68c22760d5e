"""schedules.run on small real studies: what becomes of them when processes are killed, stopped, fail, or meet each other.

One test starts every process as a person does. In the others the launcher is a process of its own too, but forked from
one that has imported everything, and so are the jobs that it starts: they differ from real ones in that alone.
"""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from children import Child, _install, started
from results import rows_of, same_run, saved, snapshot
from small_runs import ROOT, TINY

from record import lock
from schedules.job_queue import tail
from schedules.launchers import Task
from schedules.launchers.process import start_process

ONE = [*TINY[:-1], "1", "--batch_size", "500"]
T = ["python", "main.py", "digits", "teacher", "-t", "t", *TINY]


def alone(name, *flags):
    return ["python", "main.py", "digits", "teacher", "-t", name, *ONE, *flags]


def student(name, of, *flags):
    return ["python", "main.py", "digits", "student", "-t", of, "-s", name, *ONE, *flags]


def write(*argvs):
    Path("study.json").write_text(json.dumps(argvs))


class Forked:
    """What start_process() needs of subprocess.Popen, for a process that is forked instead of started."""

    def __init__(self, argv, stdin, stdout, stderr, env, start_new_session, preexec_fn, train, pauses):
        assert start_new_session and stdin == subprocess.DEVNULL and stderr == subprocess.STDOUT
        sys.stdout.flush()
        self.returncode, self.pid = None, os.fork()
        if not self.pid:
            try:
                self._be(argv, stdout, env, preexec_fn, train, pauses)
            finally:
                os._exit(1)

    def _be(self, argv, log, env, preexec_fn, train, pauses):
        from cli import command as cli_command
        from system import signals

        signals.on_signal(signals.end_at_once)
        os.setsid(), preexec_fn()
        os.dup2(log.fileno(), 1), os.dup2(1, 2)
        os.environ.update(env)
        sys.argv = argv[1:]
        name = argv[argv.index("-s" if "-s" in argv else "-t") + 1]
        if name in pauses and not Path(f"paused.{name}").exists():
            _install(Path(f"paused.{name}").absolute(), *pauses[name])
        status = cli_command.run(partial(train, argv[2:]))
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)

    def poll(self):
        return self._wait(os.WNOHANG)

    def wait(self):
        return self._wait(0)

    def _wait(self, how):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, how)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)


def launch(pauses=None, terminal=None):
    """Turn this process into a launcher, on a terminal if one is named. `pauses`: of each job at its first start."""
    import main
    import schedules.run
    from schedules.launchers import forked, process

    forked.Template._serves = lambda *_: False
    process.subprocess = Subprocess(partial(Forked, train=main.main, pauses=pauses or {}))
    main.main = schedules.run.main
    if terminal is not None:
        sys.stdout = open(terminal, "w")  # noqa: SIM115
        os.environ.update(TERM="xterm-256color")


class Subprocess:
    """Replaces `subprocess` in process.py alone."""

    def __init__(self, popen):
        self.Popen = popen

    def __getattr__(self, name):
        return getattr(subprocess, name)


def launcher(*flags, cwd, pauses=None, output="", terminal=None):
    return Child(
        "study.json", *flags, cwd=cwd, prepare=partial(launch, pauses, terminal), output=f".launcher{output}"
    )  # fmt: skip


def wait_for(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.005)


def worker(name):
    """Return the process that trains a run; None where none does."""
    holder = lock.holder(Path("runs") / name)
    return int(holder.split()[1]) if holder and holder.startswith("process ") else None


def events(text):
    """Count the events of each run: `started`, `resumed`, `finished`, …"""
    lines = [re.fullmatch(r"[0-9:]{8} (\S+) (\w+).*", line) for line in text.splitlines()]
    return Counter(line.groups() for line in lines if line)


def log(name):
    return Path(f"runs/{name}/log").read_text()


@pytest.mark.long
def test_a_study_of_real_processes(teacher, workplace):
    """From the command to the end, although one of its jobs is killed in the middle."""
    write(T, student("s", "t", "--conv", "SepHashed_0.5"))
    command = [sys.executable, "-m", "schedules.run", "study.json", "--slots", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    study = subprocess.Popen(
        command, cwd=workplace, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: Path("runs/t/metrics.jsonl").exists() and rows_of(workplace, "t"))
    if pid := worker("t"):
        os.kill(pid, signal.SIGKILL)
    out, err = study.communicate(timeout=120)
    assert (study.returncode, err) == (0, ""), err
    assert out.splitlines()[-1].startswith("2 of 2 runs are finished")
    assert events(out)["s", "started"] == events(out)["s", "finished"] == events(out)["t", "finished"] == 1
    if events(out)["t", "to"]:
        assert "t to be tried again (1 of 2): killed by signal 9" in out
        assert re.search("t resumed,? after 1 of 2 epochs", out)
    assert same_run(teacher, workplace, "t")
    assert json.loads(Path("runs/s/config.json").read_text())["argv"][0] == str(ROOT / "main.py")
    assert "Error@1" in tail(Path("runs/s/log"), 1)[0] and not Path("runs/t/end.json").exists()


def test_a_study_and_the_same_again(workplace):
    write(alone("t"), student("s", "t", "--conv", "ACDC_3"), alone("a", "--conv", "ACDC_3"))
    study = launcher("--slots", "2", cwd=workplace)
    assert study.wait() == 0 and study.stderr == ""
    first, *lines, last = study.stdout.splitlines()
    assert first == "study.json: 3 jobs; 2 slots on this machine" and last.startswith("3 of 3 runs are finished; ")
    assert len(lines) == 6 and "\x1b" not in study.stdout
    assert events(study.stdout) == {(name, what): 1 for name in "tsa" for what in ("started", "finished")}
    places = {
        tuple(line.rstrip(":").split()[1:3]): place for place, line in enumerate(line.split(": ")[0] for line in lines)
    }
    assert places["a", "started"] < places["t", "finished"] < places["s", "started"]
    before = snapshot(workplace)
    study = launcher("--slots", "2", cwd=workplace)
    assert study.wait() == 0 and study.stdout == "all 3 runs are finished, nothing is left to do\n"
    assert snapshot(workplace) == before


def test_a_launcher_that_is_killed(teacher, workplace):
    """Its jobs end with a checkpoint; the same command repeats nothing, even if they have not ended yet."""
    write(T, student("s", "t"))
    study = launcher("--slots", "2", cwd=workplace, pauses={"t": ("step", 22, 0.5)})
    wait_for(lambda: Path("paused.t").exists())
    orphan = worker("t")
    study.kill()
    again = launcher("--slots", "2", cwd=workplace)
    assert again.wait() == 0, again.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(orphan, 0)
    assert log("t").count("stopped by SIGTERM; 1 of 2 epochs and 10 steps are kept") == 1
    assert log("t").count("resuming after 1 of 2 epochs and 10 steps") == 1
    assert [log(name).count("\nepoch ") for name in "ts"] == [2, 1]
    assert same_run(teacher, workplace, "t")


def _begin_and_be_killed(folder):
    script = "import signal, time; signal.signal(15, lambda *a: print('told', flush=True) or exit(7)); print(1, flush=True); time.sleep(60)"
    task = Task("x", [sys.executable, "-u", "-c", script], Path(folder) / "runs/x/log")
    start_process(task, {"OMP_NUM_THREADS": "1"})
    signal.pause()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_a_process_hears_that_its_launcher_is_gone(workplace):
    """With a real process, when the launcher is killed."""
    parent = started(_begin_and_be_killed, str(workplace))
    wait_for(lambda: Path("runs/x/log").exists() and log("x") == "1\n")
    parent.kill(), parent.join()
    wait_for(lambda: log("x") == "1\ntold\n")


def test_failures_are_reported_and_do_not_stop_the_rest(workplace):
    """A damaged checkpoint, which no retry mends; a run that diverges, which is not retried; and one that is refused."""
    (workplace / "checkpoints").mkdir()
    (workplace / "checkpoints/bad.pt").write_bytes(b"damage" * 1000)
    write(
        alone("bad"), student("of.bad", "bad"), alone("wild", "--lr", "1e20"), student("of.wild", "wild"),
        alone("refused", "--device", "cuda"), alone("a"),
    )  # fmt: skip
    study = launcher("--slots", "2", "--retries", "1", cwd=workplace)
    assert study.wait() == 4
    assert study.stderr == "error: 1 of 6 runs are finished, 2 failed, 1 diverged, 2 could not be started\n"
    found = events(study.stdout)
    assert found["bad", "started"] == 2 and found["wild", "started"] == found["refused", "started"] == 1
    assert found["bad", "failed"] == found["wild", "diverged"] == found["refused", "failed"] == 1
    assert found["a", "finished"] == 1 and not found["of.bad", "started"] and not found["of.wild", "started"]
    assert "of.bad was not started: its teacher bad failed" in study.stdout
    assert "of.wild was not started: its teacher wild diverged" in study.stdout
    assert "refused failed: --device cuda: torch sees no GPU here" in study.stdout
    _, _, told = study.stdout.partition("\nbad failed: ")
    assert "\n  its log is runs/bad/log" in told and "damaged" in tail(Path("runs/bad/log"), 1)[0]


def test_only_diverged(workplace):
    write(alone("wild", "--lr", "1e20"))
    study = launcher(cwd=workplace)
    assert study.wait() == 3 and study.stderr == "error: 0 of 1 runs are finished, 1 diverged\n"
    assert (
        events(study.stdout)["wild", "started"] == 1
        and "wild diverged: the test loss is not finite after epoch 1/" in study.stdout
    )
    assert json.loads(Path("runs/wild/end.json").read_text())["status"] == 3


def test_ctrl_c(teacher, workplace):
    """Its jobs end with a checkpoint, what waits is not begun, and the same command goes on."""
    write(T, student("s", "t"))
    study = launcher(cwd=workplace, pauses={"t": ("step", 22, 0.5)})
    wait_for(lambda: Path("paused.t").exists())
    study.send(signal.SIGINT)
    assert study.wait() == 130
    assert (saved(workplace, "t")["epoch"], saved(workplace, "t")["step"]) == (1, 10)
    assert study.stderr.splitlines()[-1].startswith("stopped by ")
    assert "1 of 2 epochs and 10 steps are kept" in study.stdout
    assert "2 waiting; 1 slot on this machine; the same command goes on" in study.stdout
    assert not Path("runs/s").exists() and worker("t") is None
    write(T)
    again = launcher(cwd=workplace)
    assert again.wait() == 0 and re.search("t resumed,? after 1 of 2 epochs", again.stdout)
    assert same_run(teacher, workplace, "t")


def test_sigterm_as_a_job_starts(workplace):
    """Nothing is left but a log, and the same command begins."""
    write(alone("a"))
    study = launcher(cwd=workplace, pauses={"a": ("loading", 0, 0.5)})
    wait_for(lambda: Path("paused.a").exists())
    study.send(signal.SIGTERM)
    assert study.wait() == 143 and not Path("checkpoints").exists()
    again = launcher(cwd=workplace)
    assert again.wait() == 0 and log("a").count("\nepoch ") == 1


def test_two_launchers_at_once(workplace):
    """Each run is trained once, by one of them; both end well."""
    write(alone("a"), alone("b"), student("s", "a"))
    studies = [launcher("--slots", "2", cwd=workplace, output=each) for each in "12"]
    assert [study.wait() for study in studies] == [0, 0], [study.stderr for study in studies]
    for name in "abs":
        assert log(name).count("\nepoch 1/1") == 1 == len(rows_of(workplace, name))
        assert "resumed" not in json.loads(Path(f"runs/{name}/config.json").read_text())
    ends = "\n3 of 3 runs are finished; ", "all 3 runs are finished, nothing is left to do"  # began when all was done
    assert all(any(end in study.stdout for end in ends) for study in studies)
    assert any(ends[0] in study.stdout for study in studies)


def test_on_a_terminal(teacher, workplace):
    """The table stays below the events, is drawn again, and is removed in the end."""
    shutil.copytree(teacher, workplace, dirs_exist_ok=True)
    write(T, student("a.long.name.of.a.student", "t", "--epochs", "2"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
    name = "a.long.name.of.a.student"
    study = launcher(cwd=workplace, pauses={name: ("step", 4)}, terminal=os.ttyname(theirs))
    os.set_blocking(ours, False)
    seen = bytearray()

    def shows(text):
        try:
            seen.extend(os.read(ours, 100_000))
        except BlockingIOError:
            assert study.process.is_alive(), study.stderr
        return text in seen

    wait_for(lambda: shows(b" 1/2 "))
    assert b"images/s" in seen and b"1 finished, 1 running; 1 slot" in seen and b"\x1b[?25l" in seen
    os.kill(worker(name), signal.SIGTERM)
    wait_for(lambda: shows(b"2 of 2 runs are finished"))
    assert study.wait() == 0
    text = seen.decode()
    assert text.rindex("\x1b[?25h") > text.rindex("images/s")  # the cursor is back, after the last table
    after = text[text.rindex("images/s") :]
    assert "\x1b[2K" in after or "\x1b[J" in after  # and that is wiped out
    assert f"{name}" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    os.close(ours), os.close(theirs)
