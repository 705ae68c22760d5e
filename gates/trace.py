"""What reads what in a network: the channels that gates can close, followed through one pass of shapes.

    flow = follow(network, side=32, gated=())      # nothing is closed yet
    flow.behind["layer1.0.conv1"]                  # Behind("layer1.0.bn1", "batch_norm"): what alone reads its output

No layer is computed, and whatever Python the network's forward pass is made of runs as it is, which torch.fx's symbolic tracing
does not allow (a test of a shape, a loop over blocks). A closed channel is 0. It stays closed through what acts on each channel
alone and leaves 0 as it is; a sum is closed where all that it adds is; a convolution or a linear map reads it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from blocks import BlockAsLinear
from counting.shapes import plain_rule
from gates.functions import (
    CHANNELWISE,
    FLATTENING,
    JOINING,
    OVER_PIXELS,
    PRODUCTS,
    SUMS,
    is_over_pixels,
    name_of,
    tensors_in,
    writes,
)  # fmt: skip
from layers.base import Replacement
from models.output import auxiliary_heads
from models.widths import is_depthwise
from system.errors import RequestError, first_line

Source = tuple[str, int]  # the name of a gated convolution, and a channel of its output
Channels = list[
    frozenset[Source] | None
]  # of each channel the gated ones that all are closed if it is; None: always open

OF_NETWORKS = (RuntimeError, ValueError, AssertionError, NotImplementedError)  # which their own code raises
LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, Replacement, BlockAsLinear)


class Behind(NamedTuple):
    """What alone reads a convolution's output: a batch-norm by its dotted name, or None and a function by its own."""

    norm: str | None
    function: str


class Read(NamedTuple):
    """One call of a layer: its dotted name, the channels that it is given, and its input's and output's shapes."""

    name: str
    channels: Channels
    given: torch.Size
    returned: torch.Size


@dataclass
class Flow:
    """What a pass has shown.

    reads: every call of a layer, in order; behind: of each convolution what alone reads its output, where one thing does; closed: of
    each batch-norm, and each depthwise convolution with a bias, the channels that it is given closed and would open again; joined:
    gated convolutions whose outputs are concatenated; whole: those of which something needs all channels, closed ones as zeros.
    """

    reads: list[Read] = field(default_factory=list)
    behind: dict[str, Behind] = field(default_factory=dict)
    closed: dict[str, Channels] = field(default_factory=dict)
    joined: list[frozenset[str]] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)


def follow(network: nn.Module, side: int, gated: Collection[str] = ()) -> Flow:
    """Return how the channels of a network that takes images of `side` rows and columns flow, if those of `gated` may be closed.

    Raise RequestError where the network cannot run without numbers.
    """
    network, size = _without_numbers(network), torch.Size([1, 3, side, side])
    by_rules = _has_rules(network)
    # Without rules it runs on the meta device, whose first operation imports a compiler and an algebra system.
    image = torch.zeros(size) if by_rules else torch.empty(size, device="meta")
    opened: set[str] = set()
    while True:
        flow = Flow()
        try:
            with torch.no_grad(), _Followed(network, flow, frozenset(gated), opened, by_rules) as followed:
                followed.note_result(network(image).logits)
        except OF_NETWORKS as error:
            raise RequestError(f"--gate: the channels of this network cannot be followed: {first_line(error)}")
        repeated = {name for name in flow.closed if followed.calls[name] > 1}
        if not repeated:
            return flow
        opened |= repeated  # what runs twice cannot know whose channels it has to keep closed


def _has_rules(network: nn.Module) -> bool:
    """Return whether the shapes of all layers are told by rules, so that nothing else of the network has tensors."""
    if getattr(network, "foreign", False):
        return False
    layers, inside = dict(_layers(network)), ("gates.", *(f"{head}." for head in auxiliary_heads(network)))
    prefixes = tuple(f"{name}." for name in layers) + inside
    tensors = (name for name, _ in (*network.named_parameters(), *network.named_buffers()))
    return all(plain_rule(each, 1) for each in layers.values()) and all(name.startswith(prefixes) for name in tensors)


def _without_numbers(network: nn.Module) -> nn.Module:
    """Return a copy of a network on the meta device, for tests. The network itself may keep what a pass has formed, so none is made."""
    places = {id(each): nn.Parameter(torch.empty_like(each, device="meta"), False) for each in network.parameters()}
    places |= {id(each): torch.empty_like(each, device="meta") for each in network.buffers()}
    return copy.deepcopy(network, places).eval()


