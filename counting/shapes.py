"""What a forward pass does to shapes, and what each layer of it costs. Nothing is allocated or computed.

    with walk(network.eval(), batch=128) as layers:
        output = network(placeholder(Size([1, 3, 32, 32]))) # tensors of the right shapes over a single number
    layers[0].mult_adds                                     # of the first layer that has costs

Two conventions stand side by side. *Published*, per image: convolutions i·o·k²·side²/groups with dilation ignored,
Linear with its bias, ReLU its elements at every call, pooling modules C·k²·side², structured maps as the papers of
their families count. *Exact*: the multiply-adds of the convolutions and matrix products that run, for one batch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Size, Tensor, nn

from layers.base import Replacement
from layers.spec import ConvSpec


@dataclass
class Layer:
    """The costs of one layer: published mult-adds for one image, `exact_of_batch` for a whole batch.

    `calls`: the rows and columns of each input that it was given; of a Linear, its vectors as the rows. `outside`: names
    of operations in it that the published convention does not know, with which `mult_adds` is None. `is_shared`: it runs
    once for all images of a batch, as what makes a table of positions does.
    """

    name: str
    kind: str
    parameters: int
    input: Size | None = None
    output: Size | None = None
    mult_adds: int | None = 0
    exact_of_batch: int = 0
    calls: list[tuple[int, ...]] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)
    is_shared: bool = False

    def images(self, batch: int) -> int:
        """Return for how many images of a batch it runs."""
        return 1 if self.is_shared else batch

    def as_json(self) -> dict:
        """Return the row of count.py --json."""
        return {
            "name": self.name,
            "kind": self.kind,
            "parameters": self.parameters,
            "input": list(self.input or ()),
            "output": list(self.output or ()),
            "mult_adds": self.mult_adds,
            "exact_of_batch": self.exact_of_batch,
        }


class Pass(NamedTuple):
    """The output shape of one call of a layer, and its mult-adds: published per image, exact of the batch."""

    output: Size
    mult_adds: int = 0
    exact_of_batch: int = 0


@contextmanager
def walk(model: nn.Module, batch: int) -> Iterator[list[Layer]]:
    """Within this context, let every layer that has a rule record its costs and pass on the shape of its output alone.

    Yields the list of layers, complete when the context ends. (The meta device could run the layers themselves, but its
    first operation imports a compiler and a symbolic algebra system, which takes a second.)
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
            layers.append(Layer(name, kind(module), rule_parameters(module)))
            module.forward = recorder(rule, layers[-1])
            counted.append(module)
            inside.update(module.modules())  # the rule counts all of them
        elif own := sum(parameter.numel() for parameter in module.parameters(recurse=False)):
            outside.append(Layer(name, f"{kind(module)} (mult-adds unknown)", own))
    try:
        yield layers
        layers += outside
    finally:
        for module in counted:
            del module.forward


def recorder(rule: Callable[[Size], Pass], layer: Layer) -> Callable[[Tensor], Tensor]:
    """Return what stands for a layer's forward pass: it adds to the layer's costs and returns the shape alone."""
    is_map = layer.kind == "Linear"

    def forward(x: Tensor) -> Tensor:
        done = rule(x.shape)
        if min(done.output) < 1:
            raise ValueError(f"nothing is left of the image after the layer {layer.name!r}")
        layer.input, layer.output = x.shape[1:], done.output[1:]
        layer.calls.append((x.shape[:-1].numel(), 1) if is_map else tuple(x.shape[2:]))
        layer.mult_adds += done.mult_adds
        layer.exact_of_batch += done.exact_of_batch
        return _laid_out_as(x, done.output) if x.is_meta else placeholder(done.output)

    return forward


def _laid_out_as(x: Tensor, shape: Size) -> Tensor:
    """Return a tensor on the meta device that lies in memory as a convolution of `x` does: some networks look at it."""
    last = torch.channels_last
    if x.dim() == len(shape) == 4 and x.is_contiguous(memory_format=last) and not x.is_contiguous():
        return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=last)
    return x.new_empty(shape)


def placeholder(shape: Size) -> Tensor:
    """Return a tensor of any shape over one number, so that operations between layers cost next to nothing."""
    return torch.zeros(()).expand(shape)


