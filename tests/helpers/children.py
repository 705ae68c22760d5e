"""Runs of main.py as processes of their own, forked from one that has imported everything (prepared.py), and paused where a test says.

    child = Child("digits", "teacher", "-t", "t", cwd=folder, pause=("checkpoint renamed", 2))
    child.reaches_pause() and child.kill()

A pause is a stage, how often it is passed before, and seconds (60): the child says so in a file and sleeps.
"""

import functools
import multiprocessing
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["prepared"])
PLACES = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])

STAGES = [
    "loading", "record", "step", "evaluation", "checkpoint half written", "digest not written", "previous linked",
    "previous renamed", "checkpoint renamed", "before metrics", "after metrics",
]  # fmt: skip


class Child:
    """One process of main.py. `stdout` and `stderr` are files that are read when it has ended, or before."""

    def __init__(self, *arguments: str, cwd: Path, pause: tuple | None = None, prepare=None, output=""):
        self.folder = cwd.with_name(f"{cwd.name}.output{output}")
        self.folder.mkdir(exist_ok=True)
        for old in self.folder.iterdir():
            old.unlink()
        self.process = started(_run, arguments, cwd, self.folder, pause, prepare)
        self.pid = self.process.pid

    def reaches_pause(self, timeout: float = 60) -> bool:
        """Whether it came there, instead of to its end."""
        return self.until(lambda: (self.folder / "paused").exists(), timeout)

    def prints(self, text: str, timeout: float = 60) -> bool:
        return self.until(lambda: text in self.stdout, timeout)

    def until(self, condition, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not condition():
            if not self.process.is_alive():
                return condition()
            assert time.monotonic() < deadline, "neither came what was waited for nor an end"
            time.sleep(0.005)
        return True

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def wait(self, timeout: float = 60) -> int:
        """Its exit status; negative if a signal ended it."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, "it does not end"
        return self.process.exitcode

    def _read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    @property
    def stdout(self) -> str:
        return self._read("stdout")

    @property
    def stderr(self) -> str:
        return self._read("stderr")


def started(target, *arguments):
    """A process of the context. Python 3.11's server imports only what PYTHONPATH leads to."""
    process = context.Process(target=target, args=arguments)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = PLACES
    try:
        process.start()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return process


def _run(arguments: tuple[str, ...], cwd: Path, output: Path, pause: tuple | None, prepare) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT), number)
    import threading

    import torch
    from tqdm import tqdm

    import main
    from cli import command

    multiprocessing.set_start_method("fork", force=True)  # of its own children, as where it is started by hand
    tqdm.set_lock(threading.RLock())  # its own would be a semaphore that nobody takes away when this is killed
    os.chdir(cwd)
    for name in ("DATA_DIR", "PYTHONPATH"):
        os.environ.pop(name, None)
    torch.set_num_threads(1)
    if pause is not None:
        _install(output / "paused", *pause)
    if prepare is not None:
        prepare()
    sys.argv = ["main.py", *arguments]
    sys.exit(command.run(main.main))


def _install(mark: Path, stage: str, times: int, seconds: float = 60) -> None:
    """Makes the process sleep where it passes the stage for the `times`-th time, counted from 0."""
    from input import source
    from record import checkpoint, run
    from system import files
    from training import loop, step

    passed = 0

    def here() -> None:
        nonlocal passed
        passed += 1
        if passed == times + 1:
            end = time.monotonic() + seconds
            mark.touch()
            while time.monotonic() < end:  # in parts: a signal that comes just before a sleep does not end it
                time.sleep(0.02)

    def around(owner, name: str, before: bool = False, after: bool = False, only=lambda *arguments: True) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*arguments, **keywords):
            if before and only(*arguments):
                here()
            result = original(*arguments, **keywords)
            if after and only(*arguments):
                here()
            return result

        setattr(owner, name, wrapped)

    class System:
        """`os`, of system/files.py alone."""

        def __getattr__(self, name):
            return getattr(os, name)

    files.os = System()
    match stage:
        case "loading":
            around(source.Source, "read", before=True)
        case "record":
            around(run.Run, "_begin", after=True)
        case "step":
            around(step.TrainStep, "__call__", after=True)
        case "evaluation":
            around(loop, "evaluate", before=True)
        case "checkpoint half written":
            around(checkpoint._Hashing, "write", before=True)
        case "digest not written":
            around(checkpoint.torch, "save", after=True)
        case "previous linked":
            around(files.os, "link", after=True)
        case "previous renamed":
            around(files.os, "replace", after=True, only=lambda source, target: "link" in str(source))
        case "checkpoint renamed":
            around(files.os, "replace", after=True, only=lambda source, target: str(target).endswith(".pt"))
        case "before metrics":
            around(run, "save", after=True)
        case "after metrics":
            around(run.Run, "save", after=True)
        case _:
            raise ValueError(f"no stage {stage!r}")
