"""Check a schedule as a whole: each command alone, the runs that exist, and the networks, before anything starts.

    jobs = checked("study.json")              # RequestError with every fault as a note where anything does not fit

Each distinct network is counted once; nothing is allocated.
"""

from collections.abc import Iterator, Sequence

import torch

from counting import budget
from counting.costs import output_of
from counting.sides import check_side
from distill import check_taps
from input.datasets import is_known, other_classes
from layers.user import of_module
from models.build import build
from models.registry import NETWORKS, reference_conv
from record.checkpoint import digest, load_run
from record.identity import is_allocated
from record.paths import checkpoint_path
from schedules.schedule import Fault, Job, another_run, conflicts, faulty, load, recorded
from sparsity.weights import prunable
from system.errors import MachineFault, RequestError, SwapconvError
from training.freezing import trained
from weights import origin as weights_origin
from weights.allocation import open_curves
from weights.sources import is_run

Taps = list[torch.Tensor]
WITHOUT_BUDGET = {"budget": None, "budget_mult_adds": None}  # a trained network has its size already


def shape(config: dict) -> tuple:
    """Return a key that is equal for configurations whose networks differ in their random numbers alone."""
    flags = ("dataset", "data_classes", "image_size", "network", *NETWORKS[config["network"]].building_flags)
    return tuple(
        config.get(key) for key in (*flags, "conv", "module", "where", "budget", "budget_mult_adds", "allocate")
    )


def resolved(config: dict) -> dict:
    """Return a configuration with the number that its budget finds.

    The numbers that --allocate finds need trained weights: there it is one for all, or nothing is swapped where no single
    number meets the budget. Attention maps are the same. Raises RequestError where --allocate could not meet it either.
    """
    if not config.get("allocate") or is_allocated(config):
        return budget.resolve(config)[0]
    open_curves(config)
    try:
        return budget.resolve(config)[0]
    except RequestError:  # several kinds of numbers are open, or the budget is out of reach for one
        return config | {"conv": reference_conv(config["network"])} | WITHOUT_BUDGET


def checked(path: str) -> list[Job]:
    """Return the jobs of the schedule at `path`; raise RequestError where any of them may not start."""
    jobs, faults = load(path)
    return without_faults(path, jobs, faults)


def without_faults(where: str, jobs: list[Job], faults: Sequence[Fault] = ()) -> list[Job]:
    """Return the jobs; raise RequestError where they have faults, or `faults` has some. `where` names the schedule."""
    faults = [*faults, *conflicts(jobs), *of_networks(jobs)]
    if faults:
        raise faulty(where, faults)
    return jobs


def of_networks(jobs: Sequence[Job]) -> Iterator[Fault]:
    """Yield the faults that only the networks show, such as a layer that cannot be built or taps that do not match."""
    checker = _Networks(jobs)
    for job in jobs:
        yield from ((job.number, fault) for fault in checker.faults(job))


