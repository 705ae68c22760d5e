"""A user's own convolution, from a Python file (`--module FILE`).

UserConv("mine.py").build(ConvSpec(16, 32, 3, padding=1), key=0)
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from layers.base import Replacement
from layers.spec import ConvSpec
from system.errors import RequestError, SwapconvError, first_line
from system.user_code import module_of


class UserConv:
    """The class `Conv` of a user's file, called with Conv2d's arguments by keyword.

    An instance initialises itself, unless it is a `layers.base.Replacement`. The weight decay of what its method
    `structured_parameters()` returns, if it has one, is scaled.
    """

    def __init__(self, path: str):
        self.path = path
        self.cls = getattr(module_of("--module", path), "Conv", None)
        if not (isinstance(self.cls, type) and issubclass(self.cls, nn.Module)):
            raise RequestError(f"--module {path} defines no torch module named Conv")

    def build(self, spec: ConvSpec, key: int) -> nn.Module:
        """Return one of the user's convolutions on the CPU. Raise ValueError where the class cannot be called."""
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(key)
            try:
                built = self.cls(**vars(spec))
            except Exception as error:
                raise ValueError(f"{type(error).__name__}: {first_line(error)}")
        built.of_user, built.initialises_itself = True, not isinstance(built, Replacement)
        return built

    def __str__(self) -> str:
        return f"Conv of {self.path}"


@contextmanager
def of_module(config: dict) -> Iterator[None]:
    """Turn whatever a forward pass of the user's module raises into a RequestError that names its file."""
    try:
        yield
    except SwapconvError:
        raise
    except Exception as error:
        if not config["module"]:
            raise
        raise RequestError(f"--module {config['module']}: {type(error).__name__}: {first_line(error)}")
