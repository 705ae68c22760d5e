"""The flags of main.py and of count.py, in groups. Imports no torch: --help answers at once.

    training_parser().parse_args(["digits", "teacher", "-t", "demo.teacher"])

Networks, callbacks and losses declare their own flags in their registries. A callback or loss whose flags have no place
here gets a group of its own.
"""

import argparse
import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from functools import cache

from cli import layers
from cli.command import Parser
from gates.registry import FLAGS as GATING
from input.datasets import DATASETS, PREFIX, is_own
from layers.registry import FAMILIES, form
from models import registry as networks
from models.libraries import FORMS, check_name
from models.registry import NETWORKS
from sparsity.registry import FLAGS as SPARSITY
from system.arguments import (
    Flag,
    Switch,
    amount,
    batch_sizes,
    canonical,
    choice,
    factor,
    filename,
    gpus,
    milestones,
    number,
    pattern,
    points,
    source,
)
from training import registry
from training.registry import CALLBACKS, LOSSES


def dataset(text: str) -> str:
    """Take a dataset's name, or folder:PATH."""
    if text == PREFIX:
        raise ArgumentTypeError(f"{text!r} names no folder: folder:PATH is one with train/<class>/ and test/<class>/")
    if is_own(text):
        return text
    if text not in DATASETS and os.path.isdir(os.path.expanduser(text)):
        raise ArgumentTypeError(f"unknown dataset {text!r}; did you mean '{PREFIX}{text}'?")
    return choice("dataset", [*DATASETS, f"{PREFIX}PATH"])(text)


MIXED = (
    "; or mixed, PATTERN=NAME,PATTERN=NAME…, as 'groups.0=Conv,.*=SepHashed_0.1': the first pattern that a layer's "
    "dotted name matches (as --where) decides, and a layer that none matches stays as the network has it"
)


@canonical
def network(text: str) -> str:
    """Take the name of a network here, or library:NAME."""
    return check_name(text, list(NETWORKS))


