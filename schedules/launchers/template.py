"""A process that has imported torch and the program, and forks a process of main.py for each request.

    python schedules/launchers/template.py 5 4711     # the socket to the launcher, and the launcher's process

Imports are most of what a short job costs, and this process pays them once. It computes nothing, so that what it forks
is as fresh as a process that has just imported torch: no thread runs, OpenMP and CUDA have not begun. A job has its
own session, directory, environment, log and signals, and ends as any Python program does. forked.py is the other end.

The socket keeps messages apart. From the launcher: {"argv", "env", "cwd"} with the log. To the launcher: {"pid"} with a
descriptor of the process; {"ended", "status"}; {"refused"}, after which this process forks no more.
"""

import gc
import json
import os
import runpy
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 1 << 20  # bytes of a message

if __name__ == "__main__":
    folder = os.path.dirname(os.path.realpath(__file__))
    sys.path = [str(ROOT), *(each for each in sys.path if each != folder)]  # as `python main.py` has it

from system import processes, signals, threads


class Template:
    """Serves one launcher: `serve` returns in the processes that are forked, with their argv."""

    def __init__(self, launcher: socket.socket):
        self.launcher = launcher
        self.running: dict[int, int] = {}  # the process of each descriptor
        self.code = _code()

    def serve(self) -> list[str]:
        """Fork and report until the launcher is gone. Return the argv of a job in its own process alone."""
        while True:
            ready = processes.readable([self.launcher.fileno(), *self.running])
            for each in ready:
                if each in self.running:
                    self._report(each)
            if self.launcher.fileno() in ready:
                text, logs, _, _ = socket.recv_fds(self.launcher, LARGEST, 1)
                if not text:
                    sys.exit(0)
                message = json.loads(text)
                if self._fork(message, logs[0]):
                    return message["argv"]

    def _report(self, descriptor: int) -> None:
        pid = self.running.pop(descriptor)
        _, status = os.waitpid(pid, 0)
        os.close(descriptor)
        self._say({"ended": pid, "status": os.waitstatus_to_exitcode(status)})

    def _say(self, message: dict, *descriptors: int) -> None:
        socket.send_fds(self.launcher, [json.dumps(message).encode()], descriptors)

    def refuse(self, why: str) -> NoReturn:
        """Let the launcher start its jobs itself, and end once those that run have ended."""
        self._say({"refused": why})
        while self.running:
            for each in processes.readable([*self.running]):
                self._report(each)
        sys.exit(0)

    def _fork(self, message: dict, log: int) -> bool:
        """Fork, and return whether this is the new process. Signals wait until it can answer them."""
        if _code() != self.code:
            self.refuse("the program has changed")
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.NAMES)
        template = os.getpid()
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.NAMES)
            os.close(log)
            descriptor = os.pidfd_open(pid)
            self.running[descriptor] = pid
            self._say({"pid": pid}, descriptor)
            return False
        os.setsid()
        for descriptor in self.running:
            os.close(descriptor)
        self.launcher.close()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for ours, theirs in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(ours, theirs)
        os.close(nothing), os.close(log)
        os.environ.clear()
        os.environ.update(message["env"])
        os.chdir(message["cwd"])
        signals.on_signal(signals.end_at_once)
        processes.follow(template)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.NAMES)
        return True


def _code() -> dict[str, int]:
    """Return when each file of the program was last changed, those too that a job will import later."""
    folders = {Path(path).parent for each in list(sys.modules.values()) if (path := getattr(each, "__file__", None))}
    ours = [each for each in folders if each == ROOT or each.parent == ROOT or each.parent.parent == ROOT]
    return {str(path): path.stat().st_mtime_ns for each in sorted(ours) for path in each.glob("*.py")}


def load() -> None:
    """Import what main.py imports, in its order. Exit where threads run, whose locks a fork would keep for ever."""
    os.close(os.pidfd_open(os.getpid()))  # OSError where the system has none
    threads.configure()
    import_module("main")
    if not (trial := os.fork()):  # at a fork OpenBLAS ends its threads, until they are needed
        os._exit(0)
    os.waitpid(trial, 0)
    if len(os.listdir("/proc/self/task")) > 1:
        sys.exit("threads run after the imports")
    gc.freeze()  # a job does not look at these objects again, and so does not copy their pages


def main() -> None:
    """Serve the launcher; in each forked process run main.py as `python main.py` does."""
    launcher, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    processes.follow(parent)
    load()
    _, program, *arguments = Template(launcher).serve()
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
