"""The network that a graph is recorded of: images in, logits out, nothing that only training uses.

network = Exported(load("wrn.teacher"), dense=False, normalises=True)
program = record(network)                    # of torch.export, for batches of any size
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from layers.base import Block
from layers.seeded import Seeded
from layers.variational import Variational
from models.dense import densify
from models.output import auxiliary_heads
from system.errors import RequestError, first_line
from weights.classifier import Classifier

BATCH = 2  # of the images that a graph is recorded with
OF_PYTHON = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn")  # which name files of this machine


class Exported(nn.Module):
    """A copy of a trained network as it is exported.

    Layers of distributions are the convolutions that tests use, auxiliary heads are gone. Args: dense: whether every block is
    the dense kernel that it equals; normalises: whether it takes pixels in 0..1. Raise RequestError where a layer has no
    dense kernel.
    """

    def __init__(self, trained: Classifier, dense: bool, normalises: bool):
        super().__init__()
        self.side, self.normalises = trained.side, normalises
        self.network = without_training(trained.network)
        densify(self.network, Variational)
        if dense:
            as_dense(self.network)
        if normalises:
            for key in ("mean", "std"):
                values = torch.tensor(getattr(trained.preprocess, key), dtype=torch.float32)
                self.register_buffer(key, values.view(3, 1, 1))
        for module in self.modules():
            if isinstance(module, Seeded):
                module.pack()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, side, side) to logits (B, classes)."""
        return self.network((images - self.mean) / self.std if self.normalises else images).logits

    def images(self, batch: int, seed: int = 0) -> Tensor:
        """Return random images such as it takes."""
        draw = torch.rand if self.normalises else torch.randn
        return draw(batch, 3, self.side, self.side, generator=torch.Generator().manual_seed(seed))


def without_training(network: nn.Module) -> nn.Module:
    """Return a copy without auxiliary heads, which evaluation never calls."""
    network = copy.deepcopy(network)
    for head in auxiliary_heads(network):
        network.set_submodule(head, nn.Identity())
    return network


def as_dense(network: nn.Module) -> list[str]:
    """Make every block dense, in place, and return their names. Raise RequestError where a layer has no dense kernel."""
    for name, module in network.named_modules():
        if getattr(module, "of_user", False) and not isinstance(module, Block):
            raise RequestError(
                f"--dense: {name} is a convolution of your own (--module), which is no Block: it has no dense kernel"
            )
    try:
        return densify(network)
    except RequestError as error:
        raise RequestError(f"--dense: {error}")


@contextmanager
def _followed(network: nn.Module) -> Iterator[list[str]]:
    """Yield a list whose last entry is the innermost layer that was called last."""
    entered: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: entered.append(name))
        for name, module in network.named_modules()
        if name
    ]
    try:
        yield entered
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def record(exported: Exported) -> torch.export.ExportedProgram:
    """Return the program of a network, for batches of any size. Raise RequestError where torch.export does not record it."""
    sizes = {"images": {0: torch.export.Dim("batch")}}
    with _followed(exported.network) as entered, warnings.catch_warnings(action="ignore"):
        try:
            program = torch.export.export(exported, (exported.images(BATCH),), dynamic_shapes=sizes, strict=False)
        except Exception as error:  # of torch's, or whatever a layer of the user's own raises
            where = f"the layer {entered[-1]}" if entered else "the network"
            raise RequestError(f"torch.export does not record {where} ({first_line(error)}): {_way(exported)}")
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            for key in OF_PYTHON:
                node.meta.pop(key, None)
    return program


def _way(exported: Exported) -> str:
    if any(isinstance(module, Block) for module in exported.modules()):
        return "--dense may do, --to safetensors needs no graph"
    return "--to safetensors needs no graph"