IMAGE_SIZE = Flag(
    "--image_size", number(int, 1, 1024), metavar="PIXELS",
    help="rows and columns of an ImageNet image (preset: 224), or of those of a folder:PATH (preset: their own)",
)  # fmt: skip
MODULE = Flag(
    "--module", filename, metavar="FILE",
    help="a Python file whose class Conv, with Conv2d's arguments, is used instead",
)  # fmt: skip
SWAPS = (
    Flag(
        "--where", pattern, default="", metavar="REGEX",
        help="swap only layers whose dotted name this is found in",
    ),
    Flag(
        "--budget", amount, metavar="PARAMETERS",
        help="find the number of --conv (SepHashed, ACDC, TensorTrain_x_4), or the width for one without a number",
    ),
    Flag("--budget_mult_adds", amount, metavar="MULT_ADDS", help="the same for exact mult-adds"),
    Flag("--seed", number(int, 0, 2**53), default=0, help="of the weights, the hashes and the input"),
)  # fmt: skip
MODE = Flag("mode", choice("mode", ["teacher", "student"]), metavar="MODE", help="teacher | student")
RUN = (
    Flag(
        "--teacher_checkpoint", source, short="-t", metavar="NAME",
        help="teacher mode: this run's name; student mode: who teaches, a run, torchvision:NAME[:WEIGHTS], timm:NAME "
        "or a file of weights (with a slash, or *.pth, *.pt, *.ckpt, *.safetensors …; FILE:KEY chooses in it); such a "
        "source with --evaluate in teacher mode too",
    ),
    Flag("--student_checkpoint", short="-s", metavar="NAME", help="student mode: this run's name"),
    Flag(
        "--init_from", source, metavar="NAME",
        help="start from this trained network (a run, or as -t), its convolutions fitted layer by layer",
    ),
    Flag(
        "--fit_effort", number(float, 0, 1000, above=True), metavar="TIMES",
        help="times the work of these fits (default: 1)",
    ),
    Flag(
        "--allocate", action="store_true",
        help="with --budget and --init_from: give each layer a number of its own, by what its errors cost that network",
    ),
    Flag("--resume", short="-r", action="store_true", help="go on from the last checkpoint, if there is one"),
    Flag(
        "--checkpoint_every", number(int, 1, 10**9), metavar="STEPS",
        help="keep a checkpoint within an epoch too (after each epoch there is one)",
    ),
    Flag(
        "--until", number(int, 1, 10**6), metavar="EPOCH",
        help="end after so many epochs, with the schedule of all; a later --until, or none, goes on",
    ),
    Flag("--evaluate", action="store_true", help="only test what -t (student mode: -s) names, write nothing"),
    Flag(
        "--gate_skip", action="store_true",
        help="with --evaluate: take the images one by one, really leave out what the gates close, and say how long that takes",
    ),
    Flag(
        "--latency", batch_sizes, metavar="[1,128]",
        help="at the end of the last epoch measure and record how long inference takes on this machine, by batch sizes "
        "(alone: [1,128])",
    ),
    Flag(
        "--dry_run", action="store_true",
        help="build, load and time one step of all, say what it takes, write nothing",
    ),
    Flag("--json", action="store_true", help="what --dry_run says, as one JSON object"),
    Flag("--print_freq", number(int, 1, 10**9), default=10, help="steps between two updates of the bar"),
    Flag("--device", choice("device", ["cpu", "cuda"]), help="(default: cuda where there is a GPU)"),
    Flag(
        "--GPU", gpus, metavar="N",
        help="the number of the GPU to use (default: 0); 0,1,2,3: a process on each",
    ),
    Flag("--precision", choice("precision", ["fp32", "tf32", "bf16"]), default="fp32", help="fp32 | tf32 | bf16"),
    Flag("--checkpoint_activations", action="store_true", help="recompute activations: less memory, more time"),
    Flag(
        "--grad_accum", number(int, 1, 10**6), metavar="N",
        help="compute a batch in N parts: less memory (default: 1)",
    ),
    Flag(
        "--sync_bn", action="store_true",
        help="batch-norm over the images of all processes, instead of each its own",
    ),
    Flag("--compile", action="store_true", help="torch.compile the networks"),
    Flag(
        "--autotune", action="store_true",
        help="measure a few steps first and take the fastest memory layout, on a GPU for fp32 TF32 too where it is faster",
    ),
)  # fmt: skip
DATA = (
    Flag("--data_dir", filename, metavar="FOLDER", help="where datasets lie (default: $DATA_DIR, else data)"),
    Flag(
        "--imagenet_loc", filename, metavar="PLACE",
        help="a folder with train/<wnid>/ and val/<wnid>/, or shards: '/data/imagenet-{train,val}-{000..}.tar' "
        "(default: imagenet in --data_dir)",
    ),
    Flag(
        "--val_labels", filename, metavar="FILE",
        help="the labels of an imagenet val/ without class folders: lines of `name wnid` or `name,wnid` "
        "(LOC_val_solution.csv), or a number an image in the order of their names: from 0 in the order of the wnids, "
        "or the devkit's ground truth beside its meta.mat",
    ),
    Flag("--download", action="store_true", help="fetch a missing dataset there through torchvision"),
    Flag(
        "--workers", number(int, 1, 1024),
        help="threads that decode image files; imagenet: processes, of each process that trains (default: its share of "
        "the CPUs)",
    ),
    Flag(
        "--val_size", number(int, 0, 10**9), default=0, metavar="N",
        help="training images held out, never trained on",
    ),
    Flag(
        "--train_size", number(int, 1, 10**9), metavar="N",
        help="train on N of the other images, the same for every seed (default: all)",
    ),
    Flag(
        "--augment", choice("augmentation", ["full", "crop", "none"]), default="full",
        help="full: crop, flip and cutout; crop: without cutout; none",
    ),
    Flag("--cutout", number(int, 0, 64), metavar="PIXELS", help="side of the square cut out (preset: 16; ResNet9 8)"),
    Flag("--cutout_inside", action=Switch, help="the square lies wholly in the image (preset of ResNet9)"),
    Flag(
        "--pad", choice("padding", ["zero", "reflect"]),
        help="what an image is padded by before the crop: zero | reflect, its own pixels (preset: zero; ResNet9 reflect)",
    ),
)  # fmt: skip
OPTIMISATION = (
    Flag("--epochs", number(int, 1, 10**6), help="(preset: by network; digits 30)"),
    Flag(
        "--test_every", number(int, 0, 10**6), metavar="EPOCHS",
        help="test after every so many epochs, and after the last (default: 1); 0: never, only what --val_size holds out "
        "is looked at, after every epoch",
    ),
    Flag(
        "--reestimate_bn", number(int, 0, 10**6), metavar="N",
        help="test at the end also with batch-norm's statistics taken anew from N training batches",
    ),
    Flag("--batch_size", number(int, 1, 10**6), help="(preset: by network; digits 64)"),
    Flag("--optimizer", choice("optimizer", ["sgd", "adam", "adamw"]), help="sgd | adam | adamw (default: sgd)"),
    Flag(
        "--lr", number(float, 0, 1e30, above=True),
        help="initial learning rate, the highest of a linear schedule (preset: by network; adam and adamw 0.001)",
    ),
    Flag("--momentum", number(float, 0, 1), help="of sgd; β₁ of adam and adamw (default: 0.9)"),
    Flag("--nesterov", action=Switch, help="Nesterov's momentum (preset of ResNet9)"),
    Flag(
        "--structured_lr", factor, metavar="FACTOR",
        help="times the learning rate of structured parameters (default: 1); auto: 1 / the number of their map's factors; "
        "shared: lower where a step moves a kernel far (preset of Hashed, HashedDecimate, OriginalACDC and Tucker with sgd)",
    ),
    Flag(
        "--schedule", choice("schedule", ["step", "cosine", "sgdr", "linear"]),
        help="step | cosine to 0 | sgdr, cosines with restarts | linear between points (preset: by network; digits cosine)",
    ),
    Flag(
        "--epoch_step", milestones, metavar="JSON",
        help="epochs from which the rate is lower (preset: by network, in proportion to --epochs)",
    ),
    Flag(
        "--lr_decay_ratio", number(float, 0, 1, above=True),
        help="times the rate at each step (preset: by network)",
    ),
    Flag("--restart_epochs", number(int, 1, 10**6), metavar="EPOCHS", help="of the first cycle of sgdr (default: 10)"),
    Flag("--restart_mult", number(int, 1, 10**6), metavar="N", help="times as long is each next cycle (default: 2)"),
    Flag(
        "--lr_points", points, metavar="JSON",
        help="epochs and learning rates between which linear draws straight lines, '[[0,0],[5,0.4],[24,0]]' (preset of "
        "ResNet9, in proportion to --epochs and --lr)",
    ),
    Flag(
        "--train_where", pattern, metavar="REGEX",
        help="train only parameters in whose dotted name it is found; gates always train (default: all)",
    ),
    *CALLBACKS["clip_gradient"].flags,
    *CALLBACKS["drop_path"].flags,
    *LOSSES["supervised"].flags,
    Flag("--weight_decay", number(float, 0, 1e6), help="(preset: by network)"),
    Flag("--nocrswd", action="store_true", help="do not scale the weight decay of structured parameters"),
    Flag("--crs_factor", number(float, 0, 1e6), help="times the scaled weight decay (default: 1)"),
)  # fmt: skip


