"""Everything that can be wrong with a request is found here, before anything is written or trained.

prepared = prepare(request, device, ranks)       # RequestError or MachineFault where the run cannot be trained
step = assemble(prepared, device, ranks)         # weights, loss, optimizer and callbacks on the device
fit(step, prepared.data, schedule_of(prepared.config), prepared.config.epochs)
"""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import blocks
from counting import budget
from counting.costs import output_of, summary
from counting.sides import needs_two
from data import find, labels_of, load_data
from distributed import launch
from distributed.batchnorm import synchronise
from distributed.process_group import Ranks
from input import cache, datasets, facts
from input.batches import Feed
from input.source import Source
from layers import cosine_costs
from layers.ahead import maps_of
from layers.base import ChannelMap
from layers.init import materialise
from models.build import build, reference
from models.output import auxiliary_heads
from record.checkpoint import disk_room
from record.found import Found, refuse
from record.found import find as find_run
from record.identity import differences, name_of
from record.run import Run, Unrecorded
from system import user_code
from system.configuration import Configuration
from system.errors import RequestError
from system.hashing import key
from system.user_code import is_of_file
from training import own_loss, registry, structured_lr, teacher_cache
from training.device import precision_of, strict, to_device
from training.freezing import freeze, thawed, trained
from training.optim import kept_tensors, optimizer_of, parameter_groups, set_learning_rate
from training.rates import schedule_of
from training.recompute import recompute
from training.reestimation import norms
from training.report import machine, versions
from training.step import TrainStep
from weights import approximation
from weights.classes import check_classes, check_labels
from weights.needs import needs
from weights.origin import Origin, as_narrow, build_teacher, start_of


@dataclass(frozen=True)
class Prepared:
    """A run that may be trained.

    `config` is what identifies it and its checkpoint keeps: the request with what its budget found, digests of what it comes from,
    and facts of its data. `network` is on the meta device; `start` is what --init_from names; `disk` are the bytes that the
    checkpoints need and that are free; `until` is the number of epochs after which it ends, this time.
    """

    name: str
    config: Configuration
    found: Found
    budget: budget.Found | None
    costs: dict
    network: nn.Module
    teacher: Origin | None
    start: Origin | None
    source: Source
    data: Feed
    disk: tuple[int, int] | None
    resume: bool
    until: int

    @property
    def done(self) -> tuple[int, int]:
        """Return the finished epochs, and the steps of the next, that a checkpoint holds."""
        return (self.found.state["epoch"], self.found.state["step"]) if self.found.state else (0, 0)

    @contextmanager
    def record(
        self, ranks: Ranks, autotuned: dict | None = None, document: str | None = None
    ) -> Iterator[Run | Unrecorded]:
        """Yield the record of the run, which rank 0 holds, and where it notes how the run ends, or that a rank is lost.

        Args: autotuned: what --autotune chose; document: the request as a configuration file.
        """
        with ExitStack() as stack:

            def enter() -> Run:
                about, ends = self._about(ranks, autotuned), {"resume": self.resume, "until": self.until}
                ends |= {"document": document, "needs": needs(self.config).values()}
                run = stack.enter_context(Run(self.name, self.config, about, self.found, **ends))
                ranks.on_peer_loss(run.note_end)
                return run

            yield ranks.on_first(enter) or Unrecorded()

    def _about(self, ranks: Ranks, autotuned: dict | None) -> dict:
        """Return what is recorded of a run beside its configuration."""
        about = {"argv": sys.argv, "versions": versions(), "machine": machine(self.data.device)}
        about["processes"] = ranks.world_size
        about["counts"] = {name: value for name, value in self.costs.items() if name != "layers"}
        if autotuned is not None:
            about["autotuned"] = autotuned
        if self.teacher is not None:
            about["teacher_data"] = facts.of_run(self.teacher.config)
        return about


