"""The callbacks and losses by name: their classes and the flags that choose them. Imports no torch.

    register_callback(Entry("mine", "training.mine:Mine", (Flag("--mine", number(float, 0, 1)),)))
    callbacks(config)                            # [ClipGradient(5.0), Mine(mine=0.5)]
    criterion(config, teacher.network)           # Distill(teacher, temperature, alpha, beta)

A flag of an entry is one of the command line and part of the run's configuration. It is off, None, where it is not
given or its entry is not chosen. Classes are imported when they are built.
"""

import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from distributed import launch
from system.arguments import Flag, number
from system.errors import RequestError
from system.user_code import check_form

Config = Mapping[str, Any]
GATES_ALONE = "^$"  # as --train_where: no parameter has such a name, and gates always train


@dataclass(frozen=True)
class Entry:
    """One callback or loss.

    target:         "module:Class".
    flags:          its own flags.
    choose:         function(config) that says whether a run has it; default: any of its flags is set.
    give:           function(config) that returns the keyword arguments of the class; default: its flags by their names.
    refuse:         function(config, network) that raises RequestError where a run does not have it but its network needs it.
    needs_teacher:  of a loss, whether its class takes the teacher's network too, as `teacher`.
    is_early:       of a callback, whether it runs before all that are not: it decides which gradients there are.
    """

    name: str
    target: str
    flags: tuple[Flag, ...] = ()
    choose: Callable[[Config], bool] | None = None
    give: Callable[[Config], dict[str, Any]] | None = None
    refuse: Callable[[Config, Any], None] | None = None
    needs_teacher: bool = False
    is_early: bool = False

    def is_chosen(self, config: Config) -> bool:
        """Return whether a run has it. A flag is set if its value is neither off (None, False, 0) nor its default."""
        if self.choose is not None:
            return self.choose(config)
        values = ((config.get(flag.dest), flag.default) for flag in self.flags)
        return any(bool(value) and value != default for value, default in values)

    def arguments(self, config: Config) -> dict[str, Any]:
        """Return the keyword arguments of its class, but for `teacher`."""
        if self.give is not None:
            return self.give(config)
        return {flag.dest: config.get(flag.dest) for flag in self.flags}


CALLBACKS: dict[str, Entry] = {}
LOSSES: dict[str, Entry] = {}


def register_callback(entry: Entry) -> None:
    """Add a callback; callbacks run in the order of registration, early ones first. Raise ValueError where a name or flag is taken."""
    _register(CALLBACKS, entry)


def register_loss(entry: Entry) -> None:
    """Add a loss; a run has the last one that it chooses. Raise ValueError where a name or flag is taken."""
    _register(LOSSES, entry)


def _register(registry: dict[str, Entry], entry: Entry) -> None:
    if entry.name in registry:
        raise ValueError(f"there is a {entry.name!r} already")
    declared = {flag.dest for each in entries() for flag in each.flags}
    if taken := [flag.name for flag in entry.flags if flag.dest in declared]:
        raise ValueError(f"{entry.name!r} declares flags of another entry: {taken}")
    registry[entry.name] = entry


def entries() -> tuple[Entry, ...]:
    """Return all callbacks, then all losses."""
    return (*CALLBACKS.values(), *LOSSES.values())


def callbacks(config: Config) -> list:
    """Return the callbacks that a configuration chooses, built: early ones, then the others, each in the order of registration."""
    chosen = [entry for entry in CALLBACKS.values() if entry.is_chosen(config)]
    chosen.sort(key=lambda entry: not entry.is_early)
    return [resolve_name(entry.target)(**entry.arguments(config)) for entry in chosen]


def criterion(config: Config, teacher: Any = None) -> Any:
    """Return the loss that a configuration chooses, built. `teacher` is the teacher's network; a student has one."""
    if config.get("loss"):
        return resolve_name("training.own_loss:criterion")(config, teacher)
    entry = loss_of(config)
    taught = {"teacher": teacher} if entry.needs_teacher else {}
    return resolve_name(entry.target)(**taught, **entry.arguments(config))


def loss_of(config: Config) -> Entry:
    """Return the entry of the loss that a configuration chooses: the last one registered of those chosen."""
    return [entry for entry in LOSSES.values() if entry.is_chosen(config)][-1]


def unused_flags(config: Config) -> dict[str, None]:
    """Return None for each flag that has a default, of callbacks and losses that are not chosen."""
    unused = (flag for entry in entries() if not entry.is_chosen(config) for flag in entry.flags)
    return {flag.dest: None for flag in unused if flag.default is not None}


