"""The ways to gate by name, as `FBS_0.5`, and the flags of gating. Imports no torch.

    >>> str(parse_gate("Naive_.50"))
    'Naive_0.5'

A gated network is built by models/build.py, which has `gates.attach` change it; a run of it has the callback that is registered here.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from system import grammar
from system.arguments import Flag, canonical, number, pattern
from system.errors import RequestError
from system.grammar import Fraction, MethodName
from training.registry import Entry, register_callback

METHODS = {"Naive": Fraction("d"), "FBS": Fraction("d")}
WEIGHTS = {"Naive": 0.01, "FBS": 1e-8}  # of their losses, where --gate_weight is not given
# Gains of FBS multiply: a gate's s grows with the scale of an image, and so does what it scales. In a new network of eight layers
# a bright image is scaled by 10⁴, and without this the loss is not finite after three steps (research-log.md).
CLIP = 1.0  # the norm of the gradient with FBS, where --clip_grad is not given


def parse_gate(text: str) -> MethodName:
    """Return the method and its density d, the share of the channels that are open. Raise RequestError where the name is wrong."""
    return grammar.parse_method(text, METHODS, "gate")


GATE = Flag(
    "--gate", canonical(parse_gate), metavar="NAME",
    help="Naive_d: of each image only the share d of a convolution's channels whose maximum is predicted largest is computed; "
    "FBS_d: the most salient, by feature boosting and suppression",
)  # fmt: skip
GATE_WHERE = Flag(
    "--gate_where", pattern, metavar="REGEX",
    help="only convolutions in whose dotted name it is found (default: all with batch-norm or ReLU behind them)",
)  # fmt: skip
FLAGS = (
    GATE,
    GATE_WHERE,
    Flag(
        "--gate_weight", number(float, 0, 1e6), metavar="WEIGHT",
        help="of the gates' loss (default: 0.01 of Naive, 1e-8 of FBS)",
    ),
    Flag(
        "--gate_warmup", number(float, 0, 10**6), metavar="EPOCHS",
        help="over which the density falls linearly from 1 to d, step by step (default: of FBS half of the epochs, else 0)",
    ),
)  # fmt: skip


def resolve(options: argparse.Namespace) -> None:
    """Set the weight of the gates' loss, the warm-up, and with FBS how gradients are clipped. Raise RequestError for a flag that goes with --gate alone."""
    options.gate_where = options.gate_where or None
    if options.gate is None:
        check_alone(options)
        return
    method = parse_gate(options.gate).method
    if options.gate_weight is None:
        options.gate_weight = WEIGHTS[method]
    if options.clip_grad is None and method == "FBS":
        options.clip_grad = CLIP
    if options.gate_warmup is not None and options.gate_warmup > options.epochs:
        raise RequestError(f"--gate_warmup {options.gate_warmup:g}: at most the {options.epochs} epochs are allowed")
    if options.gate_warmup is None:
        options.gate_warmup = _usual_warmup(method, options.epochs)


def _usual_warmup(method: str | None, epochs: int) -> float:
    """Return the epochs of warm-up where --gate_warmup is not given: half of them with FBS, which hardly trains without."""
    return epochs / 2 if method == "FBS" else 0.0


def resolve_counting(options: argparse.Namespace) -> None:
    """Do what `resolve` does for count.py, which trains nothing."""
    if options.gate is None:
        check_alone(options)
    else:
        options.gate_weight = WEIGHTS[parse_gate(options.gate).method]


def check_alone(options: argparse.Namespace) -> None:
    """Raise RequestError for a flag of gates where there is no --gate."""
    for flag in ("gate_where", "gate_weight", "gate_warmup"):
        if (value := getattr(options, flag, None)) is not None:
            raise RequestError(f"--{flag} {value} goes with --gate")


def ways(config: Mapping[str, Any]) -> dict[str, str]:
    """Return how the channels of a run are chosen, by the name of the way: `{"FBS": "FBS_0.5"}`; {} where all are computed."""
    return {parse_gate(config["gate"]).method: config["gate"]} if config.get("gate") else {}


def unsaid(config: Mapping[str, Any]) -> set[str]:
    """Return the keys of the flags of gates that `ways` says, or that are as without the flag."""
    method = next(iter(ways(config)), None)
    usual = {"gate_where": None, "gate_weight": WEIGHTS.get(method)}
    usual["gate_warmup"] = _usual_warmup(method, config.get("epochs") or 0)
    usual |= {"clip_grad": CLIP} if method == "FBS" else {}
    return {"gate", *(flag for flag, value in usual.items() if config.get(flag) in (None, value))}


def numbers() -> set[str]:
    """Return the keys in which runs that are gated in one way differ by a number alone: the density."""
    return {"gate"}


def _warm_up(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"density": parse_gate(config["gate"]).number, "warmup": config["gate_warmup"] / config["epochs"]}


register_callback(
    Entry("gate", "gates.density:Density", FLAGS, choose=lambda config: config.get("gate") is not None, give=_warm_up)
)
