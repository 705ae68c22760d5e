"""Resolve how a network is trained: optimizer, learning rates and augmentation. Imports no torch.

    resolve_optimizer(options, given)
    resolve_schedule(options, given)
    resolve_augmentation(options, given)

`options` have the presets of their network and dataset, `given` are the flags of the command line. What a preset gives
and another flag excludes is dropped; what was given and another flag excludes is a RequestError. Each setting at its
neutral value is None, as in the records of runs from before it existed.
"""

import argparse

from input import datasets
from input.datasets import LARGEST_SIDE
from layers.mixed import is_slowed
from models.registry import NETWORKS
from system.errors import RequestError

CUTOUT = 16  # pixels, of a 32×32 image: DeVries & Taylor 2017 (1708.04552)
MARGIN = 4  # pixels by which an image is padded (input/augment.py)
ADAM_LR = 1e-3  # Kingma & Ba 2015, section 6
OF_SCHEDULE = {
    "step": ("epoch_step", "lr_decay_ratio"), "cosine": (), "sgdr": ("restart_epochs", "restart_mult"), "linear": ("lr_points",),
}  # fmt: skip


def check_schedule_flags(options: argparse.Namespace, given: set[str]) -> None:
    """Raise RequestError for a flag of another schedule."""
    for schedule, flags in OF_SCHEDULE.items():
        for flag in flags if schedule != options.schedule else ():
            if flag in given:
                raise RequestError(f"--{flag} goes with --schedule {schedule}, not {options.schedule}")


def resolve_optimizer(options: argparse.Namespace, given: set[str]) -> None:
    """Set momentum, Nesterov and the rate of the optimizer. Raise RequestError where they contradict it."""
    options.optimizer = None if options.optimizer == "sgd" else options.optimizer
    options.momentum = 0.9 if options.momentum is None else options.momentum
    if options.nesterov and "nesterov" in given:
        if options.optimizer:
            raise RequestError(f"--nesterov goes with --optimizer sgd, not {options.optimizer}")
        if not options.momentum:
            raise RequestError("--nesterov needs a --momentum above 0")
    options.nesterov = bool(options.nesterov and options.momentum and not options.optimizer) or None
    if options.optimizer and options.momentum == 1:
        raise RequestError(f"--momentum 1: the β₁ of {options.optimizer} is below 1")
    if options.optimizer and "lr" not in given:
        options.lr = ADAM_LR


def structured_lr_of(conv: str | None, optimizer: str | None) -> str | None:
    """Return the preset of --structured_lr: "shared" of a conv that wants a lower rate, with sgd; else None, which is 1."""
    return "shared" if conv and not optimizer and is_slowed(conv) else None


def resolve_schedule(options: argparse.Namespace, given: set[str]) -> None:
    """Set what the schedule needs, and to None what belongs to another. Raise RequestError where something is unknown."""
    for schedule, flags in OF_SCHEDULE.items():
        for flag in flags if schedule != options.schedule else ():
            setattr(options, flag, None)
    if options.schedule == "step":
        _resolve_steps(options, given)
    elif options.schedule == "sgdr":
        options.restart_epochs, options.restart_mult = options.restart_epochs or 10, options.restart_mult or 2
    elif options.schedule == "linear":
        _resolve_points(options, given)


def _resolve_steps(options: argparse.Namespace, given: set[str]) -> None:
    """Set the steps of a step schedule, in proportion to the epochs."""
    if options.epoch_step is None or options.lr_decay_ratio is None:
        raise RequestError(f"--schedule step on {options.network} needs --epoch_step and --lr_decay_ratio")
    if "epoch_step" not in given:
        preset = NETWORKS[options.network].presets
        options.epoch_step = [-(-step * options.epochs // preset["epochs"]) for step in preset["epoch_step"]]  # up


def _resolve_points(options: argparse.Namespace, given: set[str]) -> None:
    """Set the points of a linear schedule: those given, or the preset's in proportion to the epochs and the highest rate."""
    if options.lr_points is None:
        raise RequestError(f"--schedule linear on {options.network} needs --lr_points")
    if "lr_points" in given:
        _check_points(options, given)
        options.lr = float(max(rate for _, rate in options.lr_points))
        return
    presets = NETWORKS[options.network].presets
    length, highest = presets["epochs"], max(rate for _, rate in presets["lr_points"])
    if "lr" not in given and not options.optimizer:
        options.lr = highest
    options.lr_points = [
        [_plain(epoch * options.epochs / length), rate if options.lr == highest else rate / highest * options.lr]
        for epoch, rate in presets["lr_points"]
    ]


def _check_points(options: argparse.Namespace, given: set[str]) -> None:
    """Raise RequestError where points contradict --lr, or end the training before the run ends."""
    if "lr" in given:
        raise RequestError(f"--lr {options.lr:g} does not go with --lr_points, which say every rate")
    last, rate = options.lr_points[-1]
    if last < options.epochs and not rate:
        ends = f"--lr_points end at epoch {last:g} with the rate 0"
        raise RequestError(f"{ends}, but the run has {options.epochs} epochs: end them there, or above 0")


def _plain(number: float) -> float | int:
    """Return a whole number as an int."""
    return int(number) if number == int(number) else number


def resolve_augmentation(options: argparse.Namespace, given: set[str]) -> None:
    """Set cutout and padding, as --augment and the images allow. Raise RequestError where what was given contradicts them."""
    own = options.data_folder is not None
    side = datasets.side_of(vars(options)) or LARGEST_SIDE  # a folder's that is only tested may have images of any side
    if options.augment != "full":
        if "cutout" in given and options.cutout:
            raise RequestError(f"--cutout {options.cutout} goes with --augment full, not {options.augment}")
        options.cutout = 0
    if "cutout" not in given and (options.cutout or options.cutout is None):
        options.cutout = CUTOUT if options.cutout is None else options.cutout
        options.cutout = min(options.cutout, side // 2) if own else options.cutout
    if options.cutout_inside and "cutout_inside" in given and not options.cutout:
        raise RequestError("--cutout_inside goes with a --cutout above 0")
    if options.cutout > side and "cutout_inside" not in given:
        options.cutout_inside = None
    if options.cutout_inside and options.cutout > side:
        raise RequestError(f"--cutout {options.cutout} does not lie inside images of {side}×{side}")
    options.cutout_inside = bool(options.cutout_inside and options.cutout) or None
    _resolve_padding(options, given, side)


def _resolve_padding(options: argparse.Namespace, given: set[str], side: int) -> None:
    """Set the padding to None unless images are padded by their own pixels."""
    padded = options.augment != "none" and options.dataset != "imagenet"
    if options.pad is not None and "pad" in given and not padded:
        why = "imagenet, whose crops need no padding" if options.augment != "none" else "--augment none"
        raise RequestError(f"--pad {options.pad} does not go with {why}")
    if options.pad == "reflect" and padded and side <= MARGIN:
        raise RequestError(f"--pad reflect: images of {side}×{side} are too small to reflect {MARGIN} pixels")
    options.pad = "reflect" if options.pad == "reflect" and padded else None