def teaching_flags() -> tuple[Flag, ...]:
    """Return the flags of the losses that need a teacher."""
    return tuple(flag for entry in LOSSES.values() if entry.needs_teacher for flag in entry.flags)


def check(config: Config) -> None:
    """Raise RequestError where a run without a teacher chooses a loss that needs one or sets a flag of it, or the other way round."""
    entry = loss_of(config)
    flags = ", ".join(flag.name for flag in entry.flags)
    if entry.needs_teacher and config["mode"] != "student":
        raise RequestError(f"{flags}: the loss {entry.name!r} needs a teacher, so it goes with student mode")
    for flag in teaching_flags() if config["mode"] != "student" else ():
        if (value := config.get(flag.dest)) is not None and value != flag.default:
            given = flag.name if value is True else f"{flag.name} {value}"
            raise RequestError(f"{given} says how a teacher teaches, so it goes with student mode")
    if config.get("cache_teacher") and config["mode"] == "student":
        _check_cache(config, entry)
    if not entry.needs_teacher and config["mode"] == "student":
        raise RequestError(f"{flags}: the loss {entry.name!r} has no use for a teacher, so it goes with teacher mode")


def check_network(config: Config, network: Any) -> None:
    """Raise RequestError where a network, which may be on the meta device, needs what the run has not chosen."""
    for entry in entries():
        if entry.refuse is not None and not entry.is_chosen(config):
            entry.refuse(config, network)


def _check_cache(config: Config, entry: Entry) -> None:
    """Raise RequestError where what the teacher says of an image is not the same in every epoch, or not asked for."""
    if CACHE_TEACHER not in entry.flags:
        raise RequestError(f"--cache_teacher is not for the loss {entry.name!r}, but for 'distill'")
    if config["augment"] != "none":
        why = f"with --augment {config['augment']} the teacher sees other pixels of an image in every epoch"
        raise RequestError(f"--cache_teacher goes with --augment none: {why}")
    if not (config["alpha"] or config["beta"]):
        raise RequestError("--cache_teacher: with --alpha 0 --beta 0 the student learns nothing from the teacher")
    if launch.world_size() > 1 or len(config["GPU"] or ()) > 1:
        raise RequestError("--cache_teacher goes with one process: several would each need all of the cache")


def own_class(text: str) -> str:
    """Take FILE.py:CLASS."""
    try:
        return os.path.expanduser(check_form("loss", text))
    except RequestError as error:
        raise ArgumentTypeError(str(error))


LOSS = Flag(
    "--loss",
    own_class,
    "a class of your own, called with logits and labels in place of cross-entropy, or a distill.Criterion",
    metavar="FILE.py:CLASS",
)
CACHE_TEACHER = Flag(
    "--cache_teacher",
    help="compute what the teacher says of each training image once and keep it in memory (with --augment none)",
    action="store_true",
    default=False,
)
register_callback(
    Entry(  # first: it sets the network before anything else sees the step
        "drop_path",
        "training.callbacks:DropPath",
        (Flag("--drop_path_prob", number(float, 0, 0.99), "of DARTS, reached linearly by epoch (preset: 0.2)"),),
        give=lambda config: {"probability": config["drop_path_prob"]},
    )
)
register_callback(
    Entry(
        "clip_gradient",
        "training.callbacks:ClipGradient",
        (
            Flag(
                "--clip_grad",
                number(float, 0, 1e30, above=True),
                "clip the gradient's norm (preset: 5 for DARTS, 1 with --gate FBS_d)",
                metavar="NORM",
            ),
        ),
        give=lambda config: {"norm": config["clip_grad"]},
    )
)
register_loss(Entry("supervised", "distill:Supervised", (LOSS,), choose=lambda config: True, give=lambda config: {}))
register_loss(
    Entry(
        "distill",
        "distill:Distill",
        (
            Flag("--temperature", number(float, 0, 1e6, above=True), "of knowledge distillation", default=4.0),
            Flag("--alpha", number(float, 0, 1), "weight of knowledge distillation against cross-entropy", default=0.0),
            Flag("--beta", number(float, 0, 1e30), "weight of attention transfer", default=1000.0),
            CACHE_TEACHER,
        ),
        choose=lambda config: config["mode"] == "student",
        give=lambda config: {name: config[name] for name in ("temperature", "alpha", "beta")},
        needs_teacher=True,
    )
)
