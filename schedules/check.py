"""What of a schedule only its networks can tell: each is built, on the meta device, before anything starts.

check("study.json", read("study.json"))      # RequestError where a layer, a budget or a map does not fit
"""

from collections.abc import Sequence

import torch

import budget
from build import build, of_module
from count import outline
from datasets import DATASETS
from distill import check_taps
from errors import RequestError
from models import NETWORKS
from schedules.schedule import Job, faulty, recorded

Taps = list[torch.Tensor]


def shape(config: dict) -> tuple:
    """Equal for configurations whose networks are equal but for their random numbers."""
    flags = ("dataset", "network", *NETWORKS[config["network"]][1].values())
    return tuple(config.get(key) for key in (*flags, "conv", "module", "where", "budget", "budget_mult_adds"))


def check(where: str, jobs: Sequence[Job]) -> None:
    """RequestError where anything does not fit, each fault with all the jobs that have it."""
    faults: dict[str, list[int]] = {}
    taps: dict[tuple, Taps | RequestError] = {}
    made = {job.name: vars(job.options) for job in jobs}

    def taps_of(config: dict) -> Taps:
        """Of a network's attention maps, on the meta device. RequestError where it cannot be built."""
        if (key := shape(config)) not in taps:
            try:
                network = build(budget.resolve(config)[0])
                with of_module(config):
                    taps[key] = outline(network, DATASETS[config["dataset"]].side).taps
            except RequestError as error:
                taps[key] = error
        if isinstance(taps[key], RequestError):
            raise taps[key]
        return taps[key]

    def examine(config: dict) -> None:
        own, name = taps_of(config), config["teacher_checkpoint"]
        teacher = made.get(name) or _trained(name)
        if config["mode"] == "teacher" or not config["beta"] or teacher is None:
            return
        if teacher["network"] == config["network"]:
            teacher = teacher | {"AT_split": config["AT_split"]}  # a teacher is tapped as its student is
        try:
            check_taps(own, taps_of(teacher))
        except RequestError:
            raise
        except ValueError as error:
            raise RequestError(f"student and teacher do not go together: {error}")

    for job in jobs:
        try:
            examine(vars(job.options))
        except RequestError as error:
            faults.setdefault(str(error), []).append(job.number)
    if faults:
        raise faulty(where, [f"{_numbers(numbers)}: {fault}" for fault, numbers in faults.items()])


def _trained(name: str) -> dict | None:
    """What builds the network of a run that is there already, with the number that its budget found; None where its record
    does not say, which is main.py's to tell."""
    config = recorded(name) or {}
    flags = NETWORKS[config["network"]][1].values() if config.get("network") in NETWORKS else None
    known = flags is not None and {*flags, "dataset", "conv", "module", "where", "seed"} <= config.keys()
    return config | {"budget": None, "budget_mult_adds": None} if known else None


def _numbers(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return f"job{'s' * (len(numbers) > 1)} {shown}"
