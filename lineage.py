"""The trained networks that a run comes from: the teacher of a student, the network that `--init_from` starts from.

teacher = build_teacher(request, student)      # RequestError where the two do not go together
teacher.network, teacher.digest, teacher.unfinished
"""

from argparse import Namespace
from typing import NamedTuple

from torch import nn

import datasets
import fitting
from build import restore
from checkpoint import digest, load_run
from count import outline
from distill import check_taps
from errors import MachineFault, RequestError
from models import NETWORKS
from record import Found, progress


class Teacher(NamedTuple):
    """A trained network, a digest of its weights, and how far it has got where it has not finished."""

    network: nn.Module
    digest: str
    unfinished: str


def build_teacher(request: Namespace, student: nn.Module) -> Teacher:
    """The teacher as its checkpoint says, tapped as the student is.

    RequestError where it was trained on other classes or its attention maps do not match the student's.
    """
    name = request.teacher_checkpoint
    saved = load_run(name, "teacher")
    config, dataset = saved["config"], datasets.DATASETS[request.dataset]
    trained_on = datasets.DATASETS.get(config.get("dataset"))
    if trained_on is None or not isinstance(config.get("epochs"), int):
        raise MachineFault(f"the checkpoint of {name!r} has a configuration that no run has")
    if trained_on is not dataset:
        raise RequestError(
            f"the teacher {name!r} was trained on {config['dataset']} "
            f"({trained_on.classes} classes), not {request.dataset} ({dataset.classes} classes)"
        )
    taps = {"AT_split": request.AT_split} if config.get("network") == request.network else {}
    teacher = restore(name, saved, **taps)
    if request.beta:
        try:
            check_taps(*(outline(network, datasets.side_of(vars(request))).taps for network in (student, teacher)))
        except ValueError as error:
            split = "--AT_split says how many there are, " if request.AT_split else ""
            raise RequestError(f"{error}; {split}--beta 0 goes without")
    unfinished = progress(saved, config) if saved["epoch"] < config["epochs"] else ""
    return Teacher(teacher, digest(saved["model"]), unfinished)


def build_start(config: dict, network: nn.Module, found: Found) -> tuple[nn.Module | None, str]:
    """The trained network that `network` starts from, None where the run has long started, and a digest of its weights.
    RequestError where the two do not match."""
    name = config["init_from"]
    if found.state is not None and found.config.get("init_from") == name:
        return None, found.config["init_digest"]
    saved = load_run(name, "run")
    trained = restore(name, saved)
    for flag in ("network", *sorted(set(NETWORKS[config["network"]][1].values()) - {"AT_split"})):
        if config[flag] != saved["config"].get(flag):
            raise RequestError(f"--init_from {name}: {flag} is {config[flag]} here, {saved['config'].get(flag)} there")
    try:
        fitting.check(network, trained)
    except ValueError as error:
        raise RequestError(f"--init_from {name}: {error}")
    return trained, digest(saved["model"])