def _rule(module: nn.Module, batch: int) -> Callable[[Size], Pass] | None:
    """Return how a layer that has costs turns the shape of its input (1, …) into a Pass, else None."""
    if (rule := plain_rule(module, batch)) is not None:
        return rule
    match module:
        case nn.ReLU():
            return lambda shape: Pass(shape, mult_adds=shape.numel())
        case nn.ReLU6() | nn.BatchNorm2d():  # a subclass of a batch-norm too
            return lambda shape: Pass(shape)
        case nn.MaxPool2d():
            return lambda shape: _max_pool(module, shape)
        case nn.AdaptiveAvgPool2d(output_size=1):
            return lambda shape: Pass(Size([*shape[:2], 1, 1]), mult_adds=shape.numel())
    return None


def plain_rule(module: nn.Module, batch: int) -> Callable[[Size], Pass] | None:
    """Return the rule of a layer with weights, a convolution, a linear map, a batch-norm or a replacement, else None."""
    match module:
        case Replacement(spec=spec):
            return lambda shape: Pass(
                Size([shape[0], spec.out_channels, *map(spec.output_side, shape[2:])]),
                shape[0] * module.mult_adds(*shape[2:]),
                module.exact_mult_adds(*shape[2:], shape[0] * batch),
            )
        case nn.Conv2d() if _plain(module, nn.Conv2d):
            return lambda shape: _conv2d(module, shape, batch)
        case nn.Linear() if _plain(module, nn.Linear):
            return lambda shape: _linear(module, shape, batch)
        case nn.BatchNorm2d() if _plain(module, nn.BatchNorm2d):
            return lambda shape: Pass(shape)
    return None


def _plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a layer runs what it inherits. A user's subclass that does more has no rule and is run."""
    return type(module).forward is kind.forward


def _conv2d(conv: nn.Conv2d, shape: Size, batch: int) -> Pass:
    padding = _paddings(conv)
    sides = [
        ConvSpec(1, 1, conv.kernel_size[axis], conv.stride[axis], padding[axis], conv.dilation[axis]) for axis in (0, 1)
    ]
    height, width = (int(axis.output_side(side)) for axis, side in zip(sides, shape[2:]))
    published = [int(axis.published_side(side)) for axis, side in zip(sides, shape[2:])]
    entries = conv.in_channels * conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1] // conv.groups
    output = Size([shape[0], conv.out_channels, height, width])
    entries *= shape[0]
    return Pass(output, entries * published[0] * published[1], entries * height * width * batch)


def _paddings(conv: nn.Conv2d) -> tuple[float, float]:
    """Return how far a convolution pads, half of what both ends get together where that is said in words."""
    match conv.padding:
        case "valid":
            return 0, 0
        case "same":
            return tuple(reach * (side - 1) / 2 for reach, side in zip(conv.dilation, conv.kernel_size))
    return conv.padding


def _linear(linear: nn.Linear, shape: Size, batch: int) -> Pass:
    if shape[-1] != linear.in_features:
        raise ValueError(f"a linear layer of {linear.in_features} inputs is given {shape[-1]}")
    vectors, entries = shape[:-1].numel(), linear.in_features * linear.out_features
    return Pass(Size([*shape[:-1], linear.out_features]), vectors * rule_parameters(linear), vectors * entries * batch)


def _max_pool(pool: nn.MaxPool2d, shape: Size) -> Pass:
    output = Size([*shape[:2], *(_pooled_side(pool, side) for side in shape[2:])])
    return Pass(output, output.numel() * pool.kernel_size**2)


def _pooled_side(pool: nn.MaxPool2d, side: int) -> int:
    """Return the rows (or columns) of a max-pool's output."""
    if not pool.ceil_mode:
        return ConvSpec(1, 1, pool.kernel_size, pool.stride, pool.padding, pool.dilation).output_side(side)
    reach = pool.dilation * (pool.kernel_size - 1) + 1
    windows = -((reach - side - 2 * pool.padding) // pool.stride) + 1  # division rounded up
    return windows - ((windows - 1) * pool.stride >= side + pool.padding)  # none begins in the padding behind


def rule_parameters(module: nn.Module) -> int:
    """Return the parameters of a layer by the formula of its kind."""
    match module:
        case Replacement():
            return module.parameter_count()
        case nn.Conv2d():
            kernel = module.in_channels * module.kernel_size[0] * module.kernel_size[1] // module.groups
            return module.out_channels * (kernel + (module.bias is not None))
        case nn.Linear():
            return module.out_features * (module.in_features + (module.bias is not None))
        case nn.BatchNorm2d():
            return 2 * module.num_features * module.affine
    return 0


def kind(module: nn.Module) -> str:
    """Return what a layer is, with the setting that it has there: `Separable Generic r=12`."""
    return module.kind() if isinstance(module, Replacement) else type(module).__name__
