"""What a command line resolves to: flags (flags.py), presets, and what makes no sense together. Imports no torch.

    options = training(["digits", "teacher", "-t", "demo.teacher", "--wrn_depth", "16", "--wrn_width", "1"])
    options.epochs, options.batch_size                  # (30, 64), from the digits preset

A flag that the user gave always wins over a preset. What cannot be meant is one line on stderr and exit status 2.
"""

import argparse
from collections.abc import Sequence

from cli.flags import counting_parser, training_parser
from input import facts
from input.datasets import DATASETS
from input.folders import LARGEST_SIDE, PREFIX, is_own, look
from layers.registry import parse_conv, parse_family
from models.presets import CUTOUT, DATASET_PRESETS, IMAGE_SIDE, OWN, PRESETS, width_flag
from models.registry import NETWORKS
from system.configuration import Configuration
from system.errors import RequestError
from weights.sources import WEIGHTS_FILES, check_run_name, check_source, is_published


def training(arguments: Sequence[str] | None = None) -> Configuration:
    """The resolved options of one run: every field has its value. RequestError where they make no sense together."""
    options = training_parser().parse_args(arguments)
    given = {name for name, value in vars(options).items() if value is not None}
    _names(options)
    _fill(options)
    for flag in {"epoch_step", "lr_decay_ratio"} & given:
        if options.schedule != "step":
            raise RequestError(f"--{flag} goes with --schedule step, not {options.schedule}")
    if options.grad_accum == 1:
        options.grad_accum = None  # as if it had not been given
    if options.test_every == 1:
        options.test_every = None
    if options.evaluate and "image_size" not in given and options.data_folder is None:
        options.image_size = None  # the network's own
    if options.imagenet_loc is not None and options.dataset != "imagenet":
        raise RequestError(f"--imagenet_loc goes with imagenet, not {options.dataset}")
    if options.download and options.data_folder is not None:
        raise RequestError(f"--download fetches none of your own: it does not go with {options.dataset}")
    if options.val_labels is not None and options.dataset != "imagenet":
        raise RequestError(f"--val_labels goes with imagenet, not {options.dataset}")
    if options.json and not options.dry_run:
        raise RequestError("--json goes with --dry_run")
    for flag in ("dry_run", "resume", "init_from") if options.evaluate else ():
        if getattr(options, flag):
            raise RequestError(f"--evaluate only tests a trained network, --{flag} does not go with it")
    if options.nocrswd and options.crs_factor is not None:
        raise RequestError(f"--crs_factor {options.crs_factor:g} contradicts --nocrswd")
    if options.crs_factor is None:
        options.crs_factor = 1.0
    _check_sizes(options)
    if options.schedule != "step":
        options.epoch_step = options.lr_decay_ratio = None
    elif options.epoch_step is None or options.lr_decay_ratio is None:
        raise RequestError(f"--schedule step on {options.network} needs --epoch_step and --lr_decay_ratio")
    elif "epoch_step" not in given:
        preset = PRESETS[options.network]
        options.epoch_step = [-(-step * options.epochs // preset["epochs"]) for step in preset["epoch_step"]]  # up
    if options.augment != "full" and options.cutout:
        raise RequestError(f"--cutout {options.cutout} goes with --augment full, not {options.augment}")
    if options.cutout is None:
        side = options.image_size if options.data_folder is not None else None
        options.cutout = min(CUTOUT, side // 2 if side else CUTOUT) if options.augment == "full" else 0
    if options.device == "cpu" and options.GPU is not None:
        raise RequestError(f"--GPU {','.join(map(str, options.GPU))} contradicts --device cpu")
    if options.checkpoint_activations and options.compile:
        raise RequestError("--checkpoint_activations does not go with --compile, which decides itself what it keeps")
    if options.mode == "teacher":
        options.temperature = options.alpha = options.beta = None  # there is nobody to learn from
    return Configuration(vars(options))


def _check_sizes(options: argparse.Namespace) -> None:
    """As many images are asked for as the dataset is known to have; those of a folder are counted when it is read."""
    there = DATASETS[options.dataset].train_images if options.data_folder is None else 0
    if there and options.val_size >= there:
        raise RequestError(
            f"--val_size {options.val_size}: {options.dataset} has {there} images to train on, at most {there - 1}"
        )
    if there and (options.train_size or 0) > there - options.val_size:
        held_out = f", of which --val_size holds out {options.val_size:,}" if options.val_size else ""
        raise RequestError(
            f"--train_size {options.train_size}: {options.dataset} has {there:,} images to train on{held_out}: at most "
            f"{there - options.val_size}"
        )


def counting(arguments: Sequence[str] | None = None) -> Configuration:
    """The resolved options of count.py."""
    options = counting_parser().parse_args(arguments)
    if options.compare:
        for flag in ("conv", "module", "table"):
            if getattr(options, flag):
                raise RequestError(f"--{flag} does not go with --compare")
        options.compare = [_conv(text, options) for text in options.compare]
    _fill(options)
    return Configuration(vars(options))


def _conv(text: str, options: argparse.Namespace) -> str:
    """A conv's canonical name, or its family's where a budget is to find the number."""
    return str(parse_family(text) if options.budget or options.budget_mult_adds else parse_conv(text))


def _names(options: argparse.Namespace) -> None:
    """A run has a name, and a student has a teacher."""
    if options.teacher_checkpoint is None:
        what = "the name of this run" if options.mode == "teacher" else "the name of the teacher's run"
        raise RequestError(f"{options.mode} mode needs -t/--teacher_checkpoint, {what}")
    if options.mode == "student" or options.evaluate:
        check_source(options.teacher_checkpoint, "-t")
    elif not (is_published(options.teacher_checkpoint) or options.teacher_checkpoint.endswith(WEIGHTS_FILES)):
        check_run_name(options.teacher_checkpoint, "-t")
    else:
        ways = "--init_from starts from such weights, --evaluate tests them"
        raise RequestError(f"-t {options.teacher_checkpoint!r}: in teacher mode it names this run; {ways}")
    if options.init_from is not None:
        check_source(options.init_from, "--init_from")
    if options.mode == "teacher" and options.student_checkpoint is not None:
        raise RequestError(f"-s {options.student_checkpoint!r} is for student mode: in teacher mode -t names the run")
    if options.mode == "student":
        if options.student_checkpoint is None:
            raise RequestError("student mode needs -s/--student_checkpoint, the name of this run")
        check_run_name(options.student_checkpoint, "-s")
        if options.student_checkpoint.lower() == options.teacher_checkpoint.lower():
            raise RequestError(f"-t and -s are both {options.student_checkpoint!r}: a student needs a name of its own")


def _fill(options: argparse.Namespace) -> None:
    """Presets into what was not given; flags that another network takes are refused."""
    if options.module is not None and options.conv is not None:
        raise RequestError(f"--conv {options.conv} and --module {options.module}: give one of them")
    _own_folder(options)
    if options.data_folder is None and DATASETS[options.dataset].side != IMAGE_SIDE[options.network]:
        fits = [name for name, dataset in DATASETS.items() if dataset.side == IMAGE_SIDE[options.network]]
        raise RequestError(f"--network {options.network} takes {', '.join(fits)}, not {options.dataset}")
    of_networks = {
        flag: {name for name in NETWORKS if flag in NETWORKS[name][1].values()}
        for _, flags in NETWORKS.values()
        for flag in flags.values()
    }
    for flag, networks in sorted((of_networks | OWN).items()):
        if flag == "image_size" and options.data_folder is not None:
            continue
        if options.network not in networks and getattr(options, flag, None) is not None:
            raise RequestError(f"--{flag} is not a flag of --network {options.network}, but of {', '.join(networks)}")
    if options.data_folder is None:
        _check_image_size(options, 64, 1024)
    _check_budget(options)
    for name, value in {**PRESETS[options.network], **DATASET_PRESETS.get(options.dataset, {})}.items():
        if getattr(options, name, 0) is None:
            setattr(options, name, value)
    options.conv = None if options.module is not None else _conv(options.conv, options)


def _own_folder(options: argparse.Namespace) -> None:
    """What a look at a folder of one's own tells: its name in place of its path, its classes, the side of its images."""
    options.data_folder = options.data_resize = options.data_mean = None
    if not is_own(options.dataset):
        return
    size = options.image_size
    _check_image_size(options, 1, LARGEST_SIDE)
    own = look(options.dataset.removeprefix(PREFIX), size, of_any_side=getattr(options, "evaluate", False))
    options.dataset, options.data_folder, options.data_resize = own.name, str(own.path), size is not None
    options.data_classes, options.data_names = len(own.names), facts.joined(own.names)
    options.image_size = own.side


def _check_image_size(options: argparse.Namespace, smallest: int, largest: int) -> None:
    if (size := options.image_size) is not None and not smallest <= size <= largest:
        of = f"an image of {options.dataset.partition(':')[0]}"
        wanted = f"{str(size)!r} is not a whole number of at least {smallest} and at most {largest}"
        raise RequestError(f"argument --image_size: {wanted}, for {of}")


def _check_budget(options: argparse.Namespace) -> None:
    """One budget at most, and something that may vary to meet it."""
    if options.budget is None and options.budget_mult_adds is None:
        return
    if options.budget is not None and options.budget_mult_adds is not None:
        raise RequestError("--budget and --budget_mult_adds: give one of them")
    if options.module is not None:
        raise RequestError("a budget finds the number of a --conv, or its network's width: --module has none")
    name = parse_family(options.conv or PRESETS[options.network]["conv"])
    if not getattr(options, "compare", None) and name.number is None:
        width_flag(options.network, str(name))
