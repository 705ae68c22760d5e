"""What a network that is there costs: one pass of shapes through it.

    costs = count(network, side=32)              # of a network on the meta device or the CPU
    costs.params, costs.mult_adds

Per image and in two conventions: as published tables count, and exactly (counting/shapes.py). A head that only training
uses is not counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Size, nn
from torch.func import functional_call

from counting.shapes import Layer, placeholder, walk
from models.output import Output, auxiliary_parameters, is_auxiliary
from system.errors import RequestError, SwapconvError, first_line

MOST = 100_000  # rows, columns, images


@dataclass(frozen=True)
class Costs:
    """What a network costs.

    `sanity` is the number of parameters by looking at the tensors, `stored_bytes` the size of the saved state,
    `auxiliary` the number of parameters of an auxiliary head, which nothing else here includes.
    """

    layers: list[Layer] = field(repr=False)
    batch: int
    sanity: int
    stored_bytes: int
    auxiliary: int

    @property
    def params(self) -> int:
        """Parameters by formula."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def mult_adds(self) -> int | None:
        """Published multiply-adds per image; None where the convention does not know an operation."""
        return total(layer.mult_adds for layer in self.layers)

    @property
    def outside(self) -> list[str]:
        """Names of the operations that the published convention does not know, sorted."""
        return sorted({name for layer in self.layers for name in layer.outside})

    @property
    def mult_adds_exact(self) -> int | float:
        """Exact multiply-adds per image: a fraction where a batch shares the forming of a matrix."""
        whole, rest = divmod(self.exact_of_batch, self.batch)
        return self.exact_of_batch / self.batch if rest else whole

    @property
    def exact_of_batch(self) -> int:
        """Exact multiply-adds of a batch."""
        return sum(layer.exact_of_batch for layer in self.layers)

    def checked(self) -> "Costs":
        """Return the costs. Raise SwapconvError where the formulas and the parameters disagree."""
        if self.params != self.sanity:
            raise SwapconvError(f"the formulas give {self.params} parameters, the network has {self.sanity}")
        return self


def total(costs: Iterable[int | None]) -> int | None:
    """Return the sum of costs; None where one of them is not known."""
    known = list(costs)
    return None if None in known else sum(known)


def scientific(cost: int | float | None) -> str:
    """Return a cost as `5.24564E+09`, or – where it is not known."""
    return "–" if cost is None else f"{cost:.5E}"


def count(model: nn.Module, side: int, batch: int = 128) -> Costs:
    """Return the costs of a forward pass of any network, on whatever device, in evaluation mode. It is left as it was.

    Layers have the names of the network itself, also of one that `weights.load` gives.

    Args: side: rows and columns of an RGB image; batch: images that share the forming of a matrix, in the exact count.
    Raises SwapconvError where the formulas and the network's own parameters disagree.
    """
    model = getattr(model, "wrapped", model)
    _check(model, side, batch)
    training = [module for module in model.modules() if module.training]
    try:
        return counted(model, side, batch)[0]
    finally:
        for module in training:
            module.training = True


def counted(model: nn.Module, side: int, batch: int) -> tuple[Costs, Output]:
    """Return `count` of a network, and its output as `output_shapes` gives it."""
    layers, output = passed(model.eval(), side, batch)
    if batch > 1 and _is_foreign(model):  # in a batch some things run once for all images
        of_all = {each.name: each.exact_of_batch for each in passed(model, side, images=batch)[0]}
        for layer in layers:
            layer.is_shared = 0 < layer.exact_of_batch == of_all[layer.name]
            layer.exact_of_batch = of_all[layer.name]
    stored = sum(tensor.nbytes for name, tensor in model.state_dict().items() if not is_auxiliary(model, name))
    auxiliary = auxiliary_parameters(model)
    layers = [layer for layer in layers if not is_auxiliary(model, layer.name)]
    return Costs(layers, batch, parameter_count(model) - auxiliary, stored, auxiliary).checked(), output


def parameter_count(model: nn.Module) -> int:
    """Return the number of parameters by looking at the tensors."""
    return sum(parameter.numel() for parameter in model.parameters())


def output_shapes(model: nn.Module, side: int) -> Output:
    """Return the network's output for one RGB image, whose tensors have the right shapes over a single number."""
    return passed(model.eval(), side)[1]


def passed(model: nn.Module, side: int, batch: int = 1, images: int = 1) -> tuple[list[Layer], Output]:
    """Return the layers of a network and its output for so many RGB images, of which only shapes are computed.

    A network that is not of ours runs on the meta device, wherever its weights are. Raises RequestError where it cannot, and
    what a network of ours raises.
    """
    if not _is_foreign(model):
        with walk(model, batch) as layers, torch.no_grad():
            output = model(placeholder(Size([1, 3, side, side])))
        return layers, output
    from counting.operations import walk_operations  # imports torch's compiler

    tensors = dict((*model.named_parameters(), *model.named_buffers()))
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    try:
        with walk_operations(model) as layers, torch.no_grad():
            output = functional_call(model, shapes, (torch.empty(images, 3, side, side, device="meta"),))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:  # as libraries' own checks and torch raise
        raise RequestError(f"{_name(model)} cannot be counted at {side}×{side}: {first_line(error)}")
    return layers, output


def _is_foreign(model: nn.Module) -> bool:
    """Return whether a network is not of ours, so that its operations are followed."""
    return not hasattr(model, "swappable") or getattr(model, "foreign", False)


def _check(model: object, side: object, batch: object) -> None:
    """Raise RequestError for arguments of other kinds."""
    if not isinstance(model, nn.Module):
        raise RequestError(f"a torch.nn.Module is wanted, not {type(model).__name__}")
    for name, value in (("side", side), ("batch", batch)):
        if type(value) is not int or not 1 <= value <= MOST:
            raise RequestError(f"{name} is {value!r}: a whole number from 1 to {MOST:,} is wanted")


def _name(model: nn.Module) -> str:
    """Return the name of a foreign network, or that of its class."""
    return model.made[1] if hasattr(model, "made") else type(model).__name__
