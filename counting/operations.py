"""What a foreign network costs, operation by operation: a pass on the meta device, where nothing is allocated.

    with walk_operations(network.eval()) as layers:
        output = network(torch.empty(1, 3, 224, 224, device="meta"))

Convolutions, linear maps, batch-norms and replacements are counted by their own rules (counting/shapes.py). Whatever
else runs is counted by torch's own FLOP counter (halved: a multiply-add is two) and stands in the row of the module that
runs it; so do parameters of modules that are never called, such as those that attention reads.

The published convention knows, beside those, ReLU (its elements), pooling (C·k²·side² of the output), and what costs
nothing there: additions, moving data, dropout, batch-norm, ReLU6, the mean over pixels before a classifier, and
whatever prepares the image before the first layer. A row in which anything else runs has no published figure.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import Size, Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from counting.shapes import Layer, kind, plain_rule, recorder, rule_parameters
from models.output import is_auxiliary

# By names of torch's operators, without a trailing underscore (the same in place).
ADDED = {"add", "sub", "sum", "mean"}
MOVED = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "expand", "slice", "select", "cat", "stack",
    "clone", "copy", "_to_copy", "contiguous", "unsqueeze", "squeeze", "split", "split_with_sizes", "chunk", "unbind",
    "constant_pad_nd", "roll", "index", "index_select", "detach", "alias", "lift_fresh", "empty", "zeros", "ones", "full",
    "new_zeros", "new_empty", "new_full", "zeros_like", "ones_like", "empty_like", "full_like", "fill", "zero", "arange",
    "scalar_tensor", "as_strided", "unfold", "flip", "pixel_unshuffle", "pixel_shuffle", "channel_shuffle", "native_channel_shuffle",
    "repeat",
}  # fmt: skip
NORMALISED = {"native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "cudnn_batch_norm",
              "_batch_norm_no_update", "_batch_norm_with_update", "batch_norm"}  # fmt: skip
AVERAGED = {"_adaptive_avg_pool2d", "adaptive_avg_pool2d"}
FREE = ADDED | MOVED | NORMALISED | AVERAGED | {"native_dropout", "dropout"}
POOLED = {"max_pool2d_with_indices", "max_pool2d", "avg_pool2d"}


@contextmanager
def walk_operations(model: nn.Module) -> Iterator[list[Layer]]:
    """Within this context, let every module and operation of a network on the meta device record its costs for its input.

    Yields the list of layers, complete and in the order of the modules when the context ends.
    """
    rows, counted = {name: Layer(name, kind(each), 0) for name, each in model.named_modules()}, []
    parameters: dict[str, int] = {}
    inside: set[nn.Module] = set()
    operations = _Operations(rows)
    for name, module in model.named_modules():
        if module in inside:
            continue
        rule = plain_rule(module, 1)
        parameters[name] = rule_parameters(module) if rule is not None else _own_parameters(module)
        if rule is not None:
            inside.update(module.modules())
            module.forward = partial(operations.begun, recorder(rule, rows[name]))
        else:
            module.forward = partial(operations.run, name, module.forward)
        counted.append(module)
    layers: list[Layer] = []
    try:
        with operations:
            yield layers
        heads = {name for name in parameters if is_auxiliary(model, f"{name}.")}
        for name, number in parameters.items():
            rows[name if name in heads else _nearest_called(name, rows)].parameters += number
        found = [row for row in rows.values() if row.parameters or row.mult_adds or row.exact_of_batch or row.outside]
        for row in found:
            row.mult_adds = None if row.outside else row.mult_adds
        layers += found
    finally:
        for module in counted:
            del module.forward


def _own_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters(recurse=False))


def _nearest_called(name: str, rows: dict[str, Layer]) -> str:
    """Return the name of a module that was run, or else of the innermost one around it that was."""
    while name and rows[name].input is None:
        name = name.rpartition(".")[0]
    return name


class _Operations(TorchDispatchMode):
    """Count what runs in the row of the innermost module that runs it. `rows` are by the names of modules."""

    def __init__(self, rows: dict[str, Layer]):
        super().__init__()
        self.rows = rows
        self.running: list[str] = []
        self.has_begun = False  # whether the first layer has run; before, the image is prepared

    def begun(self, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Run a layer that has a rule."""
        self.has_begun = True
        return forward(x)

    def run(self, name: str, forward: Callable, *inputs, **keywords):
        """Run a module that has none."""
        self.running.append(name)
        try:
            output = forward(*inputs, **keywords)
        finally:
            self.running.pop()
        row = self.rows[name]
        row.input, row.output = _size_of(inputs), _size_of(output)
        return output

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        output = operator(*args, **kwargs or {})
        if self.running:
            row, packet = self.rows[self.running[-1]], operator._overloadpacket
            if packet in flop_registry:
                self.has_begun = True  # a convolution of a class of its own has no rule
                row.exact_of_batch += flop_registry[packet](*args, **kwargs or {}, out_val=output) // 2
            self._publish(row, packet.__name__.rstrip("_"), args, output)
        return output

    def _publish(self, row: Layer, name: str, args: tuple, output) -> None:
        """Add what an operation costs by the published convention, or note that the convention does not know it."""
        if name in FREE or not self.has_begun or (name == "hardtanh" and args[1:3] == (0, 6)):
            return
        if name == "convolution" and args[1].dim() == 4 and not args[6]:
            row.mult_adds += _published_convolution(*args[:5])
        elif name == "relu":
            row.mult_adds += output.numel()
        elif name in POOLED:
            first = output[0] if isinstance(output, tuple) else output
            window = args[1] if len(args[1]) == 2 else (*args[1], *args[1])
            row.mult_adds += first.numel() * window[0] * window[1]
        elif not _of_numbers_alone(args):
            row.outside.add(name.lstrip("_"))


def _published_convolution(x: Tensor, weight: Tensor, bias, stride: list[int], padding: list[int]) -> int:
    """Return the kernel's entries times the pixels of the output without dilation, for (1, i, H, W)."""
    sides = zip(x.shape[2:], weight.shape[2:], stride * 2, padding * 2)
    rows, columns = ((side + 2 * pad - reach) // step + 1 for side, reach, step, pad in sides)
    return weight.numel() * rows * columns


def _of_numbers_alone(args: tuple) -> bool:
    """Return whether an operation is given no features: it makes an index or a mask of constants."""
    tensors = [each for each in args if isinstance(each, Tensor)]
    return not any(tensor.is_floating_point() for tensor in tensors)


def _size_of(value) -> Size:
    """Return the shape for one image of the first tensor in what a module is given or returns."""
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value.shape[1:] if isinstance(value, Tensor) else Size()
