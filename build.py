"""From a resolved configuration to a network.

    config = {"dataset": "cifar10", "network": "WideResNet", "wrn_depth": 28, "wrn_width": 10.0, "AT_split": 1,
              "conv": "SepHashed_0.1", "module": None, "where": "", "seed": 0}
    network = build(config)                      # on the meta device: no memory, no time
    network = blocks.materialise(network, 0)     # memory and initial weights

The configuration is what a checkpoint keeps, so a teacher is rebuilt from it the same way.
"""

import torch
from torch import nn

import blocks
import models
from datasets import DATASETS
from names import parse_conv


def build(config: dict) -> nn.Module:
    """The network with its swaps, on the meta device. RequestError where a layer cannot take them."""
    conv = blocks.UserConv(config["module"]) if config["module"] else parse_conv(config["conv"])
    with torch.device("meta"):
        network = models.build(config, DATASETS[config["dataset"]].classes)
        blocks.substitute(network, conv, config["where"], config["seed"])
    return network


def reference(config: dict) -> nn.Module:
    """The same network with nothing swapped, on the meta device: what the compression ratio divides by."""
    with torch.device("meta"):
        return models.build(config, DATASETS[config["dataset"]].classes)
