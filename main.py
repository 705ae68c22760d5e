"""Trains one network: a teacher (or anything alone), or a student of a teacher.

    python main.py digits teacher -t demo.teacher --wrn_depth 16 --wrn_width 1
    python main.py digits student -t demo.teacher -s demo.student --wrn_depth 16 --wrn_width 1 --conv SepHashed_0.1

resolve (options.py) -> build (build.py, blocks.py) -> fit (train.py), recorded by checkpoint.py. All that can be wrong
with a request is found before anything is written.
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
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import blocks
import datasets
from build import build
from checkpoint import Run, digest, load_teacher, refuse_or_find
from count import outline, summary, warn_of_uncounted
from data import Augmentation, Data
from distill import Distill, Supervised, check_taps
from errors import Interrupted, RequestError
from optim import Cosine, Schedule, Step, sgd
from train import ClipGradient, fit


def main(arguments: list[str] | None = None) -> int:
    request = options.training(arguments)
    config = {key: value for key, value in vars(request).items() if key != "resume"}
    name = request.teacher_checkpoint if request.mode == "teacher" else request.student_checkpoint
    device = choose_device(request)
    source = datasets.find(request.dataset, data_folder(request), request.download)
    network, costs, teacher = build(config), summary(config), None
    if request.module:
        config["module_digest"] = cli.file_digest(request.module)
    if request.mode == "student":
        teacher = build_teacher(request, network)
        config["teacher_digest"] = teacher.digest
    refuse_or_find(name, config, request.resume)  # up to here nothing is written, from here on anything may be

    data = load_data(request, source, device)
    random.seed(request.seed), np.random.seed(request.seed % 2**32), torch.manual_seed(request.seed)
    network = settle(blocks.materialise(network, request.seed), device, data.side, request.compile)
    criterion = Supervised()
    if teacher is not None:
        taught_by = settle(teacher.network, device, data.side, request.compile)
        criterion = Distill(taught_by, request.alpha, request.beta, request.temperature)
        if teacher.unfinished:
            print(f"warning: the teacher has only finished {teacher.unfinished}", file=sys.stderr)
    scale = 1.0 if request.nocrswd else costs["crs_ratio"] * request.crs_factor
    structured = blocks.structured_parameters(network)
    optimizer = sgd(network, structured, request.lr, request.momentum, request.weight_decay, scale)
    companions = [ClipGradient(request.clip_grad)] if request.clip_grad else []

    about = {"argv": sys.argv, "counts": {k: v for k, v in costs.items() if k != "layers"}, "versions": versions()}
    with Run(name, config, about, request.resume) as run:
        announce(run, request, source, data, costs, optimizer)
        epochs = fit(
            network, criterion, optimizer, schedule_of(request), data, request.epochs, companions, run.state,
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
    saved = load_teacher(request.teacher_checkpoint)
    config, dataset = saved["config"], datasets.DATASETS[request.dataset]
    if config["dataset"] != request.dataset:
        raise RequestError(
            f"the teacher {request.teacher_checkpoint!r} was trained on {config['dataset']} "
            f"({datasets.DATASETS[config['dataset']].classes} classes), not {request.dataset} ({dataset.classes} classes)"
        )
    if config.get("module") and cli.file_digest(config["module"]) != config["module_digest"]:
        raise RequestError(
            f"the teacher {request.teacher_checkpoint!r} needs {config['module']} as it was when it was trained"
        )
    teacher = build({**config, "AT_split": request.AT_split})
    if request.beta:
        try:
            check_taps(outline(student, dataset.side).taps, outline(teacher, dataset.side).taps)
        except ValueError as error:
            raise RequestError(f"{error}; --AT_split says how many there are, --beta 0 goes without")
    teacher = blocks.materialise(teacher, config["seed"])
    teacher.load_state_dict(saved["model"])
    unfinished = saved["epoch"] < config["epochs"] and f"{saved['epoch']} of its {config['epochs']} epochs"
    return Teacher(teacher, digest(saved["model"]), unfinished or "")


@torch.no_grad()
def settle(network: nn.Module, device: torch.device, side: int, compiled: bool) -> nn.Module:
    """On its device, channels-last (which both the CPU's and the GPU's convolutions are faster with)."""
    network = network.to(device, memory_format=torch.channels_last)
    if compiled:
        network.eval()(torch.zeros(1, 3, side, side, device=device))  # what is computed once stays out of the graph
        network.compile()
    return network


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


def announce(run: Run, request: Namespace, source: datasets.Source, data: Data, costs: dict, optimizer) -> None:
    """What is about to be trained, on what, and what decays by how much."""
    conv, ratio = request.conv or request.module, costs["crs_ratio"]
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
