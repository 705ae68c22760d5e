"""What a network costs, before anyone trains it.

    python count.py cifar10 --conv Conv --wrn_width 10 --wrn_depth 28
    python count.py cifar10 --conv Shuffle_4 --table
    python count.py cifar100 --conv SepHashed_0.1 --json

As a library: `count(model, side)` of a network on the meta device gives its `Costs`. Two conventions stand side by
side, both per image. *Published*: convolutions i·o·k²·side²/groups with dilation ignored, Linear with its bias, ReLU
its elements at every call, structured maps as their families were counted in print. *Exact*: the multiply-adds of the
convolutions and matrix products that really run, for one batch, spread over it. Nothing is allocated or computed: a
forward pass is walked in which every layer only passes the shape of its output on.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import cli
import options

if __name__ == "__main__":
    cli.check(options.counting)  # --help and a wrong request are answered before torch is imported

import torch
from tabulate import tabulate
from torch import Size, Tensor, nn

from build import build, reference
from datasets import DATASETS
from errors import RequestError, SwapconvError, first_line
from layers.base import Block, ConvSpec
from models.output import Output


@dataclass
class Layer:
    """One layer's share of the costs; `exact_of_batch` is for a whole batch, the published mult-adds for one image."""

    name: str
    kind: str
    parameters: int
    input: Size | None = None
    output: Size | None = None
    mult_adds: int = 0
    exact_of_batch: int = 0


@dataclass(frozen=True)
class Costs:
    """What a network costs: parameters by formula and by looking (`sanity`), bytes of its saved state in fp32."""

    layers: list[Layer]
    batch: int
    sanity: int
    stored_bytes: int

    @property
    def params(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def mult_adds(self) -> int:
        return sum(layer.mult_adds for layer in self.layers)

    @property
    def mult_adds_exact(self) -> int | float:
        """Per image: a whole number unless the share of a rebuilt matrix is none."""
        share = Fraction(sum(layer.exact_of_batch for layer in self.layers), self.batch)
        return share.numerator if share.denominator == 1 else float(share)


def count(model: nn.Module, side: int, batch: int = 128) -> Costs:
    """Costs of a forward pass of a network, on the meta device or the CPU. It is left in evaluation mode.

    Args: side: rows and columns of an RGB image; batch: images that share a rebuilt matrix, in the exact count.
    Raises SwapconvError where the formulas and the network's own parameters disagree.
    """
    with _shapes_only(model.eval(), batch) as layers, torch.no_grad():
        model(_nothing(Size([1, 3, side, side])))
    stored = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    costs = Costs(layers, batch, sum(parameter.numel() for parameter in model.parameters()), stored)
    if costs.params != costs.sanity:
        raise SwapconvError(f"the formulas give {costs.params} parameters, the network has {costs.sanity}")
    return costs


def outline(model: nn.Module, side: int) -> Output:
    """The network's output for one RGB image as to shapes alone."""
    with _shapes_only(model.eval(), 1), torch.no_grad():
        return model(_nothing(Size([1, 3, side, side])))


class Pass(NamedTuple):
    """What one call of a layer does to a shape, and its mult-adds: published per image, exact of the batch."""

    output: Size
    mult_adds: int = 0
    exact_of_batch: int = 0


@contextmanager
def _shapes_only(model: nn.Module, batch: int) -> Iterator[list[Layer]]:
    """While it lasts, every layer that has a rule records its costs and only passes the shape of its output on.

    (The meta device could run the layers themselves, but its first operation imports a compiler and a symbolic algebra
    system, which takes a second.)
    """
    layers: list[Layer] = []
    outside: list[Layer] = []
    counted: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        rule = _rule(module, batch)
        if rule is not None:
            layers.append(Layer(name, _kind(module), _parameters(module)))
            module.forward = _recorder(rule, layers[-1])
            counted.append(module)
            inside.update(module.modules())  # it counts for all that it holds
        elif own := sum(parameter.numel() for parameter in module.parameters(recurse=False)):
            outside.append(Layer(name, f"{_kind(module)} (mult-adds unknown)", own))
    try:
        yield layers
        layers += outside
    finally:
        for module in counted:
            del module.forward


def _recorder(rule: Callable[[Size], Pass], layer: Layer) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        done = rule(x.shape)
        layer.input, layer.output = x.shape[1:], done.output[1:]
        layer.mult_adds += done.mult_adds
        layer.exact_of_batch += done.exact_of_batch
        return _nothing(done.output)

    return forward


def _nothing(shape: Size) -> Tensor:
    """A tensor of any shape over one number, so that what a network does between its layers costs next to nothing."""
    return torch.zeros(()).expand(shape)


def _rule(module: nn.Module, batch: int) -> Callable[[Size], Pass] | None:
    """How a layer that has costs turns an input's shape (1, …) into a Pass."""
    match module:
        case Block(spec=spec):
            return lambda shape: Pass(
                Size([1, spec.out_channels, *map(spec.output_side, shape[2:])]),
                module.mult_adds(*shape[2:]),
                module.exact_mult_adds(*shape[2:], batch),
            )
        case nn.Conv2d():
            return lambda shape: _conv2d(module, shape, batch)
        case nn.Linear():
            return lambda shape: Pass(
                Size([*shape[:-1], module.out_features]),
                _parameters(module),
                module.in_features * module.out_features * batch,
            )
        case nn.ReLU():
            return lambda shape: Pass(shape, mult_adds=shape.numel())
        case nn.BatchNorm2d():
            return lambda shape: Pass(shape)
    return None


def _conv2d(conv: nn.Conv2d, shape: Size, batch: int) -> Pass:
    sides = [
        ConvSpec(1, 1, conv.kernel_size[axis], conv.stride[axis], conv.padding[axis], conv.dilation[axis])
        for axis in (0, 1)
    ]
    height, width = (axis.output_side(side) for axis, side in zip(sides, shape[2:]))
    published = [axis.published_side(side) for axis, side in zip(sides, shape[2:])]
    numbers = conv.in_channels * conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1] // conv.groups
    output = Size([1, conv.out_channels, height, width])
    return Pass(output, numbers * published[0] * published[1], numbers * height * width * batch)


