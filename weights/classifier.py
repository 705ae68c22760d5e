"""A trained network, ready to classify: `load` finds it by any name that -t takes.

from weights import load
network = load("wrn.teacher")                # or FILE.safetensors of export.py, "torchvision:resnet18", "timm:resnet18.a1_in1k"
image = network.preprocess(Image.open("cat.png"))           # (3, 32, 32), as the tests of its run saw images
logits = network(image[None])                # (1, 10)
network.classes[logits.argmax()], network.config["conv"]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from input import datasets
from input.facts import split
from input.presented import Presented
from input.presented import of as presented_of
from models.libraries import LIBRARIES
from record.paths import checkpoint_path
from system.configuration import Configuration
from system.errors import RequestError, first_line
from weights.origin import Origin, origin, stored
from weights.sources import check_source, is_published, is_run, published_network

PUBLISHED = "imagenet"  # what all published weights were trained on
GRAPHS = (".onnx", ".pt2")  # the ends of names of files of graphs


class Classifier(nn.Module):
    """A trained network in evaluation mode, which returns logits alone.

    `network` is the module itself, which returns `models.output.Output`; `config`, the configuration that builds it; `digest`, that
    of its weights; `row`, what is known of its test.
    """

    def __init__(self, name: str, found: Origin):
        super().__init__()
        self.network, self.name, self.digest = found.network, name, found.digest
        self.config: Mapping[str, Any] = Configuration(dict(found.config))
        self.row = {} if found.test_error is None else {"test_top1_error": found.test_error}
        self.row |= {} if found.epoch is None else {"epoch": found.epoch, "step": found.step}
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, side, side) to logits (B, classes)."""
        return self.network(images).logits

    @property
    def wrapped(self) -> nn.Module:
        """The network itself, by whose names of layers `swap` and `count` go."""
        return self.network

    def note_swap(self, conv: str) -> None:
        """Note that layers of the network have been swapped: no configuration builds it any more."""
        self.config, self.digest, self.row = self.config | {"conv": f"{self.config['conv']}, then {conv}"}, "", {}

    @property
    def side(self) -> int:
        """The rows and columns of the images."""
        return datasets.side_of(self.config)

    @cached_property
    def preprocess(self) -> Presented:
        """What makes an image of Pillow, or bytes (H, W, 3), what the network is given: (3, side, side), on the CPU."""
        return presented_of(self.config)

    @cached_property
    def classes(self) -> tuple[str | int, ...]:
        """The names of the classes by label; their numbers where the configuration does not hold all names."""
        count = datasets.of(self.config).classes
        names = split(self.config.get("data_names") or "") or []
        if len(names) != count and is_published(self.name) and self.name.startswith(LIBRARIES[0]):
            names = _categories(self.name)
        return tuple(names) if len(names) == count else tuple(range(count))

    def extra_repr(self) -> str:
        """Return what PyTorch prints of this module."""
        return f"{self.name}: {self.config['network']} with {self.config['conv']}, {self.config['dataset']}"


def load(source: str, device: torch.device | str = "cpu", image_size: int | None = None) -> Classifier:
    """Return a trained network in evaluation mode.

    Args: source: the name of a run, a checkpoint's path, a file that export.py --to safetensors wrote, or
    torchvision:NAME[:WEIGHTS] and timm:NAME, which are downloaded where they are not there yet; image_size: rows and columns
    of the images of published weights (default: 224). Raise RequestError where there is no such network, MachineFault where
    it is damaged or cannot be fetched. Print a warning where a run has not finished.
    """
    try:
        place = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # as torch says that there is no such device, or no GPU
        raise RequestError(f"load: device {device!r}: {first_line(error)}")
    if not isinstance(source, str):
        raise RequestError(f"load: the name of a run, a file or published weights is wanted, not {source!r}")
    _refuse_graph(source)
    check_source(source, "load:")
    if is_published(source):
        found = origin(source, _published(source, image_size), "network")
    elif image_size is not None:
        raise RequestError(
            f"{source!r} says itself on which images it was trained: image_size is of published weights alone"
        )
    elif stored(source, "network") is None:
        way = (
            "main.py -t takes it with --network and its flags, and --init_from starts a run from it that can be loaded"
        )
        raise RequestError(f"{source} does not say of which network it is: {way}")
    else:
        found = origin(source, {}, "network")
    if found.unfinished:
        print(f"warning: {source} has only finished {found.unfinished}", file=sys.stderr)
    return Classifier(source, found).to(place)


def _refuse_graph(source: str) -> None:
    """Raise RequestError for a file of a graph, as export.py --to onnx and torch write; a run may be called x.pt2."""
    if source.lower().endswith(GRAPHS) and not (is_run(source) and checkpoint_path(source).exists()):
        takes = "a run, a file of safetensors that export.py wrote, or published weights"
        raise RequestError(f"load: {source!r} is called as a file of a graph is: load takes {takes}")


def _published(source: str, image_size: int | None) -> dict[str, Any]:
    """Return the configuration of a run for which published weights are fetched."""
    side = image_size or datasets.DATASETS[PUBLISHED].presets["image_size"]
    asked = {"dataset": PUBLISHED, "image_size": side, "seed": 0, "network": published_network(source)}
    return asked | {"conv": "Conv", "module": None, "where": ""}


def _categories(source: str) -> list[str]:
    """Return the names of the classes that torchvision publishes with weights."""
    from weights.pretrained import published_entry

    return published_entry(source).meta.get("categories", [])
