"""schedules.list --watch: what is shown of which run, what is read again, and how it ends."""

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
from pathlib import Path

from results import refused
from run_folders import student, teacher
from small_runs import ROOT

import schedules.list
from record import lock, outcome, reader
from record.paths import RUNS
from schedules.watch import Runs


def folders():
    return sorted(RUNS.iterdir())


def test_states_and_what_is_read_again(workplace):
    teacher()
    for number, (name, end) in enumerate({"u": 0, "i": 143, "f": 4, "d": 3, "x": None, "r": None}.items(), 1):
        student(name, errors=(50.0,) * (number % 3), end=None if end is None else (end, "why"))
    (RUNS / "no run").mkdir()
    runs = Runs(folders)
    with lock.take("r"):
        states = {name: run.state for name, run in runs.look().items()}
        assert states == {
            "t": "finished", "u": "paused", "i": "interrupted", "f": "failed", "d": "diverged", "x": "stale", "r": "running",
        }  # fmt: skip
        reads = runs.reads
        assert runs.look().keys() == states.keys() and runs.reads == reads
        running = runs.look()["r"]
        assert (
            running.row(running.written)[0] == "running"
            and running.row(running.written + 90)[0] == "running, wrote 90 s ago"
        )
        with (RUNS / "r/metrics.jsonl").open("a") as file:
            file.write('{"epoch": 0, "test_top1_error": 12.5, "seconds": 30.0}\n')
        found = runs.look()["r"]
        assert found.row(found.written)[1:] == ["1/3", "12.50 %", "60 s"] and runs.reads == reads + 1
    assert runs.look()["r"].state == "stale" and runs.reads == reads + 2  # the process is gone, no file has changed
    outcome.note(RUNS / "x", 143, "stopped")
    assert runs.look()["x"].state == "interrupted" and runs.reads == reads + 3
    with (RUNS / "x/metrics.jsonl").open("w") as file:
        file.write('{"epoch": 0, "val_top1_error": 7.5}\n')  # --test_every 0
    assert runs.look()["x"].row(0.0)[2] == "7.50 % held out"


def test_one_vocabulary(workplace, capsys):
    teacher()
    for name, end in {"u": 0, "i": 143, "x": None, "f": 4}.items():
        student(name, errors=(50.0,), end=None if end is None else (end, "why"))
    rows = {"t": "finished", "u": "paused", "i": "interrupted", "x": "stale", "f": "failed"}

    def shown(*arguments):
        assert schedules.list.main([*arguments]) == 0
        said = capsys.readouterr().out.splitlines()
        return {line.split()[0]: line.split()[1] for line in said[2:-1] if not line.startswith(" ")}, said[-1]

    assert shown() == (rows, "5 runs: 1 finished, 1 stale, 1 interrupted, 1 paused, 1 failed")
    assert shown("--state", "paused")[0] == {"u": "paused"}
    assert shown("--state", "incomplete")[0].keys() == {"u", "i", "x"}
    assert schedules.list.options(["--watch", "--state", "stale"]).state == "stale"
    for wrong in (
        {"resumed": [1]},
        {"resumed": [{"argv": "t"}]},
        {"config": {"epochs": -3}},
        {"config": {"epochs": True}},
    ):
        path = RUNS / "f/config.json"
        whole = path.read_text()
        document = json.loads(whole)
        path.write_text(json.dumps({**document, **wrong, "config": document["config"] | wrong.get("config", {})}))
        assert reader.read(RUNS / "f").fault.startswith("its record is damaged: ") and shown()[0]["f"] == "failed"
        path.write_text(whole)


def started(**streams):
    command = [sys.executable, "-m", "schedules.list", "--watch", "--every", "0.1"]
    sizes = ("LINES", "COLUMNS")  # which the runner of the tests may have set, and which count more than the terminal's
    environment = {key: value for key, value in os.environ.items() if key not in sizes}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, **streams)


def until(read, text: str) -> str:
    seen, deadline = "", time.monotonic() + 20
    while text not in seen:
        assert time.monotonic() < deadline, seen
        seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read())
    return seen


def test_a_terminal_and_a_pipe(workplace):
    teacher()
    for number in range(12):
        student(f"s{number}", errors=(50.0,))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 80, 0, 0))
    on_terminal = started(stdout=theirs, stderr=subprocess.PIPE)
    piped = started(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with lock.take("s7"):
        seen = until(lambda: os.read(ours, 100_000).decode(), "Ctrl-C leaves")
        assert (
            seen.index("s7") < seen.index("s1") and "and 5 more; 1 running, 11 stale, 1 finished" in seen
        )  # running first
        assert " s7: running 1/3 50.00 %" in until(piped.stdout.readline, "s7")
    assert "s7: stale 1/3 50.00 %" in until(piped.stdout.readline, "s7: stale")  # a line where something has changed
    for process in (on_terminal, piped):
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10)[1] in ("", b"") and process.returncode == 0
    piped = started(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    piped.stdout.readline()
    shutil.rmtree(RUNS)  # no failure: no run is left
    until(piped.stdout.readline, "t: gone")
    piped.send_signal(signal.SIGTERM)
    assert piped.communicate(timeout=10)[1] == "stopped by SIGTERM\n" and piped.returncode == 143
    os.close(ours), os.close(theirs)


def test_wrong_requests(workplace, capsys):
    assert refused(capsys, schedules.list.main, "--watch")[1] == "error: there is no run in runs/"
    assert refused(capsys, schedules.list.main, "--every", "3")[1] == "error: --every 3 goes with --watch"


def test_an_until_of_a_file_is_taken_back(workplace):
    Path("a.yaml").write_text("dataset: digits\nmode: teacher\nteacher_checkpoint: r\nuntil: 2\n")
    record = reader.Record(RUNS / "r", {"argv": ["main.py", "--config", "a.yaml", "lr=0.1"]}, [b"{}"])
    assert schedules.list.repeat(record) == "python main.py --config a.yaml lr=0.1 --resume"
    record.lines = [b"{}"] * 2
    assert schedules.list.repeat(record) == "python main.py --config a.yaml lr=0.1 until=null --resume"
    assert main_until(schedules.list.repeat(record)) is None
    Path("a.yaml").unlink()
    assert schedules.list.repeat(record) == "python main.py --config a.yaml lr=0.1 --resume"


def main_until(command: str):
    from cli import options

    return options.training(command.split()[2:]).until
