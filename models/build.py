"""From a resolved configuration to a network.

    config = {"dataset": "cifar10", "network": "WideResNet", "wrn_depth": 28, "wrn_width": 10.0, "AT_split": 1,
              "conv": "SepHashed_0.1", "module": None, "where": "", "seed": 0}
    network = build(config)                      # on the meta device: no memory, no time
    network = materialise(network, 0)     # memory and initial weights

The configuration is what a checkpoint keeps, so a teacher is rebuilt from it the same way.
"""

from functools import cache
from importlib import import_module

import torch
from torch import nn

import blocks
from input import datasets
from layers.registry import parse_conv
from layers.user import UserConv
from models.registry import NETWORKS


def build(config: dict) -> nn.Module:
    """The network with its swaps, on the meta device. RequestError where a layer cannot take them."""
    conv = UserConv(config["module"]) if config["module"] else parse_conv(config["conv"])
    with torch.device("meta"):
        network = plain(config, datasets.of(config).classes)
        blocks.substitute(network, conv, config["where"], config["seed"])
    return network


def reference(config: dict) -> nn.Module:
    """The same network with nothing swapped, on the meta device: what the compression ratio divides by."""
    with torch.device("meta"):
        return plain(config, datasets.of(config).classes)


def reference_parameters(config: dict) -> int:
    """How many parameters it has; counted once for each network and size, as comparisons ask often."""
    return _reference_parameters(size_of(config), datasets.of(config).classes)


@cache
def _reference_parameters(size: tuple[tuple[str, object], ...], classes: int) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in plain(dict(size), classes).parameters())


def size_of(config: dict) -> tuple[tuple[str, object], ...]:
    """The network of a configuration and the flags of its size."""
    return tuple((flag, config[flag]) for flag in ("network", *NETWORKS[config["network"]][1].values()))


def plain(config: dict, classes: int):
    """The network that a resolved configuration names, on torch's current default device."""
    target, flags = NETWORKS[config["network"]]
    module, name = target.split(":")
    arguments = {argument: config[flag] for argument, flag in flags.items()}
    return getattr(import_module(module), name)(classes=classes, **arguments)
