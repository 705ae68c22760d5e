"""Hide a computation from torch.jit.trace, by which other libraries count networks; know whether something records one.

with untraced():
    pixels = x.shape[0] * x.shape[2] * x.shape[3]      # a plain integer, also while a network is traced
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


@contextmanager
def _without_recording() -> Iterator[None]:
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)


def untraced() -> AbstractContextManager:
    """Return a context in which torch.jit.trace records nothing: shapes are integers, new tensors are constants."""
    return _without_recording() if torch.jit.is_tracing() else nullcontext()


def recorded() -> bool:
    """Return whether a compiler, a tracer, a counter or a transform such as torch.func.vmap sees each operator that runs."""
    by_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return by_graph or is_in_torch_dispatch_mode() or torch._C._are_functorch_transforms_active()


def exporting() -> bool:
    """Return whether torch.export records the network, as a graph for other programs and for batches of any size.

    What is recorded then has torch's own operators alone, keeps nothing, and takes no decision by the size of a batch.
    """
    return torch.compiler.is_exporting()
