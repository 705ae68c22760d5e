"""The flags in groups, the presets, and what a command line resolves to. Imports no torch: --help answers at once.

    options = training(["digits", "teacher", "-t", "demo.teacher", "--wrn_depth", "16", "--wrn_width", "1"])
    options.epochs, options.batch_size                  # (30, 64), from the digits preset

A flag that the user gave always wins over a preset. What cannot be meant is one line on stderr and exit status 2.
"""

import argparse
from collections.abc import Sequence
from functools import cache

from cli import Parser, amount, choice, filename, gpus, milestones, number, pattern
from datasets import DATASETS
from errors import RequestError
from models import NETWORKS
from names import FAMILIES, check_run_name, check_source, form, parse_conv, parse_family
from presets import CUTOUT, DATASET_PRESETS, IMAGE_SIDE, OWN, PRESETS, WIDTHS


def add_network_flags(parser: Parser) -> None:
    parser.add_argument("dataset", type=choice("dataset", list(DATASETS)), metavar="DATASET", help=" | ".join(DATASETS))
    group = parser.add_argument_group("network", "in student mode, the student's")
    group.add_argument(
        "--network", type=choice("network", list(NETWORKS)), default="WideResNet", help=" | ".join(NETWORKS)
    )
    group.add_argument("--wrn_depth", type=number(int, 1, 10_000), help="6n + 4 (preset: 40)")
    group.add_argument(
        "--wrn_width", type=number(float, 0, 1000, above=True), help="times 16, 32, 64 channels (preset: 2)"
    )
    group.add_argument(
        "--AT_split", type=number(int, 1, 10_000), help="parts of a group that each give an attention map (preset: 1)"
    )
    group.add_argument(
        "--width_mult", type=number(float, 0, 100, above=True), help="times MobileNetV2's channels (preset: 1)"
    )
    group.add_argument(
        "--image_size",
        type=number(int, 64, 1024),
        metavar="PIXELS",
        help="rows and columns of an ImageNet image (preset: 224)",
    )
    group.add_argument("--conv", help="; ".join(map(form, FAMILIES)) + " (preset: Conv, for DARTS Sep)")
    group.add_argument(
        "--module",
        type=filename,
        metavar="FILE",
        help="a Python file whose class Conv, with Conv2d's arguments, is used instead",
    )
    group.add_argument(
        "--where", type=pattern, default="", metavar="REGEX", help="swap only layers whose dotted name this is found in"
    )
    group.add_argument(
        "--budget",
        type=amount,
        metavar="PARAMETERS",
        help="find the number of --conv (SepHashed, ACDC, TensorTrain_x_4), or the width for one without a number",
    )
    group.add_argument("--budget_mult_adds", type=amount, metavar="MULT_ADDS", help="the same for exact mult-adds")
    group.add_argument("--seed", type=number(int, 0, 2**53), default=0, help="of the weights, the hashes and the input")


