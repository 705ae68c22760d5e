"""From a resolved configuration to a network.

    config = {"dataset": "cifar10", "network": "WideResNet", "wrn_depth": 28, "wrn_width": 10.0, "AT_split": 1,
              "conv": "SepHashed_0.1", "module": None, "where": "", "seed": 0}
    network = build(config)                      # on the meta device: no memory, no time
    network = materialise(network, 0)            # memory and initial weights (layers/init.py)

A checkpoint keeps its configuration, so a teacher is rebuilt from it in the same way.
"""

from contextlib import nullcontext
from pkgutil import resolve_name

import torch
from torch import nn

import blocks
from input import datasets
from layers.init import undrawn
from layers.mixed import parse_name, reaches_classifiers
from layers.user import UserConv
from models.dense import add_biases
from models.registry import NETWORKS
from models.widths import narrow

FORM = ("widths", "biased")  # of a configuration: in what its network differs from the one that its flags name
CHANGES = {"gate": "gates.attach:attach"}  # by keys of a configuration: (network, config) changes the network in place


def build(config: dict) -> nn.Module:
    """Return the network with its swaps and what else changes it, on the meta device. Raise RequestError where it cannot take them."""
    network = swapped(config)
    for key, target in CHANGES.items():
        if config.get(key) is not None:
            resolve_name(target)(network, config)
    return network


def swapped(config: dict) -> nn.Module:
    """Return the network with its swaps alone, on the meta device. Raise RequestError where a layer cannot take them."""
    conv = UserConv(config["module"]) if config["module"] else parse_name(config["conv"])
    with torch.device("meta"):
        network = plain(config, datasets.of(config).classes)
        blocks.substitute(network, conv, config["where"], config["seed"], reaches_classifiers(config))
    return network


def reference(config: dict) -> nn.Module:
    """Return the same network with nothing swapped, on the meta device. The compression ratio refers to it."""
    with torch.device("meta"):
        return plain(config, datasets.of(config).classes)


def size_of(config: dict) -> tuple[tuple[str, object], ...]:
    """Return the entries of a configuration from which `plain` builds its network."""
    form = ((key, config[key]) for key in FORM if config.get(key))
    return (*NETWORKS[config["network"]].key(config), *form)


def plain(config: dict, classes: int) -> nn.Module:
    """Return the network that a configuration names, with nothing swapped, on torch's current default device.

    A shrunk one has the `widths` of its configuration; layers that stand for dense kernels with biases, its `biased`, have
    biases. Raise RequestError where its size cannot be.
    """
    entry = NETWORKS[config["network"]]
    with undrawn() if torch.get_default_device().type == "meta" else nullcontext():
        network = resolve_name(entry.target)(classes=classes, **entry.arguments(config))
    if config.get("widths"):
        narrow(network, config["widths"])
    if config.get("biased"):
        add_biases(network, config["biased"])
    return network
