"""Where the jobs of a study run: on this machine, on a Ray cluster, under SLURM. Each is one file and one line below.

    launcher = build("local", options)
    launcher.start([Task("digits.teacher", ["python", "main.py", ...], Path("runs/digits.teacher/log"))])
    launcher.ended()                                      # [("digits.teacher", 0)], once it has

What runs is the same everywhere: `python main.py ... --resume`, its output appended to its log (process.py).
"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

LAUNCHERS = {
    "local": "schedules.launchers.local:Local",
    "ray": "schedules.launchers.ray:Ray",
    "slurm": "schedules.launchers.slurm:Slurm",
}


@dataclass(frozen=True)
class Task:
    """One process: the run's name, its argv, where its output goes, how many GPUs it takes where there are any."""

    name: str
    argv: list[str]
    log: Path
    gpus: int = 1


class Launcher(Protocol):
    """Starts tasks and tells how they ended. Used from one thread, in the folder that the runs lie in."""

    has_gpus: bool
    most_gpus: float  # that a task may ask for

    def about(self) -> str:
        """Where the tasks will run, in a few words for a person: `2 slots on this machine`."""

    def room(self) -> float:
        """How many tasks may be handed over now, one of several GPUs counted as often as it takes GPUs where there are any;
        infinite where a cluster's own queue takes them all."""

    def start(self, tasks: Sequence[Task]) -> None:
        """Hands tasks over. Those that an earlier launcher has handed over, and that still wait or run, are adopted."""

    def ended(self) -> list[tuple[str, int | None]]:
        """Tasks that have ended since the last call, with their exit status; None where the worker was lost with it.
        Does not block."""

    def stop(self) -> None:
        """Asks every running task to stop with a checkpoint, drops those that wait, returns when all have ended."""


def build(name: str, options: Namespace) -> Launcher:
    """The launcher of a name. RequestError where its packages or its cluster are missing."""
    module, kind = LAUNCHERS[name].split(":")
    return getattr(import_module(module), kind)(options)
