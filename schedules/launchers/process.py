"""Start the process of one job, in the same way on every kind of machine.

    status = attend(Task("digits.teacher", ["python", "main.py", ...], Path("runs/digits.teacher/log")))

The process gets SIGTERM if the one that started it dies. launchers/ray.py has to list what this module imports.
"""

import os
import subprocess
import time
from typing import BinaryIO

from record import outcome
from schedules.launchers import Task
from system.errors import MachineFault, of_system
from system.processes import end_with_parent


def start_process(task: Task, environment: dict[str, str] | None = None) -> subprocess.Popen:
    """Start the process of a task and return it. Its standard output and error are appended to the task's log.

    It has a session of its own, so that Ctrl-C in a terminal reaches the launcher alone. Raise OSError where the log
    cannot be written or the program cannot be run.
    """
    log, variables = opened(task, environment)
    with log:
        return subprocess.Popen(
            task.argv,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=variables, start_new_session=True, preexec_fn=end_with_parent(),
        )  # fmt: skip


def opened(task: Task, environment: dict[str, str] | None = None) -> tuple[BinaryIO, dict[str, str]]:
    """Return a task's log, open to be appended to, and the environment of its process. Raise OSError without a log."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    outcome.clear_answer(task.log.parent)
    asked = {outcome.ANSWER: str(outcome.answer_file(task.log.parent))}
    return task.log.open("ab"), {**os.environ, **(environment or {}), **asked}


def cannot_start(task: Task, error: OSError) -> int:
    """Note why a task could not be started, and return its exit status."""
    outcome.note(task.log.parent, MachineFault.exit_status, f"it cannot be started: {of_system(error)}")
    return MachineFault.exit_status


def attend(task: Task, environment: dict[str, str] | None = None) -> int:
    """Start the process, wait for its end and return its exit status; a KeyboardInterrupt asks it to stop."""
    try:
        process = start_process(task, environment)
    except OSError as error:
        return cannot_start(task, error)
    while process.poll() is None:
        try:
            time.sleep(0.1)  # not wait(): Ray interrupts this thread without a signal, which ends no system call
        except KeyboardInterrupt:
            process.terminate()
    return process.returncode
