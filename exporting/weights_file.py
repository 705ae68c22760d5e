"""A file of safetensors with its configuration, which main.py and `load` read back (weights/own.py)."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

import blocks
from exporting.recorded import as_dense
from layers.dense import Conv
from models.build import build, reference
from models.registry import reference_conv
from system.errors import RequestError
from weights import own
from weights.classifier import Classifier
from weights.origin import origin

if TYPE_CHECKING:
    from exporting.export import Export

TOLERANCE = {True: 1e-4, False: 0.0}  # by whether the blocks are dense: of the largest logit, or of 1


def write(export: Export, path: Path) -> None:
    """Write the weights to a file, load it and check it. Raise RequestError where no configuration builds the network."""
    from safetensors.torch import save

    trained, dense = export.trained, export.request.dense
    config, state = dict(trained.config), trained.network.state_dict()
    if dense:
        network = copy.deepcopy(trained.network)  # its auxiliary heads too: a run may start from it
        config = dense_config(trained.config, network, as_dense(network))
        state = _renamed(network.state_dict(), build(config))
    state = {name: tensor.detach().contiguous().clone() for name, tensor in state.items()}
    metadata = {**export.described(config), **own.described(trained.name, config, state, trained.row)}
    path.write_bytes(save(state, metadata))
    place = f"{path.parent}/{path.name}"
    there = Classifier(place, origin(place, {}, "network"))
    if not dense and there.digest != trained.digest:
        raise RequestError(f"the file has the digest {there.digest}, the network {trained.digest}: it is not written")
    export.compare("the network that was read back", there, TOLERANCE[dense])


def dense_config(config: Mapping[str, Any], dense: nn.Module, replaced: list[str]) -> dict[str, Any]:
    """Return the configuration that builds a network whose replacements have become dense kernels.

    Its conv is `Conv`, but for what was not replaced where a network's own layers are others (DARTS). `biased` names the
    kernels that have a bias where the network itself has none.
    """
    if not replaced:
        return dict(config)
    plain = {**config, "conv": "Conv", "module": None, "where": "", "allocate": None, "biased": None, "gate": None}
    if reference_conv(config["network"]) != "Conv" and {*replaced} < {*blocks.swappable(reference(config))}:
        plain["conv"] = f"^(?:{'|'.join(map(re.escape, replaced))})$=Conv"
    modules = dict(build(plain).named_modules())
    biased = [name for name in replaced if dense.get_submodule(name).bias is not None and modules[name].bias is None]
    return {**plain, "gate": config.get("gate"), "biased": " ".join(biased) or None}


def _renamed(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of dense kernels by the names of the network that will hold them: a `Conv` calls its own `kernel`."""
    kernels = {f"{name}.weight": f"{name}.kernel" for name, each in network.named_modules() if isinstance(each, Conv)}
    places = network.state_dict()
    found = {kernels.get(name, name): tensor for name, tensor in state.items()}
    if missing := next((name for name in places if name not in found), None):
        raise RequestError(f"no configuration builds the dense network: {missing} is missing")
    return {name: tensor for name, tensor in found.items() if name in places}
