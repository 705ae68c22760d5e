"""One job's process, the same on every kind of machine: told to stop if who started it dies, its output in its log."""

import os
import subprocess
import time

from record import outcome
from schedules.launchers import Task
from system.errors import MachineFault, of_system
from system.processes import end_with_parent


def begin(task: Task, environment: dict[str, str] | None = None) -> subprocess.Popen:
    """The task's process, in a session of its own so that a terminal's Ctrl-C reaches it only through us. Its standard
    output and error are appended to the log."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    outcome.clear_answer(task.log.parent)
    asked = {outcome.ANSWER: str(outcome.answer_file(task.log.parent))}
    with task.log.open("ab") as log:
        return subprocess.Popen(
            task.argv,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {}), **asked}, start_new_session=True, preexec_fn=end_with_parent(),
        )  # fmt: skip


def cannot_begin(task: Task, error: OSError) -> int:
    """The exit status of a task whose log cannot be written or whose program cannot be run; why, is noted."""
    outcome.note(task.log.parent, MachineFault.exit_status, f"it cannot be begun: {of_system(error)}")
    return MachineFault.exit_status


def attend(task: Task, environment: dict[str, str] | None = None) -> int:
    """Begins the process and waits for its end; a KeyboardInterrupt here asks it to stop, and still waits."""
    try:
        process = begin(task, environment)
    except OSError as error:
        return cannot_begin(task, error)
    while process.poll() is None:
        try:
            time.sleep(0.1)  # not wait(): Ray interrupts this thread without a signal, which ends no system call
        except KeyboardInterrupt:
            process.terminate()
    return process.returncode
