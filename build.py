"""From a resolved configuration to a network.

    config = {"dataset": "cifar10", "network": "WideResNet", "wrn_depth": 28, "wrn_width": 10.0, "AT_split": 1,
              "conv": "SepHashed_0.1", "module": None, "where": "", "seed": 0}
    network = build(config)                      # on the meta device: no memory, no time
    network = materialise(network, 0)     # memory and initial weights

The configuration is what a checkpoint keeps, so a teacher is rebuilt from it the same way.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import nn

import blocks
import cli
import models
from datasets import DATASETS
from errors import MachineFault, RequestError, SwapconvError, first_line
from initial import materialise
from layers.base import Block, ConvSpec
from names import parse_conv


class UserConv:
    """The class `Conv` of a user's file (`--module`), called with Conv2d's arguments by keyword.

    It initialises itself. Whatever it names in a method `structured_parameters()` has its weight decay scaled.
    """

    def __init__(self, path: str):
        self.path = path
        module = sys.modules["user_module"] = ModuleType("user_module")
        module.__file__ = path
        try:
            exec(compile(cli.read_file(path), path, "exec"), vars(module))
        except RequestError as error:
            raise RequestError(f"--module {error}")
        except (Exception, SystemExit) as error:  # whatever a user's file may raise while it is read
            where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            raise RequestError(f"--module {path}{where}: {type(error).__name__}: {first_line(error)}")
        self.cls = getattr(module, "Conv", None)
        if not (isinstance(self.cls, type) and issubclass(self.cls, nn.Module)):
            raise RequestError(f"--module {path} defines no torch module named Conv")

    def build(self, spec: ConvSpec, key: int) -> nn.Module:
        """One of the user's convolutions on the CPU, from a random state of its own."""
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(key)
            try:
                built = self.cls(**vars(spec))
            except Exception as error:
                raise ValueError(f"{type(error).__name__}: {first_line(error)}")
        built.of_user, built.initialises_itself = True, not isinstance(built, Block)
        return built

    def __str__(self) -> str:
        return f"Conv of {self.path}"


@contextmanager
def of_module(config: dict) -> Iterator[None]:
    """Whatever a forward pass of the user's module may raise becomes a RequestError that names its file."""
    try:
        yield
    except SwapconvError:
        raise
    except Exception as error:
        if not config["module"]:
            raise
        raise RequestError(f"--module {config['module']}: {type(error).__name__}: {first_line(error)}")


def build(config: dict) -> nn.Module:
    """The network with its swaps, on the meta device. RequestError where a layer cannot take them."""
    conv = UserConv(config["module"]) if config["module"] else parse_conv(config["conv"])
    with torch.device("meta"):
        network = models.build(config, DATASETS[config["dataset"]].classes)
        blocks.substitute(network, conv, config["where"], config["seed"])
    return network


def restore(name: str, saved: dict, **changes) -> nn.Module:
    """The trained network of the run `name` from its checkpoint, on the CPU, with `changes` of its configuration.

    RequestError where the user's module that it was built with is not what it was or its weights are not finite,
    MachineFault where the checkpoint is damaged inside.
    """
    config = saved["config"]
    if module := config.get("module"):
        try:
            changed = cli.file_digest(module) != config.get("module_digest")
        except RequestError as error:
            raise RequestError(f"the run {name!r} was built with --module: {error}")
        if changed:
            raise RequestError(f"the run {name!r} needs {module} as it was when it was trained")
    try:
        network = materialise(build({**config, **changes}), config["seed"])
        network.load_state_dict(saved["model"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise MachineFault(f"the checkpoint of {name!r} does not fit its configuration: {' '.join(str(error).split())}")
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise RequestError(f"the weights of the run {name!r} are not finite")
    return network


def reference(config: dict) -> nn.Module:
    """The same network with nothing swapped, on the meta device: what the compression ratio divides by."""
    with torch.device("meta"):
        return models.build(config, DATASETS[config["dataset"]].classes)
