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
from functools import cache
from types import ModuleType

import torch
from torch import Size, nn

import blocks
import cli
import datasets
import models
from errors import MachineFault, RequestError, SwapconvError, first_line
from initial import materialise
from layers.base import Block, ConvSpec
from names import parse_conv
from presets import PRESETS
from shapes import Layer, nothing, walk


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
    check_side(config)
    conv = UserConv(config["module"]) if config["module"] else parse_conv(config["conv"])
    with torch.device("meta"):
        network = models.build(config, datasets.of(config).classes)
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
        return models.build(config, datasets.of(config).classes)


def reference_parameters(config: dict) -> int:
    """How many parameters it has; counted once for each network and size, as comparisons ask often."""
    return _reference_parameters(_size(config), datasets.of(config).classes)


@cache
def _reference_parameters(size: tuple[tuple[str, object], ...], classes: int) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in models.build(dict(size), classes).parameters())


def _size(config: dict) -> tuple[tuple[str, object], ...]:
    """The network of a configuration and the flags of its size."""
    return tuple((flag, config[flag]) for flag in ("network", *models.NETWORKS[config["network"]][1].values()))


SIDES = (8, 16, 24, 28, 32, 48, 64, 96)  # that are tried, to say what would do


def check_side(config: dict) -> None:
    """RequestError where a network cannot be trained on images of the side that a folder's have, with what would do."""
    if not datasets.is_own(config["dataset"]):
        return
    side = datasets.side_of(config)
    if not (why := _unfit(config, side)):
        return
    sides = [str(each) for each in SIDES if not _unfit(config, each)]
    others = [name for name in models.NETWORKS if not _unfit(_of_presets(config, name), side)]
    ways = [f"--image_size {' or '.join(sides)}" if sides else "", f"--network {' or '.join(others)}" if others else ""]
    raise RequestError(
        f"--network {config['network']} does not take images of {side}×{side} ({why}); possible are "
        f"{', '.join(filter(None, ways)) or 'none'}"
    )


def _of_presets(config: dict, network: str) -> dict:
    flags = models.NETWORKS[network][1].values()
    return {**config, "network": network, **{flag: PRESETS[network].get(flag) for flag in flags}}


def _unfit(config: dict, side: int) -> str:
    """Why the network cannot be trained on images of a side; empty where it can."""
    return _unfit_at(_size(config), side)


@cache
def _unfit_at(size: tuple[tuple[str, object], ...], side: int) -> str:
    with torch.device("meta"):
        network = models.build(dict(size), classes=2)
    try:
        trained(network, side)
    except (RuntimeError, ValueError) as error:
        return first_line(error)
    return ""


def trained(network: nn.Module, side: int) -> list[Layer]:
    """What the layers of a network see of one RGB image as it is trained. RuntimeError or ValueError where its side does not
    do."""
    training = network.training
    try:
        with walk(network.train(), 1) as layers, torch.no_grad():
            network(nothing(Size([1, 3, side, side])))
    finally:
        network.train(training)
    return layers


def needs_two(network: nn.Module, side: int) -> bool:
    """Whether a batch-norm sees a single value a channel of each image in training: of one image alone it has no deviation."""
    return any(
        layer.kind == "BatchNorm2d" and layer.input is not None and layer.input[1:] == (1, 1)
        for layer in trained(network, side)
    )
