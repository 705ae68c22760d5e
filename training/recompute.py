"""Activations that are recomputed in the backward pass instead of kept: Chen et al. 2016 (1604.06174).

    recompute(network)      # every segment that the network lists

This trades a second forward pass for memory and does not change the result: random draws repeat themselves, and
batch-norm statistics are updated once a step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(network: nn.Module) -> None:
    """Have a training step keep only what goes in and out of the network's `segments()`."""
    for name in network.segments():
        segment = network.get_submodule(name)
        segment.forward = partial(_forward, segment, segment.forward)


def _forward(segment: nn.Module, forward: Callable, *inputs, **keywords):
    if not torch.is_grad_enabled():
        return forward(*inputs, **keywords)
    contexts = lambda: (nullcontext(), _statistics_kept(segment))  # noqa: E731
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **keywords)


@contextmanager
def _statistics_kept(segment: nn.Module) -> Iterator[None]:
    """Let batch-norms update copies of their running statistics, which are then thrown away."""
    norms = [module for module in segment.modules() if isinstance(module, _BatchNorm)]
    buffers = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