def prepare(request: Configuration, device: torch.device, ranks: Ranks) -> Prepared:
    """Resolve a request to a run that may be trained.

    Raise RequestError or MachineFault where anything of it cannot be, on all ranks. Nothing is written but caches of decoded data,
    and those only where nothing is wrong.
    """
    name = name_of(request)
    found = ranks.on_first(lambda: find_run(name))
    shared = ranks.broadcast(found and found.without_weights())
    found = found or shared
    with ranks.all_or_none():
        request = as_narrow(request, found)
        config, budgeted = budget.resolve(request)
        source, costs, network = find(request), summary(config), build(config)
        check_norms(config, network)
        check_logits(config)
        if config.train_where is not None:
            trained(network, config.train_where)
        registry.check_network(config, network)
        if config.get("loss"):
            own_loss.check(config, datasets.of(config).classes)
        callbacks = registry.callbacks(config)
        for callback in callbacks:
            callback.check(network)
        teacher = build_teacher(request, network) if request.mode == "student" else None
        start = start_of(config, network, found) if request.init_from else None
        config = identified(config, teacher, start)
        disk = None
        if ranks.is_first:
            refuse(name, config, found, request.resume)
            disk = disk_room(name, network, kept_tensors(request), sum(each.kept_bytes(network) for each in callbacks))
    check_alike(config, ranks)
    with cache.deferred() if ranks.world_size == 1 else nullcontext():  # other ranks wait for what rank 0 keeps
        data = load_data(request, source, device, ranks)
        config |= facts_of(data)
        with launch.printed_once():
            check_meaning(name, labels_of(data), found, teacher, config)
        with ranks.all_or_none():
            if ranks.is_first:
                refuse(name, config, found, request.resume)
                if teacher is not None:
                    check_classes(request.teacher_checkpoint, "teacher", teacher.config, config)
    check_parts(config, data, ranks)
    return Prepared(
        name, config, found, budgeted, costs, network, teacher, start, source, data, disk,
        resume=request.resume, until=request.until or request.epochs,
    )  # fmt: skip


def identified(config: Configuration, teacher: Origin | None, start: Origin | None) -> Configuration:
    """Return the configuration with digests of what the run comes from, and without what changes nothing."""
    digests = user_code.digests(config)
    if teacher is not None:
        digests["teacher_digest"] = teacher.digest
    if start is not None:
        digests["init_digest"] = start.digest
    return Configuration({name: value for name, value in config.items() if name not in ("resume", "until")}) | digests


def facts_of(data: Feed) -> dict:
    """Return what a run records of its data."""
    labels = labels_of(data)
    return data.facts | (labels.record() if labels is not None else {})


def check_norms(config: Configuration, network: nn.Module) -> None:
    """Raise RequestError where statistics of batch-norm are to be estimated, and the network has none."""
    if config.reestimate_bn and not norms(network):
        raise RequestError(f"--reestimate_bn {config.reestimate_bn}: {config.network} has no batch-norm")


def check_logits(config: Configuration) -> None:
    """Raise RequestError where a network of a user's file does not return logits (B, classes)."""
    if not is_of_file(config.network):
        return
    classes, logits = datasets.of(config).classes, output_of(config).logits
    if tuple(logits.shape) != (1, classes):
        shape = "×".join(map(str, logits.shape))
        raise RequestError(f"--network {config.network} returns {shape} for one image: {classes} logits are wanted")


def check_alike(config: Configuration, ranks: Ranks) -> None:
    """Raise RequestError where the ranks are given different runs, as by another file of a name on another machine."""
    first, *others = ranks.all_gather(config)
    for rank, other in enumerate(others, 1):
        if different := differences(first, other):
            with launch.printed_once():
                raise RequestError(f"process {rank} is given another run than process 0: {'; '.join(different)}")


def check_meaning(name: str, labels, found: Found, teacher: Origin | None, config: Configuration) -> None:
    """Raise RequestError where the run or its teacher were trained on photographs whose labels mean something else."""
    if labels is None:
        return
    if found.state is not None:
        check_labels(name, "run", found.config, labels)
    if teacher is not None:
        check_labels(config["teacher_checkpoint"], "teacher", teacher.config, labels, bool(teacher.mapping))


