"""What torch's functions do to channels, by their names, as `gates/trace.py` hears of them.

name_of(F.hardtanh, (x, 0.0, 6.0), {})                   # "relu6"
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

RELUS = {"relu", "relu_", "relu6"}
# What acts on each channel alone and makes 0 of 0, by the names of torch's functions.
CHANNELWISE = RELUS | {"hardtanh"} | {
    "leaky_relu", "leaky_relu_", "elu", "elu_", "silu", "hardswish", "gelu", "mish", "tanh", "dropout", "dropout2d",
    "_max_pool2d", "max_pool2d", "boolean_dispatch", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "_adaptive_max_pool2d",
    "contiguous", "clone", "to", "float", "type_as", "interpolate", "detach", "neg", "abs", "identity", "div", "truediv", "__truediv__",
}  # fmt: skip
SUMS = {"add", "add_", "sub", "sub_", "__add__", "__iadd__", "__radd__", "__sub__", "__isub__"}
INPLACE = {"__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__"}
PRODUCTS = {"mul", "mul_", "__mul__", "__rmul__", "__imul__"}
FLATTENING = {"flatten", "view", "reshape", "squeeze"}
JOINING = {"cat", "concat", "concatenate"}
OVER_PIXELS = {"mean", "amax", "max", "sum"}


def name_of(function: Callable, args: Sequence, kwargs: Mapping) -> str:
    """Return the name of a function. A hardtanh is a relu6 if its lower bound is 0, and "clamp" where 0 is beyond its bounds."""
    name = getattr(function, "__name__", "")
    if not name.startswith("hardtanh"):
        return name
    low, high = _bounds(args, kwargs)
    return "relu6" if low == 0 <= high else "hardtanh" if low <= 0 <= high else "clamp"


def _bounds(args: Sequence, kwargs: Mapping) -> tuple[float, float]:
    """Return the bounds of a hardtanh, which are −1 and 1 where none are given."""
    given = dict(zip(("min_val", "max_val"), args[1:])) | dict(kwargs)
    return given.get("min_val", -1.0), given.get("max_val", 1.0)


def writes(name: str) -> bool:
    """Return whether a function of torch's writes over its first argument, by its name."""
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) or name in INPLACE


def is_over_pixels(args: Sequence, kwargs: Mapping) -> bool:
    """Return whether a reduction of (B, C, H, W) is over rows and columns."""
    dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if not isinstance(dims, (tuple, list)) or args[0].dim() != 4:
        return False
    return {each % 4 for each in dims} == {2, 3}


def tensors_in(value) -> list[Tensor]:
    """Return the tensors in nested lists and tuples."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [tensor for each in value for tensor in tensors_in(each)]
    return []