class _Known(NamedTuple):
    """What is known of a tensor: itself (so that its id is not taken), its channels, the convolution that has just made it."""

    tensor: Tensor
    channels: Channels | None
    writer: str | None


class _Followed(TorchFunctionMode):
    """Follow every function of torch's that is called, and every layer as one."""

    def __init__(self, network: nn.Module, flow: Flow, gated: frozenset[str], opened: set[str], by_rules: bool):
        super().__init__()
        self.network, self.flow, self.gated, self.opened, self.by_rules = network, flow, gated, opened, by_rules
        self.known: dict[int, _Known] = {}
        self.readers: dict[str, list[Behind]] = {}  # of each convolution's output
        self.calls: dict[str, int] = {}
        self._stack = ExitStack()

    def __enter__(self):
        for name, module in _layers(self.network):
            module.forward = partial(self._layer, name, module, module.forward)
            self._stack.callback(module.__dict__.pop, "forward")
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._stack.close()
        for name, readers in self.readers.items():
            alone = len(readers) == 1 and self.calls[name] == 1 and self.calls.get(readers[0].norm, 1) == 1
            if alone:  # a batch-norm behind several convolutions cannot know which of their gates it has
                self.flow.behind[name] = readers[0]

    def _layer(self, name: str, module: nn.Module, forward: Callable, x: Tensor) -> Tensor:
        self.calls[name] = self.calls.get(name, 0) + 1
        is_norm = isinstance(module, nn.BatchNorm2d)
        self._note_reader(x, Behind(name, "batch_norm") if is_norm else Behind(None, type(module).__name__))
        with torch._C.DisableTorchFunction():
            y = torch.zeros(plain_rule(module, 1)(x.shape).output) if self.by_rules else forward(x)
        given = self._channels(x)
        channels: Channels | None = None
        if given is not None and len(given) == (x.shape[1] if x.dim() == 4 else x.shape[-1]):
            self.flow.reads.append(Read(name, given, x.shape, y.shape))
            if (is_norm or is_single(module)) and name not in self.opened:
                channels = given
                if any(given) and (is_norm or _bias(module) is not None):
                    self.flow.closed[name] = given
        else:
            self.flow.reads.append(Read(name, [None] * x.shape[1 if x.dim() == 4 else -1], x.shape, y.shape))
        if name in self.gated:
            channels = [frozenset([(name, number)]) for number in range(y.shape[1])]
        self.known[id(y)] = _Known(y, channels, name if isinstance(module, (nn.Conv2d, Replacement)) else None)
        return y

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = name_of(function, args, kwargs)
        if writes(name) and name not in CHANNELWISE:
            self._open_aliases(args[0], itself=name == "__setitem__")  # else `_after` says what it is then
        if not tensors_in(result):
            return result
        read = [each for each in tensors_in([args, list(kwargs.values())]) if id(each) in self.known]
        for each in read:
            self._note_reader(each, Behind(None, name))
        self._note_use(name, args, kwargs, result)
        results, begin = result if isinstance(result, (tuple, list)) else [result], 0
        for each in results:
            if isinstance(each, Tensor):
                self.known[id(each)] = _Known(each, self._after(name, args, kwargs, each, begin), None)
                begin += each.shape[1] if each.dim() > 1 else 0
        return result

    def _open_aliases(self, written: Tensor, itself: bool) -> None:
        """Note that something may stand now where there was nothing: in all that share a tensor's memory, and in itself."""
        memory = written.untyped_storage()._cdata
        for key, known in self.known.items():
            if (itself or known.tensor is not written) and known.tensor.untyped_storage()._cdata == memory:
                self.flow.whole |= self._sources(known.tensor)
                self.known[key] = known._replace(channels=None)

    def _note_reader(self, x: Tensor, reader: Behind) -> None:
        known = self.known.get(id(x))
        if known is not None and known.writer is not None:
            self.readers.setdefault(known.writer, []).append(reader)

    def note_result(self, x: Tensor) -> None:
        """Note what the network returns."""
        self.flow.whole |= self._sources(x)

    def _note_use(self, name: str, args: tuple, kwargs: dict, result) -> None:
        """Note which gated convolutions are concatenated, and of which a function needs all channels.

        Given the open channels alone, in order, what acts on each channel alone returns the same ones, and so does a concatenation.
        """
        given = tensors_in([args, list(kwargs.values())])
        sources = frozenset().union(*map(self._sources, given))
        if not sources:
            return
        if name in JOINING and kwargs.get("dim", args[1] if len(args) > 1 else 0) == 1:
            self.flow.joined.append(sources)
            return
        alone = name in CHANNELWISE or (name in OVER_PIXELS and is_over_pixels(args, kwargs))
        flat = name == "flatten" or (name in FLATTENING and len(args) > 1 and args[-1] == -1)
        flat = flat and isinstance(result, Tensor) and result.shape == given[0].shape[:2]
        if len(given) > 1 or not (alone or flat):
            self.flow.whole |= sources

    def _sources(self, x: Tensor) -> frozenset[str]:
        """Return the gated convolutions that may close channels of a tensor."""
        return frozenset(name for sources in self._channels(x) or () if sources for name, _ in sources)

    def _channels(self, x) -> Channels | None:
        known = self.known.get(id(x)) if isinstance(x, Tensor) else None
        return known.channels if known is not None else None

    def _after(self, name: str, args: tuple, kwargs: dict, result: Tensor, begin: int) -> Channels | None:
        """Return the channels of a function's result; None where all may be open."""
        if name in JOINING:
            return self._joined(args, kwargs, result)
        if not args or not isinstance(args[0], Tensor):
            return self._product(args) if name in PRODUCTS else None
        given, x = self._channels(args[0]), args[0]
        if name in SUMS:
            return self._sum([*args[:2], *([kwargs["other"]] if "other" in kwargs else [])])
        if name in PRODUCTS:
            return self._product(args)
        if given is None:
            return None
        if name in CHANNELWISE or (name in OVER_PIXELS and is_over_pixels(args, kwargs)):
            return given
        if name in FLATTENING and result.dim() == 2 and result.shape[0] == x.shape[0]:
            return [each for each in given for _ in range(result.shape[1] // len(given))]
        if name in FLATTENING and result.dim() == 4 and result.shape[:2] == x.shape[:2]:
            return given
        if name in ("chunk", "split") and x.dim() == 4 and result.shape[1] < x.shape[1]:
            return self._part(args, kwargs, given, result, begin)
        return None

    def _part(self, args: tuple, kwargs: dict, given: Channels, result: Tensor, begin: int) -> Channels | None:
        """Return the channels of a part along the channels that begins at one of them."""
        if kwargs.get("dim", args[2] if len(args) > 2 else 0) != 1:
            return None
        return given[begin : begin + result.shape[1]]

    def _joined(self, args: tuple, kwargs: dict, result: Tensor) -> Channels | None:
        parts = args[0] if args else kwargs["tensors"]
        if kwargs.get("dim", args[1] if len(args) > 1 else 0) not in (1, 1 - result.dim()):
            return None
        found = [self._channels(part) or [None] * part.shape[1] for part in parts]
        joined = sum(found, [])
        return joined if any(joined) else None

    def _sum(self, args: Sequence) -> Channels | None:
        """Return the channels of a sum of two features: closed where both are. A number or a feature that is not known opens all."""
        found = [self._channels(each) for each in args]
        if None in found or len(found) != 2 or len(found[0]) != len(found[1]):
            return None
        both = [None if one is None or other is None else one | other for one, other in zip(*found)]
        return both if any(both) else None

    def _product(self, args: tuple) -> Channels | None:
        """Return the channels of a product: closed where one of the factors is."""
        found = [each for each in map(self._channels, args[:2]) if each is not None]
        if len(found) == 2 and len(found[0]) == len(found[1]):
            return [one if one is not None else other for one, other in zip(*found)]
        return found[0] if found else None


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of a network that has weights, none within another, without auxiliary heads."""
    heads, outer = tuple(auxiliary_heads(network)), None
    for name, module in network.named_modules():
        if name in heads or name.startswith(tuple(f"{head}." for head in heads)):
            continue
        if outer is not None and name.startswith(f"{outer}."):
            continue
        if isinstance(module, LAYERS):
            outer = name
            yield name, module


def is_single(module: nn.Module) -> bool:
    """Return whether a layer acts on each channel alone, as a depthwise convolution does."""
    return isinstance(module, nn.Conv2d) and is_depthwise(module)


def _bias(module: nn.Module) -> Tensor | None:
    return getattr(module, "bias", None)
