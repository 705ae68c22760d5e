"""Jobs of the local launcher that are forked from a process that has imported the program already (template.py).

    template = Template({"OMP_NUM_THREADS": "1"})
    process = template.start(task, {"CUDA_VISIBLE_DEVICES": "0"})      # as start_process, poll(), wait(), send_signal()

Where the template cannot serve (another system than Linux, another program than our main.py, threads that run after
its imports), or has ended, jobs are started as ordinary processes.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path

from record import outcome
from record.outcome import ANSWER
from schedules.launchers import Task
from schedules.launchers.process import cannot_start, opened, start_process
from system.processes import readable

PROGRAM = str(Path(__file__).resolve().parents[2] / "main.py")
SERVER = str(Path(__file__).with_name("template.py"))
LARGEST = 1 << 20  # bytes of a message
OF_A_JOB = {"CUDA_VISIBLE_DEVICES", ANSWER}  # variables that may differ from the template's: read after its imports
UNANSWERED = 16  # so many requests may wait
KILLED = -9  # the status of a job whose template has ended first, so that nobody knows it


class Template:
    """The template of one environment. It is started with the first job that it can serve."""

    def __init__(self, environment: dict[str, str]):
        self.environment = {**os.environ, **environment}
        self.socket: socket.socket | None = None
        self.usable = sys.platform == "linux" and hasattr(os, "pidfd_open")
        self.asked: list[Forked] = []  # in the order of the requests, until they are forked
        self.running: dict[int, Forked] = {}

    def start(self, task: Task, environment: dict[str, str]) -> "subprocess.Popen | Forked":
        """Start the process of a task. Raise OSError where its log cannot be written or its program cannot be run."""
        self._wait_for_answers()
        if not self._serves(task, environment):
            return start_process(task, environment)
        log, variables = opened(task, environment)
        request = {"argv": task.argv, "env": variables, "cwd": os.getcwd()}
        with log:
            try:
                if self.socket is None:
                    self._begin()
                socket.send_fds(self.socket, [json.dumps(request).encode()], [log.fileno()])
            except OSError:  # it cannot begin or has ended, or the environment is too large for a message
                return start_process(task, environment)
        self.asked.append(Forked(self, task, environment))
        return self.asked[-1]

    def _wait_for_answers(self) -> None:
        """Read until few requests wait, or both ends would wait for each other to read."""
        self.read()
        while len(self.asked) >= UNANSWERED:
            self.read(0.05)

    def _serves(self, task: Task, environment: dict[str, str]) -> bool:
        now = {**os.environ, **environment}
        same = all(self.environment.get(key) == now.get(key) for key in {*self.environment, *now} - OF_A_JOB)
        return self.usable and same and task.gpus <= 1 and task.argv[:2] == [sys.executable, PROGRAM]

    def _begin(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            server = subprocess.Popen(
                [sys.executable, SERVER, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=self.environment, pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        self.socket, self.end = ours, weakref.finalize(self, _end, ours, server)

    def read(self, seconds: float = 0.0) -> None:
        """Take what the template has said; wait so long for the first of it."""
        while self.socket is not None and readable([self.socket.fileno()], seconds):
            seconds = 0.0
            try:
                text, descriptors, _, _ = socket.recv_fds(self.socket, LARGEST, 1)
            except OSError:
                text = b""
            message = json.loads(text) if text else {}
            if "pid" in message:
                process = self.asked.pop(0)
                process.pid, process.descriptor = message["pid"], descriptors[0]
                self.running[process.pid] = process
            elif "ended" in message:
                self.running.pop(message["ended"]).end(message["status"])
            elif "refused" in message:
                self._start_the_rest()
            else:
                self._lose()

    def _start_the_rest(self) -> None:
        """Start the jobs that were not forked as ordinary processes."""
        waiting, self.asked, self.usable = self.asked, [], False
        for each in waiting:
            each.start()

    def _lose(self) -> None:
        """Go on without the template, which has ended, whatever ended it. Its jobs are asked to stop by that."""
        self.end()
        self.socket = None
        lost, self.running = self.running, {}
        for each in lost.values():
            each.lost = True
        self._start_the_rest()


def _end(ours: socket.socket, server: subprocess.Popen) -> None:
    """End a template, while it imports too. Jobs that still run are asked to stop by its end."""
    ours.close()
    server.terminate()
    server.wait()


class Forked:
    """The process of a task, as subprocess.Popen. It may not have begun, while the template imports."""

    def __init__(self, template: Template, task: Task, environment: dict[str, str]):
        self.template, self.task, self.environment = template, task, environment
        self.pid = self.descriptor = self.returncode = None
        self.ordinary: subprocess.Popen | None = None
        self.lost = False
        self.ended_before = outcome.read(task.log.parent)

    def start(self) -> None:
        """Start the task as an ordinary process."""
        try:
            self.ordinary = start_process(self.task, self.environment)
        except OSError as error:
            self.returncode = cannot_start(self.task, error)

    def end(self, status: int) -> None:
        """Note the exit status."""
        self.returncode = status
        os.close(self.descriptor)

    def poll(self) -> int | None:
        """Return the exit status; None while the process runs."""
        return self._look(0.0)

    def _look(self, seconds: float) -> int | None:
        self.template.read(seconds)
        if self.returncode is None and self.ordinary is not None:
            self.returncode = self.ordinary.poll()
        elif self.returncode is None and self.lost and readable([self.descriptor], seconds):
            ended = outcome.read(self.task.log.parent)
            self.end(KILLED if ended in (None, self.ended_before) else ended["status"])
        return self.returncode

    def wait(self) -> int:
        """Wait for the end and return the exit status."""
        while self._look(0.05) is None:
            pass
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, once it has begun and if it has not ended."""
        while self.poll() is None and self.descriptor is None and self.ordinary is None:
            self.template.read(0.05)
        if self.ordinary is not None:
            self.ordinary.send_signal(number)
        elif self.returncode is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.descriptor, number)
