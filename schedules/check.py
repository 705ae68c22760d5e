"""A schedule checked as a whole: what single commands, the runs that are there, and the networks tell, before anything starts.

    jobs = checked("study.json")              # RequestError where anything does not fit, with every fault as a note

Each distinct network is built, on the meta device.
"""

from collections.abc import Iterator, Sequence

import torch

from counting import budget
from counting.costs import outline
from counting.sides import check_side
from distill import check_taps
from input.datasets import is_known, other_classes, side_of
from layers.user import of_module
from models.build import build
from models.registry import NETWORKS
from record.checkpoint import digest, load_run
from record.paths import checkpoint_path
from schedules.schedule import Fault, Job, another_run, conflicts, faulty, load, recorded
from system.errors import MachineFault, RequestError, SwapconvError
from weights import origin as weights_origin
from weights.sources import is_run

Taps = list[torch.Tensor]
OF_ONE_SIZE = {"budget": None, "budget_mult_adds": None}  # a trained network has nothing left to find


def shape(config: dict) -> tuple:
    """Equal for configurations whose networks are equal but for their random numbers."""
    flags = ("dataset", "data_classes", "image_size", "network", *NETWORKS[config["network"]][1].values())
    return tuple(config.get(key) for key in (*flags, "conv", "module", "where", "budget", "budget_mult_adds"))


def checked(path: str) -> list[Job]:
    """The jobs of a schedule that may start."""
    jobs, faults = load(path)
    return without_faults(path, jobs, faults)


def without_faults(where: str, jobs: list[Job], faults: Sequence[Fault] = ()) -> list[Job]:
    """The jobs themselves. RequestError where they or their list have faults."""
    faults = [*faults, *conflicts(jobs), *of_networks(jobs)]
    if faults:
        raise faulty(where, faults)
    return jobs


def of_networks(jobs: Sequence[Job]) -> Iterator[Fault]:
    """What only the networks tell: a layer or a budget that cannot be, attention maps or origins that do not match."""
    taps: dict[tuple, Taps | RequestError] = {}
    foreign: dict[tuple, dict | RequestError] = {}
    weights: dict[str, str | None] = {}
    made = {job.name: job.options for job in jobs}

    def taps_of(config: dict) -> Taps:
        """Of a network's attention maps, on the meta device. RequestError where it cannot be built."""
        if (key := shape(config)) not in taps:
            try:
                resolved = budget.resolve(config)[0]
                check_side(resolved)
                network = build(resolved)
                with of_module(config):
                    taps[key] = outline(network, side_of(config)).taps
            except RequestError as error:
                taps[key] = error
        if isinstance(taps[key], RequestError):
            raise taps[key]
        return taps[key]

    def coming_from(source: str, config: dict) -> dict | None:
        """What builds the network that a run comes from, as far as it is known. RequestError where it cannot be."""
        if is_run(source):
            return made.get(source) or _trained(source)
        flags = NETWORKS[config["network"]][1].values()
        if (key := (source, *(config[each] for each in ("dataset", "network", *flags)))) not in foreign:
            try:
                foreign[key] = _buildable(weights_origin.facts(source, config))
            except (RequestError, MachineFault) as error:
                foreign[key] = RequestError(str(error))
        if isinstance(foreign[key], RequestError):
            raise foreign[key]
        return foreign[key]

    def of_teacher(config: dict, own: Taps) -> str | None:
        if config["mode"] == "teacher":
            return None
        try:
            teacher = coming_from(config["teacher_checkpoint"], config)
        except RequestError as error:
            return str(error)
        if not config["beta"] or teacher is None:
            return None
        if not is_run(config["teacher_checkpoint"]) and other_classes(teacher, config, read=False):
            return f"its teacher {config['teacher_checkpoint']!r} is trained on {teacher['dataset']}, not {config['dataset']}"
        if teacher["network"] == config["network"]:
            teacher = teacher | {"AT_split": config["AT_split"]}  # a teacher is tapped as its student is
        if config["image_size"]:
            teacher = teacher | {"image_size": config["image_size"]}  # and is given the same images
        try:
            check_taps(own, taps_of(teacher))
        except RequestError as error:
            return None if is_run(config["teacher_checkpoint"]) else str(error)  # a run's is the fault of its own job
        except ValueError as error:
            return f"student and teacher do not go together: {error}"

    def of_origin(config: dict) -> str | None:
        name = config["init_from"]
        try:
            origin = coming_from(name, config) if name else None
        except RequestError as error:
            return str(error)
        if origin and (fault := weights_origin.init_fault(config, origin)):
            return f"--init_from {name}: {fault}"

    def of_weights(job: Job) -> str | None:
        """Whether what the run that exists came from has been trained anew since."""
        before = recorded(job.name) or {}
        for key, name in (
            ("teacher_digest", before.get("teacher_checkpoint")),
            ("init_digest", before.get("init_from")),
        ):
            if before.get(key) and name not in weights:
                weights[name] = _digest_of(name, job.options)
            if before.get(key) and weights[name] not in (None, before[key]):
                return f"the run {job.name!r} exists, but {name!r}, which it came from, has other weights now"

    for job in jobs:
        config = job.options
        try:
            own = taps_of(config)
            if config["budget"] or config["budget_mult_adds"]:
                yield from ((job.number, fault) for fault in another_run(job.name, budget.resolve(config)[0]))
        except RequestError as error:
            yield job.number, str(error)
            continue
        for fault in (of_teacher(config, own), of_origin(config), of_weights(job)):
            if fault:
                yield job.number, fault


def _digest_of(name: str, config: dict) -> str | None:
    """Of a finished run's weights, or those from elsewhere; None where they are to be trained or fetched yet, or cannot be
    read, which main.py tells."""
    if is_run(name) and not checkpoint_path(name).exists():
        return None
    try:
        if is_run(name):
            return digest(load_run(name, "run")["model"])
        return weights_origin.origin(name, config, "run", fetch=False).digest
    except SwapconvError:
        return None


def _trained(name: str) -> dict | None:
    """What builds the network of a run that is there already, with the number that its budget found; None where its record
    does not say, which is main.py's to tell."""
    return _buildable(recorded(name) or {})


def _buildable(config: dict) -> dict | None:
    """A configuration without what its budget asked for; None where it is not one of a network."""
    flags = NETWORKS[config["network"]][1].values() if config.get("network") in NETWORKS else None
    known = flags is not None and {*flags, "dataset", "conv", "module", "where", "seed"} <= config.keys()
    return config | OF_ONE_SIZE if known and is_known(config) else None
