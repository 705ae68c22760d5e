"""Weights of a network that a library builds (models/library.py): they have its own names, so nothing is paired.

    names = possible("timm:resnet18.a1_in1k", config)            # ["timm:resnet18"]
    found = fitted("timm:resnet18.a1_in1k", state, names[0], config)

A file that was saved from such a network has these names too.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from input import datasets
from models import build
from models.libraries import is_of_library
from models.output import is_auxiliary
from models.registry import NETWORKS, size_flags, tap_flags
from system.errors import RequestError
from weights.modules import shape_text
from weights.sources import is_published, published_network


class Match(NamedTuple):
    """The network that weights fit: its configuration, its state by our names, and a text or table that tells how."""

    config: dict
    state: dict[str, Tensor]
    table: str


class Misfit(RequestError):
    """The weights are not of the library's network."""


# Published weights that networks of ours take.
OURS = {
    *(f"torchvision:{name}" for name in ("mobilenet_v2", "wide_resnet50_2", "squeezenet1_1")),
    *(
        f"timm:{name}"
        for name in ("wide_resnet50_2", *(f"mobilenetv2_{width}" for width in ("035", "050", "075", "100", "140")))
    ),
}


LARGE_SIDES_ONLY = ("AuxLogits.",)  # Inception's auxiliary head, which only training on large images has


def is_ours(source: str) -> bool:
    """Return whether a network of ours may take weights: those of a file, and some that libraries publish."""
    return not is_published(source) or published_network(source) in OURS


def possible(source: str, config: dict) -> list[str]:
    """Return the networks of libraries that weights may be of: the one that they are named by, or is asked for."""
    name = published_network(source) if is_published(source) else config["network"]
    return [name] if is_of_library(name) else []


def fitted(source: str, state: Mapping[str, Tensor], name: str, config: dict) -> Match:
    """Return the weights called `source` as those of the network library:NAME for the dataset of `config`.

    Raises Misfit where they are of another network, RequestError where they are of other classes or for another side.
    """
    asked = {key: config.get(key) for key in ("dataset", "data_classes", "image_size", "seed")}
    presets = {flag: NETWORKS[name].presets[flag] for flag in NETWORKS[name].building_flags}
    there = {**asked, **dict.fromkeys((*size_flags(), *tap_flags())), **presets}
    there |= {"network": name, "conv": "Conv", "module": None, "where": ""}
    with torch.device("meta"):
        network = build.plain(there, datasets.of(config).classes)
    places = network.state_dict()
    heads = {each for each in places if is_auxiliary(network, each)}
    optional = {each for each in places if each.endswith("num_batches_tracked")}
    missing = [each for each in places if each not in state and each not in heads | optional]
    if partly := heads & state.keys():
        missing += [each for each in places if each in heads - optional and each not in partly]
    over = [each for each in state if each not in places and not each.startswith(LARGE_SIDES_ONLY)]
    if missing or over:
        left = [(over, "of theirs are left over"), (missing, "of the network's are missing")]
        shown = [f"{len(names):,} {what}, first {names[0]}" for names, what in left if names]
        raise Misfit(f"{source} is no {name}: by their names {' and '.join(shown)}")
    _check_shapes(source, state, name, network)
    used = {each: tensor for each, tensor in state.items() if each in places}
    lines = [f"{source} is a {name}: its {len(used):,} tensors have the library's own names"]
    if heads and not partly:
        lines.append("it has no auxiliary head, which only training uses: that keeps its initial weights")
    return Match(there, used, "\n".join(lines))


def _check_shapes(source: str, state: Mapping[str, Tensor], name: str, network: torch.nn.Module) -> None:
    """Raise RequestError where the classifier has another number of classes, Misfit where another tensor differs."""
    heads = tuple(f"{head}." for head in (*network.anatomy.heads, *network.auxiliary_heads()))
    places = network.state_dict().items()
    other = [(each, place) for each, place in places if each in state and state[each].shape != place.shape]
    for each, place in sorted(other, key=lambda pair: pair[0].startswith(heads)):
        shapes = f"{each} is {shape_text(state[each].shape)} there, {shape_text(place.shape)} here"
        if not each.startswith(heads):
            raise Misfit(f"{source} is no {name} for these images: {shapes}")
        classes = f"{len(state[each])} classes, not of {len(place)}"
        raise RequestError(f"{source} is a {name} of {classes} ({shapes})")
