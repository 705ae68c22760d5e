"""Which channels of a network's layers are one and the same, so that they can only go together.

The dependency graph of Torch-Pruning (Fang et al. 2023, DepGraph, 2301.12900) tells it: what a sum adds, what a batch-norm or a
depthwise convolution passes on, where a concatenation or a flattening puts it. The graph is traced on the meta device, in
training, so that auxiliary heads are in it; no number is computed.

    channels = channels_of(twin.network, side=32, whole=twin.whole)
    channels[0].writers, channels[0].readers     # [("conv1", 0), ("layer1.0.conv3", 0)], [("layer1.0.conv1", 0), …]
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import torch
import torch_pruning
from torch import nn

from models.widths import is_depthwise, width_of
from system.errors import RequestError, first_line

Place = tuple[str, int]  # the dotted name of a layer, and a channel of its outputs or of its inputs

# What acts on each channel alone, or moves whole channels, by the names of torch's gradients.
CHANNELWISE = (
    "Relu", "Hardtanh", "LeakyRelu", "Elu", "Silu", "Gelu", "Sigmoid", "Hardsigmoid", "Hardswish", "Mish", "Tanh", "Softplus",
    "Add", "Sub", "Mul", "Div", "MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D", "AdaptiveMaxPool2D", "Mean", "Amax", "View",
    "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "T", "Clone", "Slice", "ConstantPadNd", "Cat", "Addmm", "Mm", "Squeeze",
    "Unsqueeze", "NativeDropout", "AsStrided", "UpsampleNearest2D", "Alias",
)  # fmt: skip


@dataclass
class Channel:
    """A channel: the outputs of layers that write it, the batch-norms and depthwise filters that it passes, the inputs that read it.

    `barrier` says why it has to stay, whatever it holds; empty where nothing does.
    """

    writers: list[Place] = field(default_factory=list)
    passed: list[Place] = field(default_factory=list)
    readers: list[Place] = field(default_factory=list)
    barrier: str = ""


@dataclass
class Graph:
    """The channels, and for layers whose output a batch-norm alone reads, that batch-norm's name."""

    channels: list[Channel]
    normalised_by: dict[str, str]


def graph_of(network: nn.Module, side: int, whole: Collection[str]) -> Graph:
    """Return the channels of a network of plain layers that takes images of `side` rows and columns.

    Args: whole: names of layers all of whose channels stay. Raise RequestError where Torch-Pruning cannot follow the network.
    """
    bare = copy.deepcopy(network).to("meta")
    names = {module: name for name, module in bare.named_modules()}
    graph = torch_pruning.DependencyGraph()
    images = torch.empty(2, 3, side, side, dtype=torch.float64, device="meta")
    try:
        with torch.enable_grad(), warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            graph.build_dependency(bare, images, forward_fn=_in_training, verbose=False)
            groups = list(graph.get_all_groups())
    except Exception as error:  # of the library's own code, which is given any network
        raise RequestError(f"Torch-Pruning cannot follow the channels of this network: {first_line(error)}")
    return Graph(_channels(graph, groups, names, whole), dict(_normalised(graph, names)))


def _in_training(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    output = network.train()(images)  # Torch-Pruning puts it into evaluation mode
    return [each for each in (output.logits, output.auxiliary_logits) if each is not None]


def _channels(graph, groups: list, names: dict[nn.Module, str], whole: Collection[str]) -> list[Channel]:
    """Return the channels of all groups; what two groups share makes them one."""
    joined, barriers = _Joined(), []
    for group in groups:
        root = (names[group[0].dep.target.module], True)
        for item in group:
            module, is_output = item.dep.target.module, graph.is_out_channel_pruning_fn(item.dep.handler)
            roots = [(*root, number) for number in item.root_idxs]
            if why := _barrier(item.dep.target, names, whole):
                barriers += [(each, why) for each in roots]
            if module in names and width_of(module) is not None:
                depthwise = isinstance(module, nn.Conv2d) and is_depthwise(module)
                for at, number in zip(roots, item.idxs):
                    joined.join(at, (names[module], is_output or depthwise, number))
    modules = {name: module for module, name in names.items()}
    found: dict[object, Channel] = defaultdict(Channel)
    for place in joined.places():
        name, is_output, number = place
        channel, module = found[joined.of(place)], modules[name]
        passes = isinstance(module, nn.BatchNorm2d) or (isinstance(module, nn.Conv2d) and is_depthwise(module))
        list_of = channel.passed if passes else channel.writers if is_output else channel.readers
        list_of.append((name, number))
    for place, why in barriers:
        found[joined.of(place)].barrier = why
    return list(found.values())


def _barrier(node, names: dict[nn.Module, str], whole: Collection[str]) -> str:
    """Return why the channels that a node of the graph touches have to stay; empty where they need not."""
    module = node.module
    if module not in names:
        kind = type(node.grad_fn).__name__.rstrip("0123456789").removesuffix("Backward")
        return "" if kind in CHANNELWISE else f"{kind} may mix channels"
    if names[module] in whole:
        return "of a channel that a structured map reads or writes"
    if width_of(module) is None:
        return f"{type(module).__name__} mixes channels"
    if isinstance(module, (nn.Conv2d, nn.Linear)) and type(module) not in (nn.Conv2d, nn.Linear):
        return f"{type(module).__name__} may do more than a convolution or a linear map"
    if isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module):
        return "a convolution of several groups has as many channels in each"
    return ""


def _normalised(graph, names: dict[nn.Module, str]) -> Iterator[tuple[str, str]]:
    for module, node in graph.module2node.items():
        if module in names and isinstance(module, (nn.Conv2d, nn.Linear)) and len(node.outputs) == 1:
            after = node.outputs[0].module
            if isinstance(after, nn.BatchNorm2d) and after.affine and after.track_running_stats:
                yield names[module], names[after]


class _Joined:
    """Sets that are joined: union-find (Tarjan 1975)."""

    def __init__(self):
        self._parent: dict = {}

    def of(self, place):
        """Return what stands for the set of a place, which is one of its own at first."""
        parent = self._parent.setdefault(place, place)
        if parent != place:
            parent = self._parent[place] = self.of(parent)
        return parent

    def join(self, one, other) -> None:
        """Make one set of two."""
        one, other = self.of(one), self.of(other)
        if one != other:
            self._parent[max(one, other)] = min(one, other)

    def places(self) -> list:
        """Return all places, each once, in order."""
        return sorted(self._parent)
