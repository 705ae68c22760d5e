"""Which channels of a network can be removed without changing its outputs, and what has to be said of the others.

    plan = plan_of(graph, constants_of(network, side), network)
    plan.apply(network)                          # folds what the removed channels held into what stays
    plan.removed                                 # the channels; sparsity/cut.py cuts the layers

A channel can go where every layer that reads it has only zeros for it, or is given a constant of it. A constant of 0 adds
nothing. Another one that is the same at all pixels moves into what follows: into the bias of a Linear layer or of a convolution
without padding, or into the mean of the batch-norm behind it. A convolution with padding sees it end at the border, which
no bias can say. But it sees the constant of another channel end there as well: one channel carries the constants of all the
others, whose weights are added to its own. It does so too where there is no bias and no batch-norm.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from models.output import is_auxiliary
from sparsity.channels import Channel, Graph, Place
from sparsity.constants import Constant

BORDER = "their constant is another one at the border of the image, where a depthwise convolution pads it"
CARRIER = "they carry a constant, also that of removed ones, to layers with padding or without a bias"
LAST = "the last of their layers"

Constants = Mapping[str, Mapping[int, Constant]]


@dataclass
class Plan:
    """What is removed, what is folded where, and how many dead channels stay, by the reason.

    folds: (reader, input, number): what of a removed channel moves into what follows the reader; carried: (reader, input, by
    which input, times): whose weights another input takes over, so many times.
    """

    removed: list[Channel] = field(default_factory=list)
    folds: list[tuple[str, int, float]] = field(default_factory=list)
    carried: list[tuple[str, int, int, float]] = field(default_factory=list)
    stay: Counter = field(default_factory=Counter)

    @torch.no_grad()
    def apply(self, network: nn.Module, normalised_by: Mapping[str, str]) -> None:
        """Fold the constants of removed channels into what stays. The removed channels are still there, and not read any more."""
        for name, number, value in self.folds:
            reader = network.get_submodule(name)
            weights = reader.weight[:, number]
            added = value * (weights.sum((1, 2)) if weights.dim() > 1 else weights)
            if reader.bias is not None:
                reader.bias.add_(added)
            else:
                network.get_submodule(normalised_by[name]).running_mean.sub_(added)
        for name, number, by, times in self.carried:
            weight = network.get_submodule(name).weight
            weight[:, by].add_(weight[:, number], alpha=times)


def plan_of(graph: Graph, constants: Constants, network: nn.Module) -> Plan:
    """Return what can be removed. Args: network: of plain layers; its weights are looked at."""
    plan, wanted = Plan(), _Wanted(graph, constants, network)
    free: list[Channel] = []  # to be removed if the layers keep another one
    bound: list[tuple[Channel, frozenset[str]]] = []  # with the readers to which another channel may carry its constant
    for channel in graph.channels:
        why, readers = wanted.of(channel)
        if why:
            plan.stay[why] += 1
        elif readers is not None and readers:
            bound.append((channel, readers))
        elif readers is not None:
            free.append(channel)
    carriers = _carriers(bound, wanted)
    plan.stay[CARRIER] += len({id(each) for each in carriers.values()})
    movable = [(channel, None) for channel in free]
    movable += [(channel, carriers[readers]) for channel, readers in bound if channel is not carriers[readers]]
    left = _sizes(graph.channels)
    for channel, carrier in movable:
        if _is_last(channel, left):
            plan.stay[LAST] += 1
            continue
        for layer in _layers(channel):
            left[layer] -= 1
        plan.removed.append(channel)
        wanted.fold(channel, carrier, plan)
    return plan


class _Wanted:
    """What the readers of a channel want of it."""

    def __init__(self, graph: Graph, constants: Constants, network: nn.Module):
        self.constants, self.network, self.normalised_by = constants, network, graph.normalised_by
        self.reads = {}
        for name in {name for channel in graph.channels for name, _ in channel.readers}:
            weight = network.get_submodule(name).weight.detach()
            self.reads[name] = (weight != 0).transpose(0, 1).flatten(1).any(1).tolist()

    def of(self, channel: Channel) -> tuple[str, frozenset[str] | None]:
        """Return why a dead channel stays, or "" and the readers to which another one has to carry its constant.

        These are None for a channel that is not dead.
        """
        places = self.reading(channel)
        if not channel.readers or not all(self.is_constant(place) for place in places):
            return "", None  # the network's outputs have no readers
        if channel.barrier:
            return channel.barrier, None
        bound = set()
        for place in places:
            if self.constant(place).number is None:
                return BORDER, None
            if not self.folds(place[0]):
                bound.add(place[0])
        return "", frozenset(bound)

    def reading(self, channel: Channel) -> list[Place]:
        """Return the places where something other than 0 of a channel is read with weights other than 0."""
        read = [
            (name, number) for name, number in channel.readers if name in self.constants and self.reads[name][number]
        ]
        return [place for place in read if not (self.is_constant(place) and self.constant(place).is_zero)]

    def runs(self, name: str) -> bool:
        """Return whether a reader runs in tests: all but those of auxiliary heads do, even where that is not seen."""
        return name in self.constants or not is_auxiliary(self.network, name)

    def is_constant(self, place: Place) -> bool:
        """Return whether no image changes what is read there."""
        return place[1] in self.constants.get(place[0], {})

    def constant(self, place: Place) -> Constant:
        """Return what is read there."""
        return self.constants[place[0]][place[1]]

    def folds(self, name: str) -> bool:
        """Return whether the same number at all pixels, read by a layer, can move into what follows."""
        reader = self.network.get_submodule(name)
        unpadded = isinstance(reader, nn.Linear) or reader.padding in ("valid", (0, 0))
        return unpadded and (reader.bias is not None or name in self.normalised_by)

    def fold(self, channel: Channel, carrier: Channel | None, plan: Plan) -> None:
        """Note what of a removed channel moves where."""
        for name, number in self.reading(channel):
            value = self.constant((name, number)).number
            if self.folds(name):
                plan.folds.append((name, number, value))
            else:
                by = next(each for each in self.reading_at(carrier, name))
                plan.carried.append((name, number, by, value / self.constant((name, by)).number))

    def reading_at(self, channel: Channel, name: str) -> Iterable[int]:
        """Return the inputs of a reader, the largest constant first, that hold a constant of a channel."""
        numbers = [number for reader, number in channel.readers if reader == name and self.is_constant((name, number))]
        return sorted(numbers, key=lambda number: -abs(self.constant((name, number)).number or 0.0))


def _carriers(
    bound: list[tuple[Channel, frozenset[str]]], wanted: _Wanted
) -> dict[frozenset[str], Channel]:  # fmt: skip
    """Return for each set of readers the channel that carries constants to them: one that reaches more, if there is one."""
    found: dict[frozenset[str], Channel] = {}
    by_readers: dict[frozenset[str], list[Channel]] = defaultdict(list)
    for channel, readers in bound:
        by_readers[readers].append(channel)

    def least(channel: Channel, readers: frozenset[str]) -> float:
        places = wanted.reading(channel)
        return min(max(abs(wanted.constant(place).number) for place in places if place[0] == name) for name in readers)

    for readers, channels in sorted(by_readers.items(), key=lambda each: -len(each[0])):
        larger = next((each for each in found if readers < each), None)
        found[readers] = found[larger] if larger else max(channels, key=lambda channel: least(channel, readers))
    return found


def _layers(channel: Channel) -> list[tuple[str, bool]]:
    """Return the layers that lose a channel with it, once for each that they lose, of their outputs (True) or their inputs."""
    outputs = [(name, True) for name, _ in (*channel.writers, *channel.passed)]
    return outputs + [(name, False) for name, _ in channel.readers]


def _sizes(channels: list[Channel]) -> Counter:
    return Counter(layer for channel in channels for layer in _layers(channel))


def _is_last(channel: Channel, left: Counter) -> bool:
    """Return whether a layer would have no channel without it."""
    loses = Counter(_layers(channel))
    return any(left[layer] <= number for layer, number in loses.items())