def training_parser() -> Parser:
    """Return the parser of main.py. It is built once for each state of the registries."""
    return _training_parser(state())


def state() -> tuple:
    """Return what the registries declare, to tell whether a parser is up to date."""
    return tuple(NETWORKS), networks.flags(), tuple((each.name, each.flags) for each in registry.entries())


@cache
def _training_parser(state: tuple) -> Parser:
    parser = Parser(
        prog="main.py", description="Train one network: a teacher (or anything alone), or a student of a teacher."
    )
    add_network_flags(parser)
    MODE.add_to(parser)
    layers.add_flags(parser)
    placed = {"run": RUN, "data": DATA, "optimisation": OPTIMISATION, "distillation": LOSSES["distill"].flags}
    placed["sparsity"], placed["gating"] = SPARSITY, GATING
    known = {flag for flags in placed.values() for flag in flags}
    others = {entry.name: [flag for flag in entry.flags if flag not in known] for entry in registry.entries()}
    for title, flags in [*placed.items(), *others.items()]:
        add_group(parser, title, flags)
    return parser


def add_network_flags(parser: Parser, take: Callable[[str], str] = dataset) -> None:
    """Add the dataset, which `take` checks, and everything that says which network is built."""
    shown = " | ".join([*DATASETS, f"{PREFIX}PATH, a folder with train/<class>/ and test/<class>/ of small images"])
    Flag("dataset", take, shown, metavar="DATASET").add_to(parser)
    presets = {name: networks.reference_conv(name) for name in NETWORKS}
    preset = ", ".join(["Conv", *(f"for {name} {conv}" for name, conv in presets.items() if conv != "Conv")])
    flags = (
        Flag("--network", network, " | ".join([*NETWORKS, *FORMS]), default="WideResNet"),
        *networks.flags(),
        IMAGE_SIZE,
        Flag("--conv", help="; ".join(map(form, FAMILIES)) + f" (preset: {preset}){MIXED}"),
        MODULE,
        *SWAPS,
    )
    add_group(parser, "network", flags, "in student mode, the student's")


def add_group(parser: Parser, title: str, flags: Sequence[Flag], description: str | None = None) -> None:
    """Add flags under a title of their own."""
    if flags:
        group = parser.add_argument_group(title, description)
        for flag in flags:
            try:
                flag.add_to(group)
            except argparse.ArgumentError as error:
                raise ValueError(f"the flag {flag.name} of {title!r} is taken: {error.message}")
