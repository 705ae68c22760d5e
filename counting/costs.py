"""What the network of a configuration costs: parameters, mult-adds, bytes.

    costs_of(config).params                      # of a resolved configuration
    summary(config)["params"]
    count(network, side=32).params               # of a network that is there (counting/measure.py)

A swap changes no shape between layers. So the network with nothing swapped is built and counted
once, and for each conv one block for each kind of convolution that it replaces.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Size, nn

import blocks
from counting.measure import Costs, count, counted, output_shapes, parameter_count, scientific
from counting.shapes import Layer, kind
from counting.sides import check_side
from input import datasets
from input.datasets import side_of
from layers.mixed import parse_name, reaches_classifiers
from layers.registry import ConvName
from layers.seeded import Seeded
from layers.spec import ConvSpec
from layers.user import of_module
from models.build import FORM, build, plain, size_of, swapped
from models.output import Output
from models.registry import size_flags
from system.errors import RequestError

KEPT = 16  # networks that are remembered with their costs
SEED_BYTES = 8  # of the seed that blocks.py adds to the state of a network with hashed layers


@dataclass(frozen=True, eq=False)
class Reference:
    """A network with nothing swapped, on the meta device, its costs, and its output as `output_shapes` gives it.

    `shares`: whether some module stands in several places.
    """

    network: nn.Module
    costs: Costs
    output: Output
    shares: bool

    @property
    def parameters(self) -> int:
        """All parameters, those of an auxiliary head too. Compression ratios refer to them."""
        return self.costs.sanity + self.costs.auxiliary


def reference(config: dict, batch: int = 128) -> Reference:
    """Return the network of `config` with nothing swapped, and what it costs. It is counted once: leave it as it is."""
    return _reference(size_of(config), datasets.of(config).classes, side_of(config), batch)


@lru_cache(KEPT)
def _reference(size: tuple[tuple[str, object], ...], classes: int, side: int, batch: int) -> Reference:
    with torch.device("meta"):
        network = plain(dict(size), classes)
    places, modules = (sum(1 for _ in network.named_modules(remove_duplicate=once)) for once in (False, True))
    return Reference(network, *counted(network, side, batch), places > modules)


def output_of(config: dict) -> Output:
    """Return `output_shapes` of the network of a resolved configuration.

    Raises RequestError where a layer cannot take the conv.
    """
    if config["module"] or not partition(config).complete:
        return output_shapes(swapped(config), side_of(config))
    costs_of(config)
    return reference(config).output


class Swap(NamedTuple):
    """A module of the reference network that a swap replaces.

    `parameters`, `stored`: its own parameters, and the bytes of its state; `layers`: its rows among the costs.
    """

    name: str
    module: nn.Module
    spec: ConvSpec
    parameters: int
    stored: int
    layers: list[Layer]

    @property
    def calls(self) -> tuple[tuple[int, ...], ...]:
        """The rows and columns of each image that it is given; of a Linear the vectors stand as rows."""
        return tuple(self.layers[0].calls) if self.layers else ()

    def images(self, batch: int) -> int:
        """Return for how many images of a batch it runs."""
        return self.layers[0].images(batch) if self.layers else batch

    def by(self, block: nn.Module, batch: int) -> Layer:
        """Return the costs of the block in its place."""
        name = f"{self.name}.block" if isinstance(self.module, nn.Linear) else self.name
        calls = self.calls
        exact = sum(block.exact_mult_adds(*sides, self.images(batch)) for sides in calls)
        layer = Layer(name, kind(block), block.parameter_count(), exact_of_batch=exact, calls=list(calls))
        layer.mult_adds = sum(block.mult_adds(*sides) for sides in calls)
        if calls:
            layer.input = Size([self.spec.in_channels, *calls[-1]])
            layer.output = Size([self.spec.out_channels, *map(self.spec.output_side, calls[-1])])
        return layer


class Partition(NamedTuple):
    """The layers of a network, and the modules that a swap replaces in their places; these also in the swap's order.

    `kinds` counts convolutions that cost the same; `first` is the name of the first of each spec. `complete`: whether
    the parts tell what the network costs: no module stands in several places, and a rule counts each that is replaced.
    """

    rows: list[Layer | Swap]
    swaps: list[Swap]
    complete: bool

    @property
    def staying(self) -> list[Layer]:
        """The layers that the swap leaves."""
        return [row for row in self.rows if isinstance(row, Layer)]

    @property
    def kinds(self) -> Counter[tuple[ConvSpec, tuple[tuple[int, ...], ...]]]:
        """How many convolutions there are of each spec that are given images of the same sizes."""
        return Counter((swap.spec, swap.calls) for swap in self.swaps)

    @property
    def first(self) -> dict[ConvSpec, str]:
        """The name of the first convolution of each spec."""
        return {swap.spec: swap.name for swap in reversed(self.swaps)}


def partition(config: dict, batch: int = 128) -> Partition:
    """Divide the network of `config`, with nothing swapped yet, into what stays and what a swap replaces."""
    return _partition(reference(config, batch), config["where"], reaches_classifiers(config))


@lru_cache(KEPT)
def _partition(of: Reference, where: str, with_classifiers: bool) -> Partition:
    network, costs = of.network, of.costs
    found: dict[str, Swap] = {}
    for name in blocks.chosen(network, where, with_classifiers):
        module = network.get_submodule(name)
        found[name] = Swap(name, module, blocks.spec_of(module), parameter_count(module), _stored(module), [])
    rows: list[Layer | Swap] = []
    for layer in costs.layers:
        parts = layer.name.split(".")
        owner = next((name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in found), None)
        if owner is None:
            rows.append(layer)
            continue
        if not found[owner].layers:
            rows.append(found[owner])
        found[owner].layers.append(layer)
    return Partition(rows, list(found.values()), not of.shares and all(swap.layers for swap in found.values()))


def costs_of(config: dict, batch: int = 128) -> Costs:
    """Return the costs of the network of a resolved configuration, as `count` gives them of the built network.

    Raises RequestError where a layer cannot take the conv.
    """
    parts = partition(config, batch)
    if config["module"] or not parts.complete:
        return count(swapped(config), side_of(config), batch)
    reference_costs = reference(config, batch).costs
    convs = blocks.decided(parse_name(config["conv"]), [swap.name for swap in parts.swaps])
    blocks_of: dict[tuple[ConvName, ConvSpec], Built] = {}
    replaced: dict[str, Layer] = {}
    sanity, stored = reference_costs.sanity, reference_costs.stored_bytes
    for swap in parts.swaps:
        conv = convs[swap.name]
        if blocks.stays(swap.module, conv):
            continue
        if (conv, swap.spec) not in blocks_of:
            blocks_of[conv, swap.spec] = built(conv, swap)
        new = blocks_of[conv, swap.spec]
        replaced[swap.name] = swap.by(new.block, batch)
        sanity += new.parameters - swap.parameters
        stored += new.stored - swap.stored
    if any(isinstance(module, Seeded) for new in blocks_of.values() for module in new.block.modules()):
        stored += SEED_BYTES
    layers: list[Layer] = []
    for row in parts.rows:
        layers += [row] if isinstance(row, Layer) else [replaced[row.name]] if row.name in replaced else row.layers
    return Costs(layers, batch, sanity, stored, reference_costs.auxiliary).checked()


class Built(NamedTuple):
    """A block on the meta device, its number of parameters and the bytes of its state."""

    block: nn.Module
    parameters: int
    stored: int


def built(conv: ConvName, swap: Swap) -> Built:
    """Return the block of `conv` for a swap. Raise RequestError where the layer cannot take it."""
    try:
        with torch.device("meta"):
            block = blocks.build_block(conv, swap.spec)
    except ValueError as error:
        widths = f"{swap.spec.in_channels} -> {swap.spec.out_channels}"
        raise RequestError(f"layer {swap.name!r} ({widths}) cannot be {conv}: {error}")
    return Built(block, parameter_count(block), _stored(block))


def _stored(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def summary(config: dict, batch: int = 128) -> dict:
    """Return all that count.py says of a resolved configuration, as one object ready for JSON."""
    with of_module(config):
        check_side(config)
        costs = costs_of(config, batch)
    bare = reference({**config, **dict.fromkeys(FORM)}, batch)  # a shrunk network is compared with the whole one
    reference_params = bare.parameters - bare.costs.auxiliary
    gates = _of_gates(config, batch)
    return {
        "dataset": config["dataset"],
        "network": config["network"],
        **{flag: config.get(flag) for flag in size_flags()},
        "image_size": side_of(config),
        "conv": config["conv"],
        "module": config["module"],
        "where": config["where"],
        "params": costs.params + gates.get("gate_params", 0),
        "params_sanity": costs.sanity + gates.get("gate_params", 0),
        "reference_params": reference_params,
        "auxiliary_params": costs.auxiliary,
        "crs_ratio": (costs.params + costs.auxiliary) / bare.parameters,
        "mult_adds": costs.mult_adds,
        **({"outside_convention": costs.outside} if costs.outside else {}),
        **({"staying": bare.network.anatomy.staying} if getattr(bare.network, "foreign", False) else {}),
        "mult_adds_exact": costs.mult_adds_exact,
        "batch": costs.batch,
        "stored_bytes": costs.stored_bytes + gates.pop("gate_bytes", 0),
        **gates,
        "uncounted": [layer.name for layer in costs.layers if layer.input is None],
        "layers": [layer.as_json() for layer in costs.layers],
    }


def _of_gates(config: dict, batch: int) -> dict:
    """Return what the gates of a network cost and spare, as they plan it; {} without gates. They do not enter its compression."""
    if not config.get("gate"):
        return {}
    gates = build(config).gates
    gates.share(batch, costs_of(config, batch).mult_adds_exact)
    return gates.planned_costs()


def gated(costs: dict) -> str:
    """Return in a line what gates spare, and which convolutions have none; empty without gates."""
    if "mult_adds_gated" not in costs:
        return ""
    planned, own = scientific(costs["mult_adds_gated"]), f"{costs['gate_mult_adds']:,}"
    line = f"Gated: {costs['gates']} convolutions, {planned} exact mult-adds, {own} of them the gates' own"
    left = costs["ungated"]
    if not left:
        return line
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return f"{line}; not gated, with neither batch-norm nor ReLU alone behind them: {', '.join(left[:3])}{more}"


def staying(costs: dict) -> str:
    """Return which convolutions of a library's network no conv can replace; empty where there are none, or none is asked."""
    if costs["conv"] == "Conv" or not costs.get("staying"):
        return ""
    listed = ", ".join(f"{number} {what}" for what, number in costs["staying"].items())
    return f"Not swapped: convolutions and linear maps that no conv replaces ({listed})"


def warn_of_uncounted(costs: dict) -> None:
    """Print one line on stderr where layers of a user's module have mult-adds that no formula states."""
    if names := costs["uncounted"]:
        print(
            f"warning: mult-adds of {len(names)} layers such as {names[0]} are not counted: no layers.base.Replacement "
            f"states them",
            file=sys.stderr,
        )
