"""Resolve a command line: flags (cli/flags.py), presets, checks of what contradicts. Imports no torch.

    options = training(["digits", "teacher", "-t", "demo.teacher", "--wrn_depth", "16", "--wrn_width", "1"])
    options.epochs, options.batch_size                  # (30, 64), from the presets of digits

What the user gave always wins over a preset. A contradiction is one line on stderr and exit status 2.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from cli import layers, recipes
from cli.counting import counting_parser, run_counting_parser
from cli.flags import training_parser
from cli.request import Request
from cli.words import with_sizes
from gates import registry as gates
from input import datasets, facts
from input.datasets import DATASETS, LARGEST_SIDE, PREFIX, is_own
from input.splits import check_sizes
from layers.mixed import MixedName, parse_name, parse_open
from models.libraries import takes_flag
from models.registry import NETWORKS, flag_for_budget, owners, reference_conv
from record.paths import checkpoint_path
from sparsity import registry as sparsity
from system.configuration import Configuration
from system.errors import RequestError
from training import registry
from weights.sources import RUN_NAME, WEIGHTS_FILES, check_run_name, check_source, is_published

# The flags that --evaluate has no use for.
NOT_OF_TEST = (
    "dry_run", "resume", "init_from", "allocate", "autotune", "until", "latency", "reestimate_bn", "train_where",
    *(flag.dest for flag in (*sparsity.FLAGS, *gates.FLAGS)),
)  # fmt: skip


def training(arguments: Sequence[str] | None = None) -> Request:
    """Return the resolved options of one run, every field with its value. Raise RequestError where they contradict."""
    parser = training_parser()
    arguments = with_sizes(sys.argv[1:] if arguments is None else arguments)
    asked = layers.read(parser, arguments, [counting_parser()])
    if asked.options.evaluate:  # of a file, as that of the run itself, only what a test has a use for counts
        asked = asked.without_of_files(parser, [*NOT_OF_TEST, "fit_effort", "json"])
    given, defaults = asked.as_given(), layers.keys_of(parser)
    with asked.located():
        return Request(_trained(asked.options), asked, given, defaults)


def _trained(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of main.py, with presets in their places."""
    given = {name for name, value in vars(options).items() if value is not None}
    _check_names(options)
    _resolve_network(options)
    recipes.check_schedule_flags(options, given)
    _check_data_flags(options)
    _check_run_flags(options)
    recipes.resolve_optimizer(options, given)
    recipes.resolve_schedule(options, given)
    recipes.resolve_augmentation(options, given)
    sparsity.resolve(options)
    gates.resolve(options)
    _check_machine_flags(options)
    _resolve_defaults(options, given)
    registry.check(vars(options))
    return {**vars(options), **registry.unused_flags(vars(options))}


def counting(arguments: Sequence[str] | None = None) -> Configuration:
    """Return the resolved options of count.py: of a network, or of a `run`. Raise RequestError where they contradict."""
    arguments = with_sizes(sys.argv[1:] if arguments is None else arguments)
    if any(map(_is_run_there, arguments)) and not any(each in DATASETS or is_own(each) for each in arguments):
        of_run, of_network = run_counting_parser(), counting_parser()
        flags = [each for each in arguments if each.startswith("-") and of_network.knows(each)]
        if other := [each.partition("=")[0] for each in flags if not of_run.knows(each)]:
            raise RequestError(f"{other[0]} does not go with a run, whose network is counted as its checkpoint has it")
        return Configuration(vars(of_run.parse_args(arguments)))
    parser = counting_parser()
    asked = layers.read(parser, arguments, [training_parser()])
    given = asked.as_given()
    with asked.located():
        return Request(_counted(asked.options), asked, given, layers.keys_of(parser))