@cache
def training_parser() -> Parser:
    parser = Parser(
        prog="main.py", description="Train one network: a teacher (or anything alone), or a student of a teacher."
    )
    add_network_flags(parser)
    parser.add_argument("mode", type=choice("mode", ["teacher", "student"]), metavar="MODE", help="teacher | student")
    run = parser.add_argument_group("run")
    run.add_argument(
        "-t",
        "--teacher_checkpoint",
        metavar="NAME",
        help="teacher mode: this run's name; student mode: who teaches, a run, torchvision:NAME[:WEIGHTS], timm:NAME or a "
        "file of weights (with a slash, or *.pth); such a source with --evaluate in teacher mode too",
    )
    run.add_argument("-s", "--student_checkpoint", metavar="NAME", help="student mode: this run's name")
    run.add_argument(
        "--init_from",
        metavar="NAME",
        help="start from this trained network (a run, or as -t), its convolutions fitted layer by layer",
    )
    run.add_argument("-r", "--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    run.add_argument(
        "--checkpoint_every",
        type=number(int, 1, 10**9),
        metavar="STEPS",
        help="keep a checkpoint within an epoch too (after each epoch there is one)",
    )
    run.add_argument(
        "--evaluate", action="store_true", help="only test what -t (student mode: -s) names, write nothing"
    )
    run.add_argument(
        "--dry_run", action="store_true", help="build, load and time one step of all, say what it takes, write nothing"
    )
    run.add_argument("--json", action="store_true", help="what --dry_run says, as one JSON object")
    run.add_argument(
        "--print_freq", type=number(int, 1, 10**9), default=10, help="steps between two updates of the bar"
    )
    run.add_argument("--device", type=choice("device", ["cpu", "cuda"]), help="(default: cuda where there is a GPU)")
    run.add_argument(
        "--GPU", type=gpus, metavar="N", help="the number of the GPU to use (default: 0); 0,1,2,3: a process on each"
    )
    run.add_argument(
        "--precision", type=choice("precision", ["fp32", "tf32", "bf16"]), default="fp32", help="fp32 | tf32 | bf16"
    )
    run.add_argument(
        "--checkpoint_activations", action="store_true", help="recompute activations: less memory, more time"
    )
    run.add_argument(
        "--grad_accum",
        type=number(int, 1, 10**6),
        metavar="N",
        help="compute a batch in N parts: less memory (default: 1)",
    )
    run.add_argument(
        "--sync_bn", action="store_true", help="batch-norm over the images of all processes, instead of each its own"
    )
    run.add_argument("--compile", action="store_true", help="torch.compile the networks")
    data = parser.add_argument_group("data")
    data.add_argument("--data_dir", help="where datasets lie (default: $DATA_DIR, else data)")
    data.add_argument(
        "--imagenet_loc",
        metavar="PLACE",
        help="a folder with train/<wnid>/ and val/<wnid>/, or shards: '/data/imagenet-{train,val}-{000..}.tar' (default: "
        "imagenet in --data_dir)",
    )
    data.add_argument("--download", action="store_true", help="fetch a missing dataset there through torchvision")
    data.add_argument(
        "--workers",
        type=number(int, 1, 1024),
        help="threads that decode image files; imagenet: processes, of each "
        "process that trains (default: its share of the CPUs)",
    )
    data.add_argument(
        "--val_size",
        type=number(int, 0, 10**9),
        default=0,
        metavar="N",
        help="training images held out, never trained on",
    )
    data.add_argument("--augment", type=choice("augmentation", ["full", "crop", "none"]), default="full",
                      help="full: crop, flip and cutout; crop: without cutout; none")  # fmt: skip
    data.add_argument(
        "--cutout", type=number(int, 0, 64), metavar="PIXELS", help="side of the square cut out (preset: 16)"
    )
    loop = parser.add_argument_group("optimisation")
    loop.add_argument("--epochs", type=number(int, 1, 10**6), help="(preset: by network; digits 30)")
    loop.add_argument("--batch_size", type=number(int, 1, 10**6), help="(preset: by network; digits 64)")
    loop.add_argument(
        "--lr", type=number(float, 0, 1e30, above=True), help="initial learning rate (preset: by network)"
    )
    loop.add_argument("--momentum", type=number(float, 0, 1), default=0.9, help="of SGD")
    loop.add_argument(
        "--schedule",
        type=choice("schedule", ["step", "cosine"]),
        help="step | cosine to 0 (preset: by network; digits cosine)",
    )
    loop.add_argument(
        "--epoch_step",
        type=milestones,
        metavar="JSON",
        help="epochs from which the rate is lower (preset: by network, in proportion to --epochs)",
    )
    loop.add_argument(
        "--lr_decay_ratio",
        type=number(float, 0, 1, above=True),
        help="times the rate at each step (preset: by network)",
    )
    loop.add_argument(
        "--clip_grad",
        type=number(float, 0, 1e30, above=True),
        metavar="NORM",
        help="clip the gradient's norm (preset: 5 for DARTS)",
    )
    loop.add_argument(
        "--drop_path_prob", type=number(float, 0, 0.99), help="of DARTS, reached linearly by epoch (preset: 0.2)"
    )
    loop.add_argument("--weight_decay", type=number(float, 0, 1e6), help="(preset: by network)")
    loop.add_argument("--nocrswd", action="store_true", help="do not scale the weight decay of structured parameters")
    loop.add_argument("--crs_factor", type=number(float, 0, 1e6), help="times the scaled weight decay (default: 1)")
    distill = parser.add_argument_group("distillation")
    distill.add_argument(
        "--temperature", type=number(float, 0, 1e6, above=True), default=4.0, help="of knowledge distillation"
    )
    distill.add_argument(
        "--alpha", type=number(float, 0, 1), default=0.0, help="weight of knowledge distillation against cross-entropy"
    )
    distill.add_argument("--beta", type=number(float, 0, 1e30), default=1000.0, help="weight of attention transfer")
    return parser


