"""The flags of main.py and of count.py, in groups. Imports no torch: --help answers at once.

training_parser().parse_args(["digits", "teacher", "-t", "demo.teacher"])
"""

from argparse import ArgumentTypeError
from functools import cache
from pathlib import Path

from cli.arguments import amount, choice, filename, gpus, milestones, number, pattern, source
from cli.command import Parser
from input.datasets import DATASETS
from input.folders import PREFIX, is_own
from layers.registry import FAMILIES, form
from models.registry import NETWORKS


def dataset(text: str) -> str:
    """A dataset's name, or folder:PATH."""
    if text == PREFIX:
        raise ArgumentTypeError(f"{text!r} names no folder: folder:PATH is one with train/<class>/ and test/<class>/")
    if is_own(text):
        return text
    if text not in DATASETS and "\0" not in text and len(text) < 4096 and Path(text).expanduser().is_dir():
        raise ArgumentTypeError(f"unknown dataset {text!r}; did you mean '{PREFIX}{text}'?")
    return choice("dataset", [*DATASETS, f"{PREFIX}PATH"])(text)


def add_network_flags(parser: Parser) -> None:
    shown = " | ".join([*DATASETS, f"{PREFIX}PATH, a folder with train/<class>/ and test/<class>/ of small images"])
    parser.add_argument("dataset", type=dataset, metavar="DATASET", help=shown)
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
        type=number(int, 1, 1024),
        metavar="PIXELS",
        help="rows and columns of an ImageNet image (preset: 224), or of those of a folder:PATH (preset: their own)",
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
        type=source,
        metavar="NAME",
        help="teacher mode: this run's name; student mode: who teaches, a run, torchvision:NAME[:WEIGHTS], timm:NAME or a "
        "file of weights (with a slash, or *.pth, *.pt, *.ckpt, *.safetensors …; FILE:KEY chooses in it); such a source with "
        "--evaluate in teacher mode too",
    )
    run.add_argument("-s", "--student_checkpoint", metavar="NAME", help="student mode: this run's name")
    run.add_argument(
        "--init_from",
        type=source,
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
    data.add_argument(
        "--data_dir", type=filename, metavar="FOLDER", help="where datasets lie (default: $DATA_DIR, else data)"
    )
    data.add_argument(
        "--imagenet_loc",
        type=filename,
        metavar="PLACE",
        help="a folder with train/<wnid>/ and val/<wnid>/, or shards: '/data/imagenet-{train,val}-{000..}.tar' (default: "
        "imagenet in --data_dir)",
    )
    data.add_argument(
        "--val_labels",
        type=filename,
        metavar="FILE",
        help="the labels of an imagenet val/ without class folders: lines of `name wnid` or `name,wnid` (LOC_val_solution.csv), or "
        "a number an image in the order of their names: from 0 in the order of the wnids, or the devkit's ground truth beside "
        "its meta.mat",
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
    data.add_argument(
        "--train_size",
        type=number(int, 1, 10**9),
        metavar="N",
        help="train on N of the other images, the same for every seed (default: all)",
    )
    data.add_argument("--augment", type=choice("augmentation", ["full", "crop", "none"]), default="full",
                      help="full: crop, flip and cutout; crop: without cutout; none")  # fmt: skip
    data.add_argument(
        "--cutout", type=number(int, 0, 64), metavar="PIXELS", help="side of the square cut out (preset: 16)"
    )
    loop = parser.add_argument_group("optimisation")
    loop.add_argument("--epochs", type=number(int, 1, 10**6), help="(preset: by network; digits 30)")
    loop.add_argument(
        "--test_every",
        type=number(int, 1, 10**6),
        metavar="EPOCHS",
        help="test after every so many epochs, and after the last (default: 1)",
    )
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


@cache
def counting_parser() -> Parser:
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
    return parser
