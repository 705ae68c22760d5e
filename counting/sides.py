"""On which sizes of images a network can be trained.

check_side(config)                           # RequestError, with the sizes that are possible
"""

from functools import cache

import torch
from torch import nn

from counting.measure import passed
from counting.shapes import Layer
from input import datasets
from models import build, registry
from models.build import size_of
from system.errors import RequestError, first_line

SIDES = (8, 16, 24, 28, 32, 48, 64, 96)  # tried, to say which are possible


def check_side(config: dict) -> None:
    """Raise RequestError where a network cannot be trained on a folder's images, with the sizes that are possible."""
    if not datasets.is_own(config["dataset"]):
        return
    side = datasets.side_of(config)
    if not (why := _unfit(config, side)):
        return
    sides = [str(each) for each in SIDES if not _unfit(config, each)]
    others = [name for name in registry.NETWORKS if not _unfit(_of_presets(config, name), side)]
    ways = [f"--image_size {' or '.join(sides)}" if sides else "", f"--network {' or '.join(others)}" if others else ""]
    raise RequestError(
        f"--network {config['network']} does not take images of {side}×{side} ({why}); possible are "
        f"{', '.join(filter(None, ways)) or 'none'}"
    )


def _of_presets(config: dict, network: str) -> dict:
    entry = registry.NETWORKS[network]
    return {**config, "network": network, **{flag: entry.presets.get(flag) for flag in entry.building_flags}}


def _unfit(config: dict, side: int) -> str:
    """Return why the network cannot be trained on images of a side; empty where it can."""
    return _unfit_at(size_of({**config, "image_size": side}), side)


@cache
def _unfit_at(size: tuple[tuple[str, object], ...], side: int) -> str:
    try:
        with torch.device("meta"):
            network = build.plain(dict(size), classes=2)
        layers_in_training(network, side)
    except (RuntimeError, ValueError) as error:
        return getattr(error, "why", None) or first_line(error)
    return ""


def layers_in_training(network: nn.Module, side: int) -> list[Layer]:
    """Return the layers of a network in training, with the shapes that they are given for one RGB image.

    Raises RuntimeError or ValueError where the network cannot take images of that side.
    """
    training = network.training
    try:
        return passed(network.train(), side, images=2)[0]
    finally:
        network.train(training)


def needs_two(network: nn.Module, side: int) -> bool:
    """Return whether a batch-norm in training gets one value a channel of each image, so that it needs two images."""
    return any(
        layer.kind.startswith("BatchNorm") and layer.input is not None and layer.input[1:] == (1, 1)
        for layer in layers_in_training(network, side)
    )
