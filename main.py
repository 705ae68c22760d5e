"""Trains one network: a teacher (or anything alone), or a student of a teacher.

    python main.py digits teacher -t demo.teacher --wrn_depth 16 --wrn_width 1
    python main.py digits student -t demo.teacher -s demo.student --wrn_depth 16 --wrn_width 1 --conv SepHashed_0.1

resolve (options.py, budget.py) -> build (build.py, blocks.py) -> fit (train.py), recorded by checkpoint.py. All that can
be wrong with a request is found before anything is written.
"""

import cli
import options

if __name__ == "__main__":
    cli.check(options.training)  # --help and a wrong request are answered before torch is imported

import os
import platform
import random
import subprocess
import sys
from argparse import Namespace
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import blocks
import budget
import datasets
import fitting
from build import build, restore
from checkpoint import Run, digest, load_run, refuse_or_find
from companions import ClipGradient, Companion, DropPath
from count import outline, summary, warn_of_uncounted
from data import Augmentation, Data
from distill import Distill, Supervised, check_taps
from errors import Interrupted, RequestError
from initial import materialise
from models import NETWORKS
from optim import Cosine, Schedule, Step, sgd
from recompute import recompute
from train import fit


def main(arguments: list[str] | None = None) -> int:
    request = options.training(arguments)
    config = {key: value for key, value in vars(request).items() if key != "resume"}
    name = request.teacher_checkpoint if request.mode == "teacher" else request.student_checkpoint
    config, found = budget.resolve(config)
    device = choose_device(request)
    source = datasets.find(request.dataset, data_folder(request), request.download)
    network, costs, teacher, trained = build(config), summary(config), None, None
    if request.module:
        config["module_digest"] = cli.file_digest(request.module)
    if request.mode == "student":
        teacher = build_teacher(request, network)
        config["teacher_digest"] = teacher.digest
    if request.init_from:
        trained, config["init_digest"] = build_start(config, network)
    refuse_or_find(name, config, request.resume)  # up to here nothing is written, from here on anything may be

    data = load_data(request, source, device)
    random.seed(request.seed), np.random.seed(request.seed % 2**32), torch.manual_seed(request.seed)
    network = settle(materialise(network, request.seed), device)
    criterion = Supervised()
    if teacher is not None:
        taught_by = settle(teacher.network, device)
        criterion = Distill(taught_by, request.alpha, request.beta, request.temperature)
        if teacher.unfinished:
            print(f"warning: the teacher has only finished {teacher.unfinished}", file=sys.stderr)
    scale = 1.0 if request.nocrswd else costs["crs_ratio"] * request.crs_factor
    structured = blocks.structured_parameters(network)
    optimizer = sgd(network, structured, request.lr, request.momentum, request.weight_decay, scale)

    about = {"argv": sys.argv, "counts": {k: v for k, v in costs.items() if k != "layers"}, "versions": versions()}
    with Run(name, config, about, request.resume) as run:
        announce(run, request, source, data, costs, optimizer, found)
        if trained is not None and run.state is None:
            rows = fitting.fit_network(network, settle(trained, device))
            print(fitting.table(rows) if rows else f"all weights are those of {request.init_from}", flush=True)
        if request.checkpoint_activations:
            recompute(network)
        if request.compile:
            for each in (network, criterion.teacher) if teacher is not None else (network,):
                compile_for(each, data.side)
        epochs = fit(
            network, criterion, optimizer, schedule_of(request), data, request.epochs, companions_of(request), run.state,
            print_freq=request.print_freq, autocast=precision_of(request, device),
        )  # fmt: skip
        try:
            for finished in epochs:
                print(line(run.save(*finished), request.epochs), flush=True)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted with {len(run.rows)} epochs done: go on with --resume")
        last = run.rows[-1]
        top1, top5, best = (last[f"{metric}_error"] for metric in ("test_top1", "test_top5", "best_test_top1"))
        print(f"Error@1 {top1:.2f} Error@5 {top5:.2f} (best Error@1 {best:.2f})")
    return 0


def data_folder(request: Namespace) -> Path:
    return Path(request.data_dir or os.environ.get("DATA_DIR") or "data")


def load_data(request: Namespace, source: datasets.Source, device: torch.device) -> Data:
    """The dataset on the device that trains."""
    dataset = datasets.DATASETS[request.dataset]
    dataset = replace(dataset, std=dataset.std_of.get(request.network, dataset.std))
    images = source.read(request.workers or torch.get_num_threads())
    moves = request.augment != "none"
    augmentation = Augmentation(crop=moves, flip=moves and dataset.flip, cutout=request.cutout)
    return Data(images, dataset, augmentation, request.batch_size, request.seed, device, request.val_size)