class _Networks:
    """Checks the networks of a schedule's jobs, and remembers what it has built and read."""

    def __init__(self, jobs: Sequence[Job]):
        self.made = {job.name: job.options for job in jobs}
        self.taps: dict[tuple, Taps | RequestError] = {}  # by the shape of a network
        self.sources: dict[tuple, dict | None | RequestError] = {}  # what builds the networks of weights from elsewhere
        self.digests: dict[str, str | None] = {}  # by the name or file that the weights are from
        self.built: set[tuple] = set()  # networks whose layers are as their flags say

    def faults(self, job: Job) -> Iterator[str]:
        """Yield what is wrong with the job's network, its teacher, its first weights, and the run that exists."""
        config = job.options
        try:
            own = self._taps_of(config)
            self._check_layers(config)
            if (config["budget"] or config["budget_mult_adds"]) and not config["allocate"]:
                yield from another_run(job.name, budget.resolve(config)[0])
        except RequestError as error:
            yield str(error)
            return
        found = (self._fault_of_teacher(config, own), self._fault_of_origin(config), self._fault_of_weights(job))
        yield from filter(None, found)

    def _check_layers(self, config: dict) -> None:
        """Raise RequestError where flags choose layers or parameters that the network does not have, or gates it cannot take."""
        chosen = tuple(config[key] for key in ("gate", "gate_where", "prune_where", "train_where"))
        if not any(chosen) or (key := (*shape(config), *chosen)) in self.built:
            return
        with of_module(config):
            network = build(resolved(config))
            if config["prune_where"]:
                prunable(network, config["prune_where"])
            if config["train_where"]:
                trained(network, config["train_where"])
        self.built.add(key)

    def _taps_of(self, config: dict) -> Taps:
        """Return the attention maps of a network, on the meta device; raise RequestError where it cannot be built."""
        if (key := shape(config)) not in self.taps:
            try:
                network = resolved(config)
                check_side(network)
                with of_module(config):
                    self.taps[key] = output_of(network).taps
            except RequestError as error:
                self.taps[key] = error
        return _value(self.taps[key])

    def _source(self, source: str, config: dict) -> dict | None:
        """Return the configuration that builds the network of `source`, a run, a file, or a name such as timm's.

        None where nobody knows it yet; raise RequestError where the source cannot be used.
        """
        if is_run(source):
            return self.made.get(source) or _trained(source)
        flags = NETWORKS[config["network"]].building_flags
        if (key := (source, *(config[each] for each in ("dataset", "network", *flags)))) not in self.sources:
            try:
                self.sources[key] = _buildable(weights_origin.facts(source, config))
            except (RequestError, MachineFault) as error:
                self.sources[key] = RequestError(str(error))
        return _value(self.sources[key])

    def _fault_of_teacher(self, config: dict, own: Taps) -> str | None:
        """Say why the teacher does not go with a student whose attention maps are `own`."""
        if config["mode"] == "teacher":
            return None
        name = config["teacher_checkpoint"]
        try:
            teacher = self._source(name, config)
        except RequestError as error:
            return str(error)
        if not config["beta"] or teacher is None:
            return None
        if not is_run(name) and other_classes(teacher, config, read=False):
            return f"its teacher {name!r} is trained on {teacher['dataset']}, not {config['dataset']}"
        if teacher["network"] == config["network"]:
            taps = {flag: config[flag] for flag in NETWORKS[config["network"]].tap_flags}
            teacher = teacher | taps  # main.py taps a teacher as its student
        if config["image_size"]:
            teacher = teacher | {"image_size": config["image_size"]}  # both get the same images
        try:
            check_taps(own, self._taps_of(teacher))
        except RequestError as error:
            return None if is_run(name) else str(error)  # of a run, it is a fault of the run's own job
        except ValueError as error:
            return f"student and teacher do not go together: {error}"

    def _fault_of_origin(self, config: dict) -> str | None:
        """Say why the network of --init_from does not have the shape of this one."""
        name = config["init_from"]
        try:
            origin = self._source(name, config) if name else None
        except RequestError as error:
            return str(error)
        if origin and (fault := weights_origin.init_fault(config, origin)):
            return f"--init_from {name}: {fault}"

    def _fault_of_weights(self, job: Job) -> str | None:
        """Say whether the run exists, and its teacher or its first weights have been trained again since."""
        before = recorded(job.name) or {}
        for key, name in (
            ("teacher_digest", before.get("teacher_checkpoint")),
            ("init_digest", before.get("init_from")),
        ):
            if before.get(key) and name not in self.digests:
                self.digests[name] = _digest_of(name, job.options)
            if before.get(key) and self.digests[name] not in (None, before[key]):
                return f"the run {job.name!r} exists, but {name!r}, which it came from, has other weights now"


def _value(found):
    """Return what was found; raise it where it is an error."""
    if isinstance(found, RequestError):
        raise found
    return found


def _digest_of(name: str, config: dict) -> str | None:
    """Return the digest of a finished run's weights, or of weights from elsewhere.

    None where they are not there yet, or cannot be read, which main.py reports.
    """
    if is_run(name) and not checkpoint_path(name).exists():
        return None
    try:
        if is_run(name):
            return digest(load_run(name, "run")["model"])
        return weights_origin.origin(name, config, "run", fetch=False).digest
    except SwapconvError:
        return None


def _trained(name: str) -> dict | None:
    """Return what builds the network of a run that exists, with the number that its budget found.

    None where its record does not say, which main.py reports.
    """
    return _buildable(recorded(name) or {})


def _buildable(config: dict) -> dict | None:
    """Return a configuration without its budget; None where it does not describe a network."""
    flags = NETWORKS[config["network"]].building_flags if config.get("network") in NETWORKS else None
    known = flags is not None and {*flags, "dataset", "conv", "module", "where", "seed"} <= config.keys()
    return config | WITHOUT_BUDGET if known and is_known(config) else None
