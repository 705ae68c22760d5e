"""Launchers run the jobs of a study on this machine, on a Ray cluster or under SLURM. Each is a file and a line below.

    launcher = build("local", options)
    launcher.start([Task("digits.teacher", ["python", "main.py", ...], Path("runs/digits.teacher/log"))])
    launcher.ended()                                      # [("digits.teacher", 0)], once it has

Every launcher runs `python main.py ... --resume`, or the test of a search's winner, with its output appended to a log
(process.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from system.configuration import Configuration

LAUNCHERS = {
    "local": "schedules.launchers.local:Local",
    "ray": "schedules.launchers.ray:Ray",
    "slurm": "schedules.launchers.slurm:Slurm",
}


@dataclass(frozen=True)
class Task:
    """One process: the run's name, its argv, the file for its output, and its number of GPUs where there are any."""

    name: str
    argv: list[str]
    log: Path
    gpus: int = 1


class Launcher(Protocol):
    """Starts tasks and reports how they ended. It is used by one thread, in the folder with the runs."""

    has_gpus: bool
    most_gpus: float  # the largest number that a task may ask for

    def about(self) -> str:
        """Return where the tasks run, in a few words: `2 slots on this machine`."""

    def room(self) -> float:
        """Return how many slots are free; infinite where the queue of a cluster takes all tasks.

        A task takes a slot, or as many as it has GPUs where there are any.
        """

    def start(self, tasks: Sequence[Task]) -> None:
        """Start tasks, or adopt those that an earlier launcher has started and that still wait or run."""

    def ended(self) -> list[tuple[str, int | None]]:
        """Return the tasks that have ended since the last call, with their exit statuses, at once.

        The status is None where the worker was lost.
        """

    def stop(self) -> None:
        """Ask every running task to stop with a checkpoint, drop those that wait, and return when all have ended."""


def build(name: str, options: Configuration) -> Launcher:
    """Return the launcher of a name for the options of schedules.run.

    Raise RequestError where its package is missing or the options do not suit the cluster, MachineFault where the
    cluster does not answer.
    """
    module, kind = LAUNCHERS[name].split(":")
    return getattr(import_module(module), kind)(options)