def training(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The resolved options of one run: every field has its value. RequestError where they make no sense together."""
    options = training_parser().parse_args(arguments)
    given = {name for name, value in vars(options).items() if value is not None}
    _names(options)
    _fill(options)
    for flag in {"epoch_step", "lr_decay_ratio"} & given:
        if options.schedule != "step":
            raise RequestError(f"--{flag} goes with --schedule step, not {options.schedule}")
    if options.imagenet_loc is not None and options.dataset != "imagenet":
        raise RequestError(f"--imagenet_loc goes with imagenet, not {options.dataset}")
    if options.json and not options.dry_run:
        raise RequestError("--json goes with --dry_run")
    for flag in ("dry_run", "resume", "init_from") if options.evaluate else ():
        if getattr(options, flag):
            raise RequestError(f"--evaluate only tests a trained network, --{flag} does not go with it")
    if options.nocrswd and options.crs_factor is not None:
        raise RequestError(f"--crs_factor {options.crs_factor:g} contradicts --nocrswd")
    if options.crs_factor is None:
        options.crs_factor = 1.0
    if options.val_size >= DATASETS[options.dataset].train_images:
        most = DATASETS[options.dataset].train_images - 1
        raise RequestError(
            f"--val_size {options.val_size}: {options.dataset} has {most + 1} images to train on, at most {most}"
        )
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
        options.cutout = CUTOUT if options.augment == "full" else 0
    if options.device == "cpu" and options.GPU is not None:
        raise RequestError(f"--GPU {','.join(map(str, options.GPU))} contradicts --device cpu")
    if options.checkpoint_activations and options.compile:
        raise RequestError("--checkpoint_activations does not go with --compile, which decides itself what it keeps")
    if options.mode == "teacher":
        options.temperature = options.alpha = options.beta = None  # there is nobody to learn from
    return options


def counting(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The resolved options of count.py."""
    parser = Parser(prog="count.py", description="What a network costs: parameters, mult-adds per image, bytes.")
    add_network_flags(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--batch",
        type=number(int, 1, 10**6),
        default=128,
        help="images that share a rebuilt matrix, in the exact count",
    )
    output.add_argument("--table", action="store_true", help="a row per layer too")
    output.add_argument(
        "--compare",
        type=lambda text: text.replace(" ", "").split(","),
        metavar="A,B,C",
        help="one table of these convs side by side",
    )
    output.add_argument("--json", action="store_true", help="everything as one JSON object")
    options = parser.parse_args(arguments)
    if options.compare:
        for flag in ("conv", "module", "table"):
            if getattr(options, flag):
                raise RequestError(f"--{flag} does not go with --compare")
        options.compare = [_conv(text, options) for text in options.compare]
    _fill(options)
    return options


def _conv(text: str, options: argparse.Namespace) -> str:
    """A conv's canonical name, or its family's where a budget is to find the number."""
    return str(parse_family(text) if options.budget or options.budget_mult_adds else parse_conv(text))


def _names(options: argparse.Namespace) -> None:
    """A run has a name, and a student has a teacher."""
    if options.teacher_checkpoint is None:
        what = "the name of this run" if options.mode == "teacher" else "the name of the teacher's run"
        raise RequestError(f"{options.mode} mode needs -t/--teacher_checkpoint, {what}")
    tested = options.mode == "student" or options.evaluate
    (check_source if tested else check_run_name)(options.teacher_checkpoint, "-t")
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
    if DATASETS[options.dataset].side != IMAGE_SIDE[options.network]:
        fits = [name for name, dataset in DATASETS.items() if dataset.side == IMAGE_SIDE[options.network]]
        raise RequestError(f"--network {options.network} takes {', '.join(fits)}, not {options.dataset}")
    of_networks = {
        flag: {name for name in NETWORKS if flag in NETWORKS[name][1].values()}
        for _, flags in NETWORKS.values()
        for flag in flags.values()
    }
    for flag, networks in sorted((of_networks | OWN).items()):
        if options.network not in networks and getattr(options, flag, None) is not None:
            raise RequestError(f"--{flag} is not a flag of --network {options.network}, but of {', '.join(networks)}")
    _check_budget(options)
    for name, value in {**PRESETS[options.network], **DATASET_PRESETS.get(options.dataset, {})}.items():
        if getattr(options, name, 0) is None:
            setattr(options, name, value)
    options.conv = None if options.module is not None else _conv(options.conv, options)


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


def width_flag(network: str, conv: str) -> str:
    """The flag by which a conv without a number meets a budget. RequestError where the network has none."""
    if network not in WIDTHS:
        raise RequestError(
            f"--conv {conv} has no number to find, and --network {network} no width that could vary instead"
        )
    return WIDTHS[network]
