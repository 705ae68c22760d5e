"""What export.py does: load the network, write the file beside where it is to be, check it, and put it in its place.

export_network(request)                      # the exit status; RequestError where the network cannot be exported
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor, nn

from exporting.recorded import Exported, as_dense, without_training
from exporting.registry import FORMATS, LEAST_OPSET, Format
from models.dense import replacements
from models.registry import describe
from system.configuration import Configuration
from system.errors import RequestError
from system.files import write_new
from training.report import conv_and_gate, versions
from weights.classifier import Classifier, load

BATCHES = (1, 3, 8)  # images with which a file is checked


class Export:
    """A trained network, how it is exported, and what its logits have to be."""

    def __init__(self, request: Configuration, trained: Classifier):
        self.request, self.trained = request, trained
        self.exported = Exported(trained, request.dense, request.with_preprocessing)
        self.largest_error = 0.0

    def described(self, config: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Return what a file says of itself, as texts. Args: config: which builds what is in it, if not that of the run."""
        trained, presented, epoch = self.trained, self.trained.preprocess, self.trained.row.get("epoch")
        pixels = "float32 (B, 3, {0}, {0}), pixels in 0..1" if self.exported.normalises else (
            "float32 (B, 3, {0}, {0}), pixels in 0..1 less the mean, divided by the deviation"
        )  # fmt: skip
        said = {
            "name": trained.name,
            "network": describe(trained.config),
            "conv": conv_and_gate(config or trained.config, whole=True),
            "form": form_of(self.request),
            "dataset": trained.config["dataset"],
            "images": f"{pixels.format(trained.side)}; before that {presented.said()}",
            "mean": json.dumps(presented.mean),
            "std": json.dumps(presented.std),
            "classes": json.dumps(trained.classes),
            "digest": trained.digest,
            **({"training": f"{epoch} of {trained.config['epochs']} epochs"} if epoch is not None else {}),
            "versions": json.dumps(versions()),
        }
        return said

    def what(self) -> str:
        """Return in words which network it is."""
        config = self.trained.config
        return f"{describe(config)} with {conv_and_gate(config, whole=True)}, {config['dataset']}"

    @torch.no_grad()
    def compare(self, what: str, other: Callable[[Tensor], Tensor], tolerance: float) -> None:
        """Raise RequestError where other logits differ from torch's by more than a share of the largest, or of 1."""
        for batch in BATCHES:
            images = self.exported.images(batch, seed=batch)
            given = (images - self.exported.mean) / self.exported.std if self.exported.normalises else images
            expected, found = self.trained(given), other(images)
            if found.shape != expected.shape:
                raise RequestError(f"{what} gives logits of shape {tuple(found.shape)}, torch {tuple(expected.shape)}")
            error = ((found - expected).abs().max() / expected.abs().max().clamp(min=1)).item()
            if not error <= tolerance:  # also of nan
                raise RequestError(
                    f"{what} differs from the network by {error:.1e} of the largest logit: nothing is written"
                )
            self.largest_error = max(self.largest_error, error)


def export_network(request: Configuration) -> int:
    """Write the file that a request asks for. Return the exit status.

    Raise RequestError where the network is not there or cannot be exported, or a package is missing; nothing is written then.
    """
    form = FORMATS[request.to]
    check_installed(request.to, form)
    export = Export(request | {"opset": request.opset or LEAST_OPSET}, load(request.name))
    path = request.output
    write_new(path, partial(resolve_name(form.target), export))
    print(f"{path}: {path.stat().st_size:,} bytes, {form_of(request)}; {sizes(export)}")
    error, batches = export.largest_error, ", ".join(map(str, BATCHES))
    print(f"{export.what()}: logits within {error:.0e} of the largest of torch's, for batches of {batches}")
    return 0


def form_of(request: Configuration) -> str:
    """Return whether blocks are exported as they are."""
    return "dense" if request.dense else "structured"


def check_installed(to: str, form: Format) -> None:
    """Raise RequestError where a package is not installed that a format needs."""
    if missing := [name for name in form.packages if find_spec(name) is None]:
        raise RequestError(f"--to {to} needs {' and '.join(missing)}: python -m pip install -r requirements.txt")


def sizes(export: Export) -> str:
    """Return in words how many bytes the parameters of the network take as they are, and dense."""
    network = without_training(export.trained.network)
    blocks, own = bool(replacements(network)), nbytes(network)
    try:
        as_dense(network)
    except RequestError:
        return f"its parameters take {own:,}, and have no dense form"
    return f"its parameters take {own:,}" + (f" as blocks, {nbytes(network):,} dense" if blocks else "")


def nbytes(network: nn.Module) -> int:
    """Return how many bytes parameters and buffers take."""
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
