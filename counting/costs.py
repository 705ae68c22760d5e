"""What a network costs: parameters, mult-adds, bytes.

    costs = count(network, side=32)              # of a network on the meta device or the CPU
    summary(config)["params"]                    # of a resolved configuration

Per image and in two conventions: as published tables count, and exactly (counting/shapes.py). A head that only training
uses is not counted.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Size, nn

import blocks
from counting.shapes import Layer, placeholder, walk
from counting.sides import check_side
from input.datasets import side_of
from layers.spec import ConvSpec
from layers.user import of_module
from models.build import build, reference, reference_parameters
from models.output import Output
from models.registry import size_flags
from system.errors import SwapconvError


@dataclass(frozen=True)
class Costs:
    """What a network costs.

    `sanity` is the number of parameters by looking at the tensors, `stored_bytes` the size of the saved state,
    `auxiliary` the number of parameters of an auxiliary head, which nothing else here includes.
    """

    layers: list[Layer]
    batch: int
    sanity: int
    stored_bytes: int
    auxiliary: int

    @property
    def params(self) -> int:
        """Parameters by formula."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def mult_adds(self) -> int:
        """Published multiply-adds per image."""
        return sum(layer.mult_adds for layer in self.layers)

    @property
    def mult_adds_exact(self) -> int | float:
        """Exact multiply-adds per image: a fraction where a batch shares the forming of a matrix."""
        share = Fraction(self.exact_of_batch, self.batch)
        return share.numerator if share.denominator == 1 else float(share)

    @property
    def exact_of_batch(self) -> int:
        """Exact multiply-adds of a batch."""
        return sum(layer.exact_of_batch for layer in self.layers)


def count(model: nn.Module, side: int, batch: int = 128) -> Costs:
    """Return the costs of a forward pass of a network, on the meta device or the CPU. It is left in evaluation mode.

    Args: side: rows and columns of an RGB image; batch: images that share the forming of a matrix, in the exact count.
    Raises SwapconvError where the formulas and the network's own parameters disagree.
    """
    with walk(model.eval(), batch) as layers, torch.no_grad():
        model(placeholder(Size([1, 3, side, side])))
    kept = [tensor for name, tensor in model.state_dict().items() if not name.startswith("auxiliary.")]
    stored = sum(tensor.numel() * tensor.element_size() for tensor in kept)
    auxiliary = parameter_count(model.auxiliary) if hasattr(model, "auxiliary") else 0
    layers = [layer for layer in layers if not layer.name.startswith("auxiliary.")]
    costs = Costs(layers, batch, parameter_count(model) - auxiliary, stored, auxiliary)
    if costs.params != costs.sanity:
        raise SwapconvError(f"the formulas give {costs.params} parameters, the network has {costs.sanity}")
    return costs


def parameter_count(model: nn.Module) -> int:
    """Return the number of parameters by looking at the tensors."""
    return sum(parameter.numel() for parameter in model.parameters())


def output_shapes(model: nn.Module, side: int) -> Output:
    """Return the network's output for one RGB image, whose tensors have the right shapes over a single number."""
    with walk(model.eval(), 1), torch.no_grad():
        return model(placeholder(Size([1, 3, side, side])))


class Partition(NamedTuple):
    """The layers of a network that a swap leaves, and the convolutions that it replaces.

    `swapped` counts equal convolutions with equal rows and columns of input; `first` is the name of the first of each.
    """

    staying: list[Layer]
    swapped: Counter[tuple[ConvSpec, tuple[int, ...]]]
    first: dict[ConvSpec, str]


def partition(config: dict, batch: int = 128) -> Partition:
    """Divide the network of `config`, with nothing swapped yet, into what stays and what a swap replaces.

    So the costs of many convs need each kind of convolution to be built once, not the network.
    """
    network = reference(config)
    chosen = blocks.chosen(network, config["where"])
    sides: dict[str, tuple[int, ...]] = {}
    staying = []
    for layer in count(network, side_of(config), batch).layers:
        owner = next((each for each in chosen if f"{layer.name}.".startswith(f"{each}.")), None)
        if owner is None:
            staying.append(layer)
        else:
            sides.setdefault(owner, tuple(layer.input[1:]))
    specs = {each: blocks.spec_of(network.get_submodule(each)) for each in chosen}
    swapped = Counter((spec, sides[each]) for each, spec in specs.items())
    return Partition(staying, swapped, {spec: each for each, spec in reversed(specs.items())})


def summary(config: dict, batch: int = 128) -> dict:
    """Return all that count.py says of a resolved configuration, as one object ready for JSON."""
    with of_module(config):
        check_side(config)
        costs = count(build(config), side_of(config), batch)
    reference_params = reference_parameters(config) - costs.auxiliary
    return {
        "dataset": config["dataset"],
        "network": config["network"],
        **{flag: config.get(flag) for flag in size_flags()},
        "image_size": side_of(config),
        "conv": config["conv"],
        "module": config["module"],
        "where": config["where"],
        "params": costs.params,
        "params_sanity": costs.sanity,
        "reference_params": reference_params,
        "auxiliary_params": costs.auxiliary,
        "crs_ratio": (costs.params + costs.auxiliary) / (reference_params + costs.auxiliary),
        "mult_adds": costs.mult_adds,
        "mult_adds_exact": costs.mult_adds_exact,
        "batch": costs.batch,
        "stored_bytes": costs.stored_bytes,
        "uncounted": [layer.name for layer in costs.layers if layer.input is None],
        "layers": [
            {
                **vars(layer),
                "exact_of_batch": layer.exact_of_batch,
                "input": list(layer.input or ()),
                "output": list(layer.output or ()),
            }
            for layer in costs.layers
        ],
    }


def warn_of_uncounted(costs: dict) -> None:
    """Print one line on stderr where layers of a user's module have mult-adds that no formula states."""
    if names := costs["uncounted"]:
        print(
            f"warning: mult-adds of {len(names)} layers such as {names[0]} are not counted: no layers.base.Replacement "
            f"states them",
            file=sys.stderr,
        )
