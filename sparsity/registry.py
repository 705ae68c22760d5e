"""The ways to prune by name, as `TopK_0.05`, and the flags of sparsity. Imports no torch.

    >>> str(parse_prune("Gradual_.050"))
    'Gradual_0.05'

A run that prunes, that shrinks its weights by --l1 or whose conv is variational has the callbacks that are registered here:
they do so, and count what is left of its parameters.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from layers import mixed
from layers.registry import FAMILIES
from system import grammar
from system.arguments import Flag, canonical, number, pattern
from system.errors import RequestError
from system.grammar import Amount, Fraction, MethodName
from training.registry import Entry, register_callback

METHODS = {"Magnitude": Amount("t"), "TopK": Fraction(), "Gradual": Fraction()}


def parse_prune(text: str) -> MethodName:
    """Return the method and its number, the threshold t or the share s of the weights that stay. Raise RequestError where the name is wrong."""
    return grammar.parse_method(text, METHODS, "prune")


PRUNE = Flag(
    "--prune", canonical(parse_prune), metavar="NAME",
    help="Magnitude_t: weights |w| <= t become 0 for good; TopK_s: all but the largest share s of them; Gradual_s: "
    "the same little by little",
)  # fmt: skip
PRUNE_WHERE = Flag(
    "--prune_where", pattern, metavar="REGEX",
    help="only layers in whose dotted name it is found (default: all convolutions and Linear layers)",
)  # fmt: skip
PRUNING = (
    PRUNE,
    Flag("--prune_at", number(int, 0, 10**6), metavar="EPOCH", help="after so many epochs (default: a third of them)"),
    Flag(
        "--prune_until", number(int, 0, 10**6), metavar="EPOCH",
        help="where Gradual has reached its share (default: two thirds of the epochs)",
    ),
    PRUNE_WHERE,
)  # fmt: skip
L1 = Flag(
    "--l1", number(float, 0, 1e6), metavar="WEIGHT",
    help="of the L1 norm of the weights: after each step they come nearer to 0 by the learning rate times this",
)  # fmt: skip
KL = (
    Flag(
        "--kl_weight", number(float, 0, 1e6), metavar="WEIGHT",
        help="of the KL divergence of SparseVD and GroupVD, over the number of training images (default: 1)",
    ),
    Flag(
        "--kl_warmup", number(float, 0, 10**6), metavar="EPOCHS",
        help="over which that weight rises from 0, step by step (default: a fifth of the epochs)",
    ),
)  # fmt: skip
FLAGS = (*PRUNING, L1, *KL)


def resolve(options: argparse.Namespace) -> None:
    """Set when a run prunes, and how it weighs a divergence. Raise RequestError for flags that contradict each other."""
    if options.l1 == 0:
        options.l1 = None
    _resolve_kl(options)
    if options.prune is None:
        for flag in ("prune_at", "prune_until", "prune_where"):
            if getattr(options, flag) is not None and not (flag == "prune_where" and options.l1):
                raise RequestError(f"--{flag} {getattr(options, flag)} goes with --prune")
        return
    if options.prune_at is None:
        options.prune_at = _third(options.epochs)
    if parse_prune(options.prune).method != "Gradual":
        if options.prune_until is not None:
            raise RequestError(f"--prune_until {options.prune_until} goes with --prune Gradual_s, not {options.prune}")
    elif options.prune_until is None:
        options.prune_until = _two_thirds(options.epochs, options.prune_at)
    for flag, least in (("prune_at", 0), ("prune_until", options.prune_at)):
        if (epoch := getattr(options, flag)) is not None and not least <= epoch <= options.epochs:
            raise RequestError(
                f"--{flag} {epoch}: at least {least} and at most the {options.epochs} epochs are allowed"
            )


def resolve_counting(options: argparse.Namespace) -> None:
    """Raise RequestError where count.py is asked for what only a training tells, or for layers of no pruning."""
    if options.prune is None and options.prune_where is not None:
        raise RequestError(f"--prune_where {options.prune_where} goes with --prune")
    if options.prune and parse_prune(options.prune).method == "Magnitude":
        known = "TopK_s and Gradual_s say beforehand how many weights stay"
        raise RequestError(f"--prune {options.prune}: only a training shows what is above a threshold; {known}")


def _third(epochs: int) -> int:
    """Return after how many epochs a run prunes where it does not say: a third of them, and never before any training."""
    return max(1, epochs // 3)


def _two_thirds(epochs: int, begin: int | None) -> int:
    """Return after how many epochs Gradual has reached its share where a run does not say."""
    return max(begin or 0, 2 * epochs // 3)


def ways(config: Mapping[str, Any]) -> dict[str, str]:
    """Return how a run makes weights 0, by the name of the way: `{"TopK": "TopK_0.05", "L1": "L1 1e-05"}`; {} where it does not.

    That its network was shrunk is one, beside the conv that the network had before if it has another now.
    """
    found = {parse_prune(config["prune"]).method: config["prune"]} if config.get("prune") else {}
    found |= {"L1": f"L1 {config['l1']}"} if config.get("l1") else {}
    if config.get("shrunk_from"):
        found |= {config["shrunk_conv"]: config["shrunk_conv"]} if config.get("shrunk_conv") else {}
        found["shrunk"] = "shrunk"
    return found


def unsaid(config: Mapping[str, Any]) -> set[str]:
    """Return the keys of the flags of sparsity that `ways` says, or that are as without the flag."""
    epochs = config.get("epochs") or 0
    usual = {"prune_at": (None, _third(epochs)), "prune_where": (None,)}
    usual["prune_until"] = (None, _two_thirds(epochs, config.get("prune_at")))
    usual |= {"kl_weight": (None, 1), "kl_warmup": (None, epochs / 5)}
    return {"prune", "l1", *(flag for flag, values in usual.items() if config.get(flag) in values)}


def numbers(config: Mapping[str, Any]) -> set[str]:
    """Return the keys in which runs that become sparse in one way differ by a number alone.

    Under a threshold it is the weight decay that decides how many weights stay, of a variational conv the weight of its divergence.
    """
    return {"prune", "l1", "kl_weight"} | ({"weight_decay"} if "Magnitude" in ways(config) else set())


def _resolve_kl(options: argparse.Namespace) -> None:
    """Set the weight of the divergence of a variational conv, None where there is none. A user's module may be one."""
    is_variational = options.conv is not None and mixed.is_variational(options.conv)
    if not is_variational and (options.module is None or options.kl_weight is None):
        for flag in ("kl_weight", "kl_warmup"):
            if (value := getattr(options, flag)) is not None:
                known = " and ".join(name for name, family in FAMILIES.items() if family.variational)
                wants = "--kl_weight" if options.module else f"a variational --conv ({known}), not {options.conv}"
                raise RequestError(f"--{flag} {value:g} goes with {wants}")
        return
    check_unpruned(vars(options), options.conv or "a variational --module")
    if options.kl_weight is None:
        options.kl_weight = 1.0
    if options.kl_warmup is None:
        options.kl_warmup = options.epochs / 5
    if options.kl_warmup > options.epochs:
        raise RequestError(f"--kl_warmup {options.kl_warmup:g}: at most the {options.epochs} epochs are allowed")


