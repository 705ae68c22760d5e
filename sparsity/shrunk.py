"""A trained network without its dead filters: smaller, dense, with the same outputs.

    found = shrink(network, config)
    found.network, found.config["widths"], found.removed, found.stay

Rounds of: which channels are one (channels.py), which are constants (constants.py), which can go (removal.py), until none can.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Generator, nn

from blocks import build_block
from input import datasets
from input.datasets import side_of
from layers.init import materialise
from layers.mixed import MixedName, parse_name
from layers.registry import ConvName, parse_conv
from layers.spec import ConvSpec
from models.build import FORM, build, plain
from models.widths import text
from sparsity.channels import Graph, graph_of
from sparsity.constants import constants_of
from sparsity.cut import cut, is_empty_filter, load, widths_of
from sparsity.removal import Constants, plan_of
from sparsity.twin import Twin, is_separable_pair, is_whole, twin_of
from system.errors import RequestError

TOLERANCE = 1e-5  # of the outputs, of the largest where that is above 1
IMAGES = 4
SUM = "of a channel that other layers write too, as in a sum"


@dataclass
class Shrunk:
    """What became of a network.

    network: the small one, on the CPU; config: that builds it; removed: how many filters are gone of each layer; stay:
    how many dead channels stay, by the reason; difference: the largest between its outputs and the trained network's, on
    random images.
    """

    network: nn.Module
    config: dict
    removed: dict[str, int]
    stay: Counter
    difference: float


@torch.no_grad()
def shrink(network: nn.Module, config: Mapping, dead: float | None = None) -> Shrunk:
    """Return what is left of a trained network of a configuration without dead filters; it is as it was where none can go.

    Args: dead: filters whose largest |w| is below it are set to 0 before. Raise RequestError where the network cannot be followed.
    """
    side, twin = side_of(config), twin_of(network)
    trained = copy.deepcopy(twin.network)
    if dead is not None:
        silence(twin.network, graph_of(twin.network, side, twin.whole), dead)
    silenced = trained if dead is None else copy.deepcopy(twin.network)
    removed, stay = reduce(twin, side)
    if not removed:
        return Shrunk(network, dict(config), {}, stay, 0.0)
    with torch.device("meta"):
        reference = plain({**config, **dict.fromkeys(FORM)}, datasets.of(config).classes)
    conv = dense_conv(config["conv"])
    before = config.get("shrunk_conv") or (config["conv"] if conv != config["conv"] else None)
    narrow = {**config, "conv": conv, "shrunk_conv": before, "widths": text(widths_of(twin.network, reference))}
    small = materialise(build(narrow), config["seed"])
    load(small, twin.network, network)
    difference = _checked(silenced, small, side)
    if dead is not None:
        difference, _ = _difference(trained, small, side)
    return Shrunk(small.eval(), narrow, dict(removed), stay, difference)


@torch.no_grad()
def reduce(twin: Twin, side: int) -> tuple[Counter, Counter]:
    """Remove, in place, the channels of a twin that can go, for images of `side` rows and columns.

    Return how many filters are gone of each layer, and how many dead ones stay, by the reason.
    """
    removed = Counter()
    while True:
        graph = graph_of(twin.network, side, twin.whole)
        constants = constants_of(twin.network, side)
        plan = plan_of(graph, constants, twin.network)
        if not plan.removed:
            return removed, +(plan.stay + Counter({SUM: _in_sums(twin.network, graph, constants)}))
        plan.apply(twin.network, graph.normalised_by)
        cut(twin.network, plan.removed)
        removed.update(name for channel in plan.removed for name, _ in channel.writers)


def silence(network: nn.Module, graph: Graph, dead: float) -> None:
    """Set to 0 the weights of filters whose largest |w| is below `dead`; not of those that give the network's outputs."""
    for channel in graph.channels:
        if channel.barrier or not channel.readers:
            continue
        for name, number in (*channel.writers, *channel.passed):
            module = network.get_submodule(name)
            if not isinstance(module, nn.BatchNorm2d) and module.weight[number].abs().max() < dead:
                module.weight[number] = 0.0


def _in_sums(network: nn.Module, graph: Graph, constants: Constants) -> int:
    """Return how many filters without weights write a channel that images still change, beside other filters."""
    count, empty = 0, {}
    for channel in graph.channels:
        if len(channel.writers) < 2 or channel.barrier or not channel.readers:
            continue
        if all(number in constants[name] for name, number in channel.readers if name in constants):
            continue
        for name, number in channel.writers:
            if name not in empty:
                empty[name] = is_empty_filter(network.get_submodule(name)).tolist()
            count += empty[name][number]
    return count


def dense_conv(conv: str) -> str:
    """Return a conv's name with `Conv` for each family that tests as an ordinary convolution, as variational ones do."""
    name = parse_name(conv)
    if isinstance(name, MixedName):
        return str(MixedName(tuple((regex, _dense(each)) for regex, each in name.parts)))
    return str(_dense(name))


def _dense(name: ConvName) -> ConvName:
    module, cls = name.target.split(":")
    if not hasattr(getattr(import_module(module), cls), "structured_parameters"):
        return name
    try:
        with torch.device("meta"):
            block = build_block(name, ConvSpec(64, 64, 3))
    except ValueError:  # a share that such a layer cannot have: only a structure has one
        return name
    return name if is_whole(block) or is_separable_pair(block) else parse_conv("Conv")


def _checked(silenced: nn.Module, small: nn.Module, side: int) -> float:
    """Return the largest difference of outputs on random images. Raise RequestError where that is above the tolerance.

    Then the network does something between its layers that nothing here knows of.
    """
    largest, size = _difference(silenced, small, side)
    if not largest <= TOLERANCE * max(1.0, size):
        raise RequestError(
            f"this network cannot be shrunk: without its dead filters its outputs would differ by {largest:.3g}"
        )
    return largest


def _difference(twin: nn.Module, small: nn.Module, side: int) -> tuple[float, float]:
    """Return the largest difference of the outputs of a twin and a small network, and the twin's largest output.

    Both are of random images.
    """
    images = torch.randn(IMAGES, 3, side, side, generator=Generator().manual_seed(0), dtype=torch.float64)
    one, other = twin(images).logits, copy.deepcopy(small).eval().double()(images).logits
    largest = (one - other).abs().max().item() if one.shape == other.shape else math.inf
    return largest, one.abs().max().item()