def _counted(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of count.py, with presets in their places."""
    if options.compare:
        for flag in ("conv", "module", "table"):
            if getattr(options, flag):
                raise RequestError(f"--{flag} does not go with --compare")
        options.compare = [_conv(text, options) for text in options.compare]
    sparsity.resolve_counting(options)
    gates.resolve_counting(options)
    _resolve_network(options)
    return vars(options)


def _is_run_there(text: str) -> bool:
    """Return whether a text is the name of a run with a checkpoint here, and not that of a dataset."""
    return text not in DATASETS and bool(RUN_NAME.fullmatch(text)) and checkpoint_path(text).exists()


def _conv(text: str, options: argparse.Namespace) -> str:
    """Return a conv's canonical name, or that of what is open where a budget is to find the number."""
    return str(parse_open(text) if options.budget or options.budget_mult_adds else parse_name(text))


def _check_names(options: argparse.Namespace) -> None:
    """Raise RequestError unless a run has a name, and a student a teacher too."""
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
        _check_student_name(options)


def _check_student_name(options: argparse.Namespace) -> None:
    if options.student_checkpoint is None:
        raise RequestError("student mode needs -s/--student_checkpoint, the name of this run")
    check_run_name(options.student_checkpoint, "-s")
    if options.student_checkpoint.lower() == options.teacher_checkpoint.lower():
        raise RequestError(f"-t and -s are both {options.student_checkpoint!r}: a student needs a name of its own")


def _resolve_network(options: argparse.Namespace) -> None:
    """Put presets into what was not given. Raise RequestError for flags that the network does not take."""
    if options.module is not None and options.conv is not None:
        raise RequestError(f"--conv {options.conv} and --module {options.module}: give one of them")
    _look_at_own_folder(options)
    _check_network_flags(options)
    if options.data_folder is None:
        _check_image_size(options, 64, 1024)
    _check_budget(options)
    of_dataset = DATASETS[options.dataset].presets if options.data_folder is None else {}
    for name, value in {**NETWORKS[options.network].presets_for(vars(options)), **of_dataset}.items():
        if getattr(options, name, 0) is None:
            setattr(options, name, value)
    options.conv = None if options.module is not None else _conv(options.conv, options)


def _look_at_own_folder(options: argparse.Namespace) -> None:
    """Put in what the folder of a folder:PATH tells: its name instead of its path, its classes, its images' side."""
    options.data_folder = options.data_resize = options.data_mean = None
    if not is_own(options.dataset):
        return
    from input.folders import look  # imports NumPy, which no other request needs here

    size = options.image_size
    _check_image_size(options, 1, LARGEST_SIDE)
    own = look(options.dataset.removeprefix(PREFIX), size, of_any_side=getattr(options, "evaluate", False))
    options.dataset, options.data_folder, options.data_resize = own.name, str(own.path), size is not None
    options.data_classes, options.data_names = len(own.names), facts.joined(own.names)
    options.image_size = own.side


def _check_network_flags(options: argparse.Namespace) -> None:
    """Raise RequestError where the network does not take the dataset, or a flag that was given."""
    sides = NETWORKS[options.network].sides
    if options.data_folder is None and (side := DATASETS[options.dataset].side) not in sides:
        fits = [name for name, dataset in DATASETS.items() if dataset.side in sides]
        raise RequestError(f"--network {options.network} takes {', '.join(fits)}, not {options.dataset}")
    if options.image_size is not None and options.data_folder is None and options.dataset != "imagenet":
        size = f"{options.dataset} has images of {side}×{side}"
        raise RequestError(f"--image_size {options.image_size}: {size}; it goes with imagenet and folder:PATH")
    for flag, networks in owners().items():
        if not takes_flag(options.network, networks) and getattr(options, flag, None) is not None:
            raise RequestError(f"--{flag} is not a flag of --network {options.network}, but of {', '.join(networks)}")


def _check_image_size(options: argparse.Namespace, smallest: int, largest: int) -> None:
    if (size := options.image_size) is not None and not smallest <= size <= largest:
        of = f"an image of {options.dataset.partition(':')[0]}"
        wanted = f"{str(size)!r} is not a whole number of at least {smallest} and at most {largest}"
        raise RequestError(f"argument --image_size: {wanted}, for {of}")


def _check_budget(options: argparse.Namespace) -> None:
    """Raise RequestError for two budgets, for one that nothing may vary to meet, or for --allocate without what it needs."""
    if getattr(options, "allocate", False):
        if options.budget_mult_adds is not None:
            raise RequestError(
                "--budget_mult_adds does not go with --allocate, which shares parameters: give --budget instead"
            )
        for flag in ("budget", "init_from"):
            if getattr(options, flag) is None:
                raise RequestError(f"--allocate shares a --budget by what --init_from knows: give --{flag} too")
    if options.budget is None and options.budget_mult_adds is None:
        return
    if options.budget is not None and options.budget_mult_adds is not None:
        raise RequestError("--budget and --budget_mult_adds: give one of them")
    if options.module is not None:
        raise RequestError("a budget finds the number of a --conv, or its network's width: --module has none")
    name = parse_open(options.conv or reference_conv(options.network))
    if getattr(options, "allocate", False):
        if not isinstance(name, MixedName) and name.number is None or isinstance(name, MixedName) and not name.numbers:
            raise RequestError(f"--conv {name} has no number that --allocate could find for each layer")
    elif not getattr(options, "compare", None) and name.number is None:
        flag_for_budget(options.network, str(name))


def _check_data_flags(options: argparse.Namespace) -> None:
    """Raise RequestError for a flag of another dataset."""
    if options.imagenet_loc is not None and options.dataset != "imagenet":
        raise RequestError(f"--imagenet_loc goes with imagenet, not {options.dataset}")
    if options.download and options.data_folder is not None:
        raise RequestError(f"--download fetches none of your own: it does not go with {options.dataset}")
    if options.val_labels is not None and options.dataset != "imagenet":
        raise RequestError(f"--val_labels goes with imagenet, not {options.dataset}")


def _check_run_flags(options: argparse.Namespace) -> None:
    """Raise RequestError for flags that contradict each other or the size of the dataset."""
    if options.json and not options.dry_run:
        raise RequestError("--json goes with --dry_run")
    if options.gate_skip and not options.evaluate:
        raise RequestError(
            "--gate_skip goes with --evaluate: training computes closed channels too, and sets them to 0"
        )
    for flag in NOT_OF_TEST if options.evaluate else ():
        if getattr(options, flag):
            raise RequestError(f"--evaluate only tests a trained network, --{flag} does not go with it")
    if options.until is not None and options.until > options.epochs:
        raise RequestError(f"--until {options.until}: at most the {options.epochs} epochs of the run are allowed")
    if options.fit_effort is not None and options.init_from is None:
        raise RequestError(f"--fit_effort {options.fit_effort:g} goes with --init_from: nothing else is fitted")
    if options.test_every == 0 and not options.evaluate:
        if not options.val_size:
            raise RequestError("--test_every 0 never tests: give --val_size too, for an error of images held out")
        if options.reestimate_bn:
            raise RequestError(f"--reestimate_bn {options.reestimate_bn} tests, but --test_every 0 never does")
    if options.nocrswd and options.crs_factor is not None:
        raise RequestError(f"--crs_factor {options.crs_factor:g} contradicts --nocrswd")
    if images := datasets.of(vars(options)).train_images:  # those of a folder are counted when it is read
        check_sizes(images, options.val_size, options.train_size, options.dataset)


def _check_machine_flags(options: argparse.Namespace) -> None:
    if options.device == "cpu" and options.GPU is not None:
        raise RequestError(f"--GPU {','.join(map(str, options.GPU))} contradicts --device cpu")
    if options.checkpoint_activations and options.compile:
        raise RequestError("--checkpoint_activations does not go with --compile, which decides itself what it keeps")


def _resolve_defaults(options: argparse.Namespace, given: set[str]) -> None:
    """Record a flag at its neutral value as if it had not been given, so that runs that are the same compare equal."""
    if options.grad_accum == 1:
        options.grad_accum = None
    if options.test_every == 1:
        options.test_every = None
    if options.until == options.epochs:
        options.until = None
    if options.reestimate_bn == 0:
        options.reestimate_bn = None
    if options.structured_lr is None:
        options.structured_lr = recipes.structured_lr_of(options.conv, options.optimizer)
    elif options.structured_lr == 1:
        options.structured_lr = None
    if options.train_where == "":
        options.train_where = None
    if options.fit_effort == 1:
        options.fit_effort = None
    if options.evaluate and "image_size" not in given and options.data_folder is None:
        options.image_size = None  # the trained network's own
    if options.crs_factor is None:
        options.crs_factor = 1.0