def check_unpruned(config: Mapping[str, Any], conv: str) -> None:
    """Raise RequestError where a network with a variational conv would be pruned too."""
    for flag in ("prune", "l1"):
        if config.get(flag) is not None:
            why = f"does not go with {conv}, whose training decides which weights are 0"
            raise RequestError(f"--{flag} {config[flag]} {why}")


def _refuse_unweighed(config: Mapping[str, Any], network: Any) -> None:
    """Raise RequestError where a user's layers are variational and nothing says how their divergence is weighed."""
    if not config["module"]:
        return
    from sparsity.kl import variational_layers  # imports torch

    if variational_layers(network):
        weights = "give --kl_weight (1 as for SparseVD and GroupVD, 0 to train without their KL divergence)"
        raise RequestError(f"--module {config['module']} has variational layers: {weights}")


def _pruning(config: Mapping[str, Any]) -> dict[str, Any]:
    begin, epochs = config["prune_at"], config["epochs"]
    end = begin if config["prune_until"] is None else config["prune_until"]
    name = parse_prune(config["prune"])
    return {"name": name, "where": config["prune_where"] or "", "begin": begin / epochs, "end": end / epochs}


register_callback(
    Entry(  # early: what is clipped is the gradient of the weights that stay
        "prune", "sparsity.prune:Prune", PRUNING, choose=lambda config: config.get("prune") is not None, give=_pruning,
        is_early=True,
    )
)  # fmt: skip
register_callback(
    Entry(
        "l1", "sparsity.l1:ProximalL1", (L1,),
        give=lambda config: {"weight": config["l1"], "where": config["prune_where"] or ""},
    )
)  # fmt: skip
register_callback(
    Entry(
        "kl", "sparsity.kl:KLWeight", KL,
        choose=lambda config: config.get("kl_weight") is not None,
        give=lambda config: {"weight": config["kl_weight"], "warmup": config["kl_warmup"] / config["epochs"]},
        refuse=_refuse_unweighed,
    )
)  # fmt: skip
register_callback(
    Entry(
        "density", "sparsity.density:Density",
        choose=lambda config: bool(config.get("prune") or config.get("l1") or config.get("kl_weight") is not None),
        give=lambda config: {
            "where": config["prune_where"] or "", "near_zero": bool(config["l1"]) and not config["prune"], "config": config,
        },
    )
)  # fmt: skip