def choose_device(request: Namespace) -> torch.device:
    """The GPU that was asked for, else the first one, else the CPU. RequestError where there is no such GPU."""
    gpus = torch.cuda.device_count()
    if request.device == "cuda" and not gpus:
        raise RequestError("--device cuda: torch sees no GPU here, --device cpu is allowed")
    if request.GPU is not None and request.GPU >= gpus:
        allowed = f"0 to {gpus - 1} are allowed" if gpus else "torch sees none here, leave --GPU out to use the CPU"
        raise RequestError(f"--GPU {request.GPU}: there is no such GPU, {allowed}")
    if request.device == "cpu" or not gpus:
        return torch.device("cpu")
    return torch.device("cuda", request.GPU or 0)


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
    if config["dataset"] != request.dataset:
        raise RequestError(
            f"the teacher {name!r} was trained on {config['dataset']} "
            f"({datasets.DATASETS[config['dataset']].classes} classes), not {request.dataset} ({dataset.classes} classes)"
        )
    taps = {"AT_split": request.AT_split} if config["network"] == request.network else {}
    teacher = restore(name, saved, **taps)
    if request.beta:
        try:
            check_taps(outline(student, dataset.side).taps, outline(teacher, dataset.side).taps)
        except ValueError as error:
            split = "--AT_split says how many there are, " if request.AT_split else ""
            raise RequestError(f"{error}; {split}--beta 0 goes without")
    unfinished = saved["epoch"] < config["epochs"] and f"{saved['epoch']} of its {config['epochs']} epochs"
    return Teacher(teacher, digest(saved["model"]), unfinished or "")


def build_start(config: dict, network: nn.Module) -> tuple[nn.Module, str]:
    """The trained network that `network` starts from, and a digest of its weights. RequestError if they do not match."""
    name = config["init_from"]
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


def settle(network: nn.Module, device: torch.device) -> nn.Module:
    """On its device, channels-last (which both the CPU's and the GPU's convolutions are faster with)."""
    return network.to(device, memory_format=torch.channels_last)


@torch.no_grad()
def compile_for(network: nn.Module, side: int) -> None:
    """Compiles it after one pass, so that what is computed once stays out of the graph."""
    device = next(network.parameters()).device
    network.eval()(torch.zeros(1, 3, side, side, device=device))
    network.compile()


def companions_of(request: Namespace) -> list[Companion]:
    drop_path = [DropPath(request.drop_path_prob)] if request.drop_path_prob else []
    return drop_path + ([ClipGradient(request.clip_grad)] if request.clip_grad else [])


def schedule_of(request: Namespace) -> Schedule:
    if request.schedule == "cosine":
        return Cosine(request.lr)
    return Step(request.lr, tuple(epoch / request.epochs for epoch in request.epoch_step), request.lr_decay_ratio)


def precision_of(request: Namespace, device: torch.device):
    """The context of a forward pass; fp32 is strict, tf32 lets matrix products and convolutions of a GPU round."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = request.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    return partial(torch.autocast, device.type, torch.bfloat16) if request.precision == "bf16" else nullcontext


def versions() -> dict[str, str]:
    """Of Python, torch and this repository (empty where git cannot tell)."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        commit = ""
    return {"python": platform.python_version(), "torch": torch.__version__, "git_commit": commit.strip()}


def announce(
    run: Run, request: Namespace, source: datasets.Source, data: Data, costs: dict, optimizer, found: budget.Found | None
) -> None:  # fmt: skip
    """What is about to be trained, on what, and what decays by how much."""
    conv, ratio = run.config["conv"] or request.module, costs["crs_ratio"]
    if found is not None:
        print(f"budget: {found.asked:,} {found.unit} asked, {found.achieved:,} achieved by {found.setting}")
    print(
        f"{run.name}: {conv} on {request.network}, {costs['params']:,} parameters ({ratio:.4f} of the reference), ",
        end="",
    )
    print(f"{costs['mult_adds_exact']:.4E} mult-adds an image")
    warn_of_uncounted(costs)
    print(f"{request.dataset} from {source.where}: {len(data.training):,} training images, on {data.device}")
    for group in optimizer.param_groups:
        numbers = sum(parameter.numel() for parameter in group["params"])
        print(f"weight decay {group['weight_decay']:.3g} on {numbers:,} {group['name']} numbers")
    print("options: " + " ".join(f"{key}={value}" for key, value in run.config.items() if value is not None))
    if request.resume:
        print(f"resuming after epoch {len(run.rows)}" if run.rows else "nothing to resume: starting")
    sys.stdout.flush()


def line(row: dict, epochs: int) -> str:
    """An epoch as a person reads it."""
    shown = [f"epoch {row['epoch'] + 1}/{epochs}", f"lr {row['lr']:.4g}", f"train loss {row['train_loss']:.4f}"]
    for split in ("train", "val", "test"):
        if f"{split}_top1_error" in row:
            shown.append(f"{split} error {row[f'{split}_top1_error']:.2f}%")
    return "  ".join([*shown, f"{row['images_per_second']:,.0f} images/s"])


if __name__ == "__main__":
    sys.exit(cli.run(main))