def _parameters(module: nn.Module) -> int:
    """Parameters of a layer by the formula of its kind."""
    match module:
        case Block():
            return module.parameter_count()
        case nn.Conv2d():
            kernel = module.in_channels * module.kernel_size[0] * module.kernel_size[1] // module.groups
            return module.out_channels * (kernel + (module.bias is not None))
        case nn.Linear():
            return module.out_features * (module.in_features + (module.bias is not None))
        case nn.BatchNorm2d():
            return 2 * module.num_features
    return 0


def _kind(module: nn.Module) -> str:
    """What a layer is, with the setting that it really has: `Separable Generic r=12`."""
    inner = type(module.map).__name__ if isinstance(getattr(module, "map", None), nn.Module) else ""
    setting = module.setting() if isinstance(module, Block) else ""
    return " ".join(filter(None, [type(module).__name__, inner, setting]))


def summary(config: dict, batch: int = 128) -> dict:
    """All that count.py knows of a resolved configuration, as one object ready for JSON."""
    try:
        costs = count(build(config), DATASETS[config["dataset"]].side, batch)
    except SwapconvError:
        raise
    except Exception as error:  # whatever a user's forward may raise
        if not config["module"]:
            raise
        raise RequestError(f"--module {config['module']}: {type(error).__name__}: {first_line(error)}")
    reference_params = sum(parameter.numel() for parameter in reference(config).parameters())
    return {
        "dataset": config["dataset"],
        "network": config["network"],
        "wrn_depth": config["wrn_depth"],
        "wrn_width": config["wrn_width"],
        "conv": config["conv"],
        "module": config["module"],
        "where": config["where"],
        "params": costs.params,
        "params_sanity": costs.sanity,
        "reference_params": reference_params,
        "crs_ratio": costs.params / reference_params,
        "mult_adds": costs.mult_adds,
        "mult_adds_exact": costs.mult_adds_exact,
        "batch": costs.batch,
        "stored_bytes": costs.stored_bytes,
        "uncounted": [layer.name for layer in costs.layers if layer.input is None],
        "layers": [
            {**vars(layer), "exact_of_batch": layer.exact_of_batch, "input": list(layer.input or ()), "output": list(layer.output or ())}
            for layer in costs.layers
        ],
    }  # fmt: skip


def warn_of_uncounted(costs: dict) -> None:
    """One line on stderr where a user's own layers do mult-adds that nobody has stated."""
    if names := costs["uncounted"]:
        print(
            f"warning: mult-adds of {len(names)} layers such as {names[0]} are not counted: they are no Blocks",
            file=sys.stderr,
        )


def table(layers: list[dict], batch: int) -> str:
    """A row per layer that has parameters or mult-adds."""
    rows = [
        [
            layer["name"], layer["kind"], "×".join(map(str, layer["input"])), "×".join(map(str, layer["output"])),
            layer["parameters"], layer["mult_adds"], layer["exact_of_batch"] / batch,
        ]
        for layer in layers
    ]  # fmt: skip
    headers = ["layer", "kind", "input", "output", "params", "mult-adds", "exact"]
    return tabulate(rows, headers, intfmt=",", floatfmt=",.0f")


def main(arguments: list[str] | None = None) -> int:
    request: Namespace = options.counting(arguments)
    costs = summary(vars(request), request.batch)
    warn_of_uncounted(costs)
    if not (request.json and request.table):
        layers = costs.pop("layers")
    if request.json:
        print(json.dumps(costs))
        return 0
    print(f"Mult-Adds: {costs['mult_adds']:.5E}")
    print(f"Params: {costs['params']:.5E}")
    print(f"Sanity check, parameters: {costs['params_sanity']:.5E}")
    print(f"Exact mult-adds: {costs['mult_adds_exact']:.5E} (per image, in batches of {costs['batch']})")
    print(f"Ratio to the reference network: {costs['crs_ratio']:.6f} (of {costs['reference_params']:,} parameters)")
    print(f"Stored: {costs['stored_bytes']:,} bytes")
    if request.table:
        print("\n" + table(layers, request.batch))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
