"""Trains one network: a teacher (or anything alone), or a student of a teacher.

    python main.py digits teacher -t demo.teacher --wrn_depth 16 --wrn_width 1
    python main.py digits student -t demo.teacher -s demo.student --wrn_depth 16 --wrn_width 1 --conv SepHashed_0.1

resolve (options.py, budget.py) -> build (build.py, blocks.py) -> fit (train.py), recorded by record.py. All that can be
wrong with a request is found before anything is written.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # with PYTHONSAFEPATH Python does not

from system import signals

if __name__ == "__main__":
    signals.on_signal(signals.end_at_once)

from cli import command, options
from distributed import launch
from system import files, threads
from system.configuration import Configuration


def requested(arguments: list[str] | None = None) -> Configuration:
    launch.check()
    with launch.told_once():
        return options.training(arguments)


if __name__ == "__main__":
    command.check(requested)  # --help and a wrong request are answered before torch is imported
    gpus = requested().GPU or []
    if len(gpus) > 1 and launch.count() == 1:
        sys.exit(command.run(lambda: launch.on_each(gpus)))
    threads.configure()

import json
import random
from contextlib import ExitStack, nullcontext, redirect_stdout

import numpy as np
import torch
from torch import nn

import blocks
from counting import budget
from counting.costs import summary
from counting.sides import needs_two
from data import find, labels_of, load_data
from distill import Distill, Supervised
from distributed import process_group
from distributed.batchnorm import synchronise
from input import cache, datasets, facts
from input.batches import Feed
from layers.init import materialise
from models.build import build, reference
from models.presets import PRESETS
from record import checkpoint, outcome
from record import run as record_run
from record.identity import differences
from record.paths import checkpoint_path
from system.errors import MachineFault, RequestError
from system.hashing import key
from system.signals import Deferred
from training import dry_run
from training.callbacks import ClipGradient, Companion, DropPath
from training.device import choose_device, compile_for, precision_of, settle
from training.loop import evaluate, fit
from training.optim import sgd
from training.rates import Cosine, Schedule, Step
from training.recompute import recompute
from training.report import announce, line, told, versions
from weights import fit as weights_fit
from weights.classes import check_classes, check_labels, print_data_difference
from weights.matching import describe
from weights.origin import Origin, build_teacher, check_side, origin, start_of


def main(arguments: list[str] | None = None) -> int:
    request = requested(arguments)
    with launch.told_once(on_each_machine=True):
        device = choose_device(request)
    with process_group.join(device) as team:
        return (test if request.evaluate else train)(request, device, team)


def train(request: Configuration, device: torch.device, team: process_group.Team) -> int:
    config = {key: value for key, value in request.items() if key != "resume"}
    name = request.teacher_checkpoint if request.mode == "teacher" else request.student_checkpoint
    with team.together():
        found = record_run.find(name) if team.is_first else None
    shared = team.same(found and found.without_weights())
    found = found or shared
    with team.together():
        config, budgeted = budget.resolve(config)
        source = find(request)
        costs, network, teacher, start = summary(config), build(config), None, None
        if request.module:
            config["module_digest"] = files.file_digest(request.module)
        if request.mode == "student":
            teacher = build_teacher(request, network)
            config["teacher_digest"] = teacher.digest
        if request.init_from:
            start = start_of(config, network, found)
            config["init_digest"] = start.digest
        if team.is_first:
            record_run.refuse(name, config, found, request.resume)
            needed, free = disk_room(name, network, request.momentum)  # up to here nothing is written
    check_alike(config, team)

    with (
        cache.deferred() if team.count == 1 else nullcontext()
    ):  # of several processes the others wait for what one keeps
        data = load_data(request, source, device, team)
        config |= data.facts
        check_meaning(name, config, found, teacher, data)
        with team.together():
            if team.is_first:
                record_run.refuse(name, config, found, request.resume)
                if teacher is not None:
                    check_classes(request.teacher_checkpoint, "teacher", teacher.config, config)
    check_parts(config, data, request.grad_accum or 1, team)
    seed_everything(request.seed, team)
    network = settle(materialise(network, request.seed), device)
    if request.sync_bn:
        synchronise(network)
    criterion = Supervised()
    if teacher is not None:
        criterion = Distill(settle(teacher.network, device), request.alpha, request.beta, request.temperature)
        if teacher.unfinished and team.is_first:
            until = "this run can be resumed only until it goes on"
            print(f"warning: the teacher has only finished {teacher.unfinished}, {until}", file=sys.stderr)
    scale = 1.0 if request.nocrswd else costs["crs_ratio"] * request.crs_factor
    structured = blocks.structured_parameters(network)
    optimizer = sgd(network, structured, request.lr, request.momentum, request.weight_decay, scale)
    companions, autocast, parts = companions_of(request), precision_of(request, device), request.grad_accum or 1
    if team.is_first:
        with redirect_stdout(sys.stderr) if request.json else nullcontext():
            announce(name, config, request, source, data, costs, optimizer, budgeted, team)
            for source_of in (teacher, start):
                if source_of is not None and source_of.mapping:
                    print(source_of.mapping, flush=True)
            if teacher is not None and not teacher.mapping:
                print_data_difference(request.teacher_checkpoint, "teacher", teacher.config, config)
            if start is not None and start.config.get("data_names", "") not in ("", config["data_names"]):
                other = f"{request.init_from!r} was trained on classes of other names, its classifier too"
                print(f"warning: {other}", file=sys.stderr)
            unknown = found.config is not None and found.config.get("data_digest") is None
            if unknown and not (
                found.state and found.state["epoch"] >= request.epochs
            ):  # a finished run stays as it is
                print(f"the record of the run {name!r} does not say on which data it was begun: from now on it does")

    def prepare() -> None:
        if request.checkpoint_activations:
            recompute(network)
        if request.compile:
            for each in (network, criterion.teacher) if teacher is not None else (network,):
                compile_for(each, data.side)

    if request.dry_run:
        with told(request, device, None, team):
            prepare()
            measured = dry_run.measure(network, criterion, optimizer, data, companions, autocast, parts, team)
        if team.is_first:
            done = (found.state["epoch"], found.state["step"]) if found.state else (0, 0)
            every = request.test_every or 1
            estimate = dry_run.estimate(measured, data, costs, request.epochs, done, needed, free, every)
            print(json.dumps(estimate) if request.json else dry_run.report(estimate))
        return 0

    about = {"argv": sys.argv, "versions": versions(), "processes": team.count}
    about["counts"] = {key: value for key, value in costs.items() if key != "layers"}
    if teacher is not None:
        about["teacher_data"] = facts.of_run(teacher.config)
    with ExitStack() as stack:
        run = None
        with team.together():
            if team.is_first:
                run = stack.enter_context(record_run.Run(name, config, about, found, request.resume))
                team.on_loss(lambda status, reason: outcome.note(run.folder, status, reason))
        stack.enter_context(told(request, device, run, team))
        begun = team.same(run and run.state)
        if run is not None and request.resume:
            print(run.beginning(), flush=True)
        if run is not None and start is not None and begun is None:  # the others are given what it begins with
            rows = weights_fit.fit_network(network, settle(start.network, device))
            print(weights_fit.table(rows) if rows else f"all weights are those of {request.init_from}", flush=True)
        prepare()
        stop = stack.enter_context(Deferred() if team.is_first else Deferred(notice=""))
        stack.enter_context(team.explained())  # who starts the processes may answer a loss with signals to the others

        def stopping() -> bool:
            """Whether any process was told to stop; asked by all at the same moments."""
            stop.hear(team.most(stop.received or 0))
            return stop()

        for row, state in fit(
            network, criterion, optimizer, schedule_of(request), data, request.epochs, companions, begun,
            print_freq=request.print_freq, autocast=autocast,
            checkpoint_every=request.checkpoint_every, stopping=stopping, parts=parts, team=team,
            test_every=request.test_every or 1,
        ):  # fmt: skip
            if run is not None:
                row = run.save(row, state)
                if row is not None:
                    print(line(row, request.epochs), flush=True)
            if stopping() and state["epoch"] < request.epochs:
                stop.interrupt()
        if run is not None:
            last = run.rows[-1]
            top1, top5, best = (last[f"{metric}_error"] for metric in ("test_top1", "test_top5", "best_test_top1"))
            print(f"Error@1 {top1:.2f} Error@5 {top5:.2f} (best Error@1 {best:.2f})")
    return 0


def test(request: Configuration, device: torch.device, team: process_group.Team) -> int:
    """`--evaluate`: the errors of a trained network. Writes nothing."""
    name = request.teacher_checkpoint if request.mode == "teacher" else request.student_checkpoint
    with team.together():
        source, trained = find(request), origin(name, request, "run", teaches=True)
    request = as_trained(request, trained)
    with team.together():
        side = request.image_size or datasets.side_of(trained.config)
        check_side(trained.network, side, f"the run {name!r}", request)
    data, autocast = load_data(request, source, device, team), precision_of(request, device)
    with team.together():
        check_classes(name, "run", trained.config, request | data.facts)
    with launch.told_once():
        check_labels(name, "run", trained.config, labels_of(data), bool(trained.mapping))
    with told(request, device, None, team):
        metrics = evaluate(settle(trained.network, device), data, data.test, autocast, team=team)
    if team.is_first:
        print(
            trained.mapping
            or f"{name}: {describe(trained.config)} with {trained.config['conv'] or trained.config['module']}"
        )
        if trained.unfinished:
            print(f"warning: {name} has only finished {trained.unfinished}", file=sys.stderr)
        tested = f"{len(data.test) - metrics.get('left_out', 0):,} of {len(data.test):,} test images"
        print(f"{request.dataset} from {source.where}: {tested}, {data.side}×{data.side}")
        tell_of_test(name, trained.config, data.facts)
        print(f"Error@1 {metrics['top1_error']:.2f} Error@5 {metrics['top5_error']:.2f}")
    return 0


def as_trained(request: Configuration, trained: Origin) -> Configuration:
    """A trained network is what its checkpoint says, and is given images of the size and the scale that it was trained on."""
    own, config = request.data_folder is not None, trained.config
    network, size, resize = config["network"], request.image_size, request.data_resize
    if own and not resize:
        size, resize = datasets.side_of(config), True
    if not own:
        size = size or config.get("image_size") or PRESETS[network].get("image_size")
    dataset = datasets.of(config)
    return request | {
        "network": network,
        "image_size": size,
        "data_resize": resize,
        "data_mean": config.get("data_mean") or dataset.mean,
        "data_std": config.get("data_std") or dataset.std_of.get(network, dataset.std),
    }


def tell_of_test(name: str, config: dict, now: dict) -> None:
    """A line where a run is tested on other images than it was tested on in training."""
    there, here = (each.get("data_test_digest") for each in (config, now))
    if there and there != here:
        was = f"{config['data_test']:,} of {config['dataset']}"
        print(f"these are other test images than {name} was tested on in training ({was})")


def check_alike(config: dict, team: process_group.Team) -> None:
    """RequestError where the processes do not mean the same run, as with another file of a name on another machine."""
    first, *others = team.gather(config)
    for number, other in enumerate(others, 1):
        if different := differences(first, other):
            with launch.told_once():
                raise RequestError(f"process {number} is given another run than process 0: {'; '.join(different)}")


def check_meaning(name: str, config: dict, found: record_run.Found, teacher: Origin | None, data: Feed) -> None:
    """Puts into `config` what the labels of photographs stand for. RequestError where the run or its teacher were trained on
    others."""
    labels = labels_of(data)
    if labels is None:
        return
    config |= labels.record()
    with launch.told_once():
        if found.state is not None:
            check_labels(name, "run", found.config, labels)
        if teacher is not None:
            check_labels(config["teacher_checkpoint"], "teacher", teacher.config, labels, bool(teacher.mapping))


def check_parts(config: dict, data: Feed, parts: int, team: process_group.Team) -> None:
    """RequestError where a single image would come to a batch-norm that has one value a channel of it, as in an auxiliary head,
    or behind the last of a deep network on small images."""
    last, network = len(data.training) % data.batch_size or data.batch_size, reference(config)
    what = "an auxiliary head" if hasattr(network, "auxiliary") else f"{config['network']} at {data.side}×{data.side}"
    for images in (min(data.batch_size, len(data.training)), last) if needs_two(network, data.side) else ():
        share = images // team.count
        if share < 2 * max(1, min(parts, share)):
            with launch.told_once():
                raise RequestError(
                    f"--batch_size {data.batch_size}: of {len(data.training):,} training images {images} are in a batch (the "
                    f"last has {last}), but {what} needs two in each process and part"
                )


def seed_everything(seed: int, team: process_group.Team) -> None:
    """For what draws from the common generators, as drop-path does: in each process other numbers, for other images."""
    seed = seed if team.is_first else key(seed, team.rank)
    random.seed(seed), np.random.seed(seed % 2**32), torch.manual_seed(seed)


def disk_room(name: str, network: nn.Module, momentum: float) -> tuple[int, int]:
    """Bytes that the run's checkpoints need and that are free. MachineFault where they are too few."""
    tensors = [*network.state_dict().values(), *(network.parameters() if momentum else [])]
    size = sum(tensor.nbytes + 500 for tensor in tensors) + 20_000  # with their names, the generators and the metrics
    path = checkpoint_path(name)
    needed, free = checkpoint.room(path, size)
    if needed > free:
        raise MachineFault(
            f"{path.parent}/ has {free:,} bytes free, this run needs {needed:,}: three checkpoints of {size:,}, two that "
            f"are kept and one that is written"
        )
    return needed, free


def companions_of(request: Configuration) -> list[Companion]:
    drop_path = [DropPath(request.drop_path_prob)] if request.drop_path_prob else []
    return drop_path + ([ClipGradient(request.clip_grad)] if request.clip_grad else [])


def schedule_of(request: Configuration) -> Schedule:
    if request.schedule == "cosine":
        return Cosine(request.lr)
    return Step(request.lr, tuple(epoch / request.epochs for epoch in request.epoch_step), request.lr_decay_ratio)


if __name__ == "__main__":
    threads.sleep_when_busy(torch.get_num_threads())
    sys.exit(command.run(main))