def check_parts(config: Configuration, data: Feed, ranks: Ranks) -> None:
    """Raise RequestError where a batch-norm that sees one value a channel of each image would be given a single image.

    That is so in an auxiliary head, or behind the last convolution of a deep network on small images: of one value there is no
    deviation.
    """
    network, last = reference(config), len(data.training) % data.batch_size or data.batch_size
    if not needs_two(network, data.side):
        return
    what = "an auxiliary head" if auxiliary_heads(network) else f"{config['network']} at {data.side}×{data.side}"
    for images in (min(data.batch_size, len(data.training)), last):
        share = images // ranks.world_size
        if share < 2 * max(1, min(config["grad_accum"] or 1, share)):
            with launch.printed_once():
                raise RequestError(
                    f"--batch_size {data.batch_size}: of {len(data.training):,} training images {images} are in a batch (the "
                    f"last has {last}), but {what} needs two in each process and part"
                )


def assemble(prepared: Prepared, device: torch.device, ranks: Ranks) -> TrainStep:
    """Return the training step of a run: its network with initial weights on the device, and all that belongs to it."""
    config = prepared.config
    seed_everything(config.seed, ranks)
    network = to_device(materialise(prepared.network, config.seed), device)
    cosine_costs.adopt(ranks.broadcast(ranks.on_first(lambda: speeds_of(prepared, device))))
    if config.sync_bn:
        synchronise(network)
    if config.checkpoint_activations:
        recompute(network)
    if config.train_where is not None:
        freeze(network, config.train_where)
    teacher = prepared.teacher and to_device(prepared.teacher.network, device)
    criterion, callbacks = registry.criterion(config, teacher), registry.callbacks(config)
    scale = 1.0 if config.nocrswd else prepared.costs["crs_ratio"] * config.crs_factor
    structured = structured_lr.factors(network, config.structured_lr)
    undecayed = blocks.undecayed_parameters(network)
    optimizer = optimizer_of(config, parameter_groups(network, structured, config.weight_decay, scale, undecayed))
    set_learning_rate(optimizer, schedule_of(config)(0.0))  # a dry run takes its steps at it
    precision, parts = precision_of(config, device), config.grad_accum or 1
    if config.cache_teacher:
        criterion.cache = teacher_cache.reserve(criterion, prepared.data, precision)
    step = TrainStep(network, criterion, optimizer, callbacks, precision, parts, ranks, config.print_freq)
    step.images = len(prepared.data.training)
    alone = ranks.world_size == 1  # else torch writes to the network, and sends gradients during the backward pass
    if device.type == "cpu" and alone and not config.compile and not config.checkpoint_activations:
        step.maps = maps_of(network)
    return step


def speeds_of(prepared: Prepared, device: torch.device) -> cosine_costs.Speeds | None:
    """Return the speeds by which maps choose how to run: those that the run began with, or the machine's; None where none asks."""
    networks = [prepared.network, *([prepared.teacher.network] if prepared.teacher else [])]
    maps = (module for network in networks for module in network.modules() if isinstance(module, ChannelMap))
    if not any(each.asks_for_speeds for each in maps):
        return None
    if prepared.found.state is None:
        return cosine_costs.of_machine(device)
    begun = prepared.found.state.get("speeds")
    return begun if cosine_costs.is_valid(begun) else None


def approximate_start(prepared: Prepared, step: TrainStep) -> str:
    """Give the network of a run that begins the weights of --init_from. Return a table of what became of each layer.

    Do nothing where there is no --init_from, and on other ranks than the first: they are given the weights when the first step
    wraps the network.
    """
    if prepared.start is None or not step.ranks.is_first:
        return ""
    start = to_device(prepared.start.network, prepared.data.device)
    with strict(), thawed(step.model):
        rows = approximation.approximate_network(step.model, start, prepared.config.fit_effort or 1.0)
    here, there = ({*getattr(each, "gates", ())} for each in (step.model, start))
    but = "" if here <= there else " but the gates'" if not there else " but those of new gates"
    return approximation.table(rows) if rows else f"all weights{but} are those of {prepared.config.init_from}"


def seed_everything(seed: int, ranks: Ranks) -> None:
    """Seed the common generators, from which drop-path draws; on each rank with other numbers, for its other images."""
    seed = seed if ranks.is_first else key(seed, ranks.rank)
    random.seed(seed), np.random.seed(seed % 2**32), torch.manual_seed(seed)
