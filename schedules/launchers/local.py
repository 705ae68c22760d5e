"""Run tasks on this machine: a slot for each GPU, or as many as were asked for.

    launcher = build("local", options)                     # options.slots: a number, or None

A task sees the GPUs of its slots alone.
"""

import os
import subprocess
from collections.abc import Sequence
from signal import SIGTERM

from schedules.launchers import Task
from schedules.launchers.forked import Forked, Template
from schedules.launchers.process import cannot_start
from system import threads
from system.configuration import Configuration


def visible_gpus() -> list[str]:
    """Return the GPUs of CUDA_VISIBLE_DEVICES, else those that the driver lists. torch's import would take seconds."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [each for each in allowed.split(",") if each.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    except OSError:
        return []
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    return [str(number) for number, line in enumerate(lines) if line.startswith("GPU ")]


class Local:
    """Launcher of child processes. Each has as many threads as its share of the CPUs, or as OMP_NUM_THREADS says."""

    def __init__(self, options: Configuration):
        self.gpus = visible_gpus()
        self.has_gpus = bool(self.gpus)
        self.most_gpus = len({*self.gpus})
        self.slots = options.slots or max(1, len(self.gpus))
        share = max(1, threads.cpus() // self.slots)
        self.environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(share)}
        self.free = [self.gpus[slot % len(self.gpus)] if self.gpus else "" for slot in range(self.slots)]
        self.not_started: list[tuple[str, int]] = []
        self.running: dict[str, tuple[subprocess.Popen | Forked, list[str]]] = {}
        self.template = Template(self.environment)

    def about(self) -> str:
        """Return the number of slots and the GPUs in words."""
        gpus = f", GPU {','.join(self.gpus)}" if self.gpus else ""
        return f"{self.slots} slot{'s' * (self.slots > 1)} on this machine{gpus}"

    def room(self) -> int:
        """Return the number of free slots."""
        return len(self.free)

    def start(self, tasks: Sequence[Task]) -> None:
        """Start a process for each task; one that cannot be started is reported by `ended`."""
        for task in tasks:
            slots = self._slots(task)
            given = [gpu for gpu in slots if gpu] if task.gpus else []
            environment = self.environment | ({"CUDA_VISIBLE_DEVICES": ",".join(given)} if self.gpus else {})
            try:
                self.running[task.name] = self.template.start(task, environment), slots
            except OSError as error:
                self.not_started.append((task.name, cannot_start(task, error)))
                self.free += slots

    def _slots(self, task: Task) -> list[str]:
        """Take the slots that a task needs, one or one for each of its GPUs, and return their GPUs."""
        wanted, taken = max(1, task.gpus) if self.gpus else 1, []
        for _ in range(wanted):
            other = next((gpu for gpu in self.free if gpu not in taken), self.free[0])
            self.free.remove(other)
            taken.append(other)
        return taken

    def ended(self) -> list[tuple[str, int | None]]:
        """Return the tasks that have ended since the last call, with their exit statuses."""
        over = [(name, process.poll()) for name, (process, _) in self.running.items() if process.poll() is not None]
        for name, _ in over:
            self.free += self.running.pop(name)[1]
        over, self.not_started = self.not_started + over, []
        return over

    def stop(self) -> None:
        """Send SIGTERM to all processes and wait for their ends."""
        for process, _ in self.running.values():
            process.send_signal(SIGTERM)
        for process, _ in self.running.values():
            process.wait()
