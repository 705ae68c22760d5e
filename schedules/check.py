"""What of a schedule only its networks can tell: each is built, on the meta device, before anything starts.

check("study.json", read("study.json"))      # RequestError where a layer, a budget or a map does not fit
"""

from collections.abc import Callable, Sequence

from torch import nn

import budget
from build import build
from count import outline
from datasets import DATASETS
from distill import check_taps
from errors import RequestError
from models import NETWORKS
from schedules.schedule import Job, faulty, recorded


def shape(config: dict) -> tuple:
    """Equal for configurations whose networks are equal but for their random numbers."""
    flags = ("dataset", "network", *NETWORKS[config["network"]][1].values())
    return tuple(config.get(key) for key in (*flags, "conv", "module", "where", "budget", "budget_mult_adds"))


def check(where: str, jobs: Sequence[Job]) -> None:
    """RequestError where anything does not fit, each fault with all the jobs that have it."""
    faults: dict[str, list[int]] = {}
    seen: dict[tuple, str | None] = {}
    made: dict[str, dict] = {}

    def find(key: tuple, attempt: Callable[..., object], *configs: dict) -> str | None:
        if key not in seen:
            try:
                attempt(*configs)
                seen[key] = None
            except RequestError as error:
                seen[key] = str(error)
        return seen[key]

    for job in jobs:
        config = made[job.name] = vars(job.options)
        fault = find(shape(config), _build, config)
        if fault is None and config["mode"] == "student" and config["beta"]:
            name = config["teacher_checkpoint"]
            teacher = made.get(name) or recorded(name)
            if teacher is not None:
                fault = find((shape(config), shape(teacher)), compare_taps, config, teacher)
        if fault is not None:
            faults.setdefault(fault, []).append(job.number)
    if faults:
        raise faulty(where, [f"{_numbers(numbers)}: {fault}" for fault, numbers in faults.items()])


def _build(config: dict) -> nn.Module:
    return build(budget.resolve(config)[0])


def compare_taps(student: dict, teacher: dict) -> None:
    """RequestError where the attention maps of a student's and its teacher's configuration do not match."""
    if teacher["network"] == student["network"]:
        teacher = teacher | {"AT_split": student["AT_split"]}  # a teacher is tapped as its student is
    networks = map(_build, (student, teacher))
    try:
        check_taps(*(outline(network, DATASETS[student["dataset"]].side).taps for network in networks))
    except ValueError as error:
        raise RequestError(f"student and teacher do not go together: {error}")


def _numbers(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return f"job{'s' * (len(numbers) > 1)} {shown}"
