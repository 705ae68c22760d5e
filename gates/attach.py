"""Put gates around the convolutions of a network that is built.

    attach(network, config)                        # of a configuration with `gate`; in place, on the network's device
    network.gates["conv1/0"]                       # the gate of the convolution conv1.0

A convolution, its batch-norm and their names stay as they are, so all that is known of the network by its names stays true; the gates
are a part of their own, `gates`, whose hooks look at what a convolution is given and close channels of what it, or the batch-norm
behind it, returns. A closed channel stays closed through the batch-norms and depthwise convolutions that alone would open it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from counting.costs import costs_of
from gates.functions import RELUS
from gates.gate import KINDS, Gate
from gates.gates import Gates
from gates.registry import parse_gate
from gates.selection import Selection
from gates.trace import Behind, Flow, follow
from input.datasets import side_of
from layers.base import Replacement
from models.output import is_auxiliary
from system.errors import RequestError, did_you_mean
from system.grammar import MethodName


def attach(network: nn.Module, config: Mapping) -> None:
    """Gate a network as a configuration says, in place, on the device where it is.

    Raise RequestError where none of its convolutions can be gated, or `gate_where` is found in no name of one that can.
    """
    name, side = parse_gate(config["gate"]), side_of(config)
    places, left = chosen(network, follow(network, side), config["gate_where"] or "")
    flow = follow(network, side, places)
    gates = Gates(name.method, left, costs_of(config).mult_adds_exact)
    with torch.device(next(network.parameters()).device):
        for conv, behind in places.items():
            gate, gates.hooks[conv] = _gate(network, conv, behind, name, config["gate_weight"])
            gates.add(conv, gate)
            gates.fixed_scales += 0 if behind.norm is None else _fix_scale(network.get_submodule(behind.norm), gate)
    gates.count(network, flow)
    own = {*places, *(place.norm for place in places.values())}
    for layer, channels in flow.closed.items():
        if layer not in own:
            hook = partial(_keep_closed, gates.selection(channels))
            gates.hooks[layer] = [network.get_submodule(layer).register_forward_hook(hook)]
    network.gates = gates


def chosen(network: nn.Module, flow: Flow, where: str) -> tuple[dict[str, Behind], list[str]]:
    """Return the convolutions that are gated with what lies behind each, and those that `where` chooses, but that cannot be.

    Raise RequestError where none can, or none in whose name `where` is found.
    """
    *_, last = (read.name for read in flow.reads)  # the classifier
    convolutions = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | Replacement) and name != last and not is_auxiliary(network, f"{name}.")
    ]
    outer = [name for name in convolutions if not any(name.startswith(f"{other}.") for other in convolutions)]
    possible = {name: flow.behind[name] for name in outer if _takes_gate(flow.behind.get(name))}
    if not possible:
        raise RequestError("--gate: no convolution of this network has batch-norm or ReLU alone behind it")
    places = {name: behind for name, behind in possible.items() if re.search(where, name)}
    left = [name for name in outer if re.search(where, name) and name not in places]
    if not places and left:
        why = "neither batch-norm nor ReLU alone reads what they return"
        raise RequestError(f"--gate_where {where!r} chooses {', '.join(left[:3])}, which cannot be gated: {why}")
    if not places:
        such = did_you_mean(where, possible) or f", such as {next(iter(possible))!r}"
        raise RequestError(f"--gate_where {where!r} matches none of the convolutions{such}")
    return places, left


def _takes_gate(behind: Behind | None) -> bool:
    return behind is not None and (behind.norm is not None or behind.function in RELUS)


def _gate(network: nn.Module, conv: str, behind: Behind, name: MethodName, weight: float) -> tuple[Gate, list]:
    """Return the gate of a convolution, and the handles of its hooks."""
    module = network.get_submodule(conv)
    spec = module.spec if isinstance(module, Replacement) else module
    gate = KINDS[name.method](spec.in_channels, spec.out_channels, name.number, weight)
    look = module.register_forward_pre_hook(partial(_look, gate))
    norm = None if behind.norm is None else network.get_submodule(behind.norm)
    return gate, [look, (module if norm is None else norm).register_forward_hook(partial(_choose, gate))]


def _fix_scale(norm: nn.BatchNorm2d, gate: Gate) -> int:
    """Make the scale of a batch-norm a buffer where the gate scales instead, and give it a shift β if it has none.

    Return how many parameters there are fewer.
    """
    if not gate.scales:
        return 0
    scale = torch.ones(norm.num_features) if norm.weight is None else norm.weight.detach()
    fewer = 0 if norm.weight is None else len(scale)
    if norm.bias is None:
        norm.affine, norm.bias = True, nn.Parameter(torch.zeros(norm.num_features))
        fewer -= norm.num_features
    del norm.weight
    norm.register_buffer("weight", scale)
    return fewer


def _look(gate: Gate, module: nn.Module, inputs: tuple) -> None:
    if not inputs[0].is_meta and not gate.weight.is_meta:  # or only shapes are computed
        gate.look(inputs[0])


def _choose(gate: Gate, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
    return None if output.is_meta or gate.weight.is_meta else gate.choose(output)


def _keep_closed(selection: Selection, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
    if output.is_meta or selection.gates[0].weight.is_meta:
        return None
    return output * selection()[:, :, None, None].to(output.dtype)
