"""The matrices of a network's maps, formed one after the other before a pass.

    with formed_ahead(maps_of(network)):
        output = network(x)

Where each layer forms its own, activations have driven from a CPU's caches what the many small operators need, so that they
take two to five times as long. Gradients of what is formed first are taken last, one after the other too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from layers.base import ChannelMap


def maps_of(network: nn.Module) -> list[ChannelMap]:
    """Return the maps of a network that form a matrix, as `ChannelMap.forward` does."""
    maps = (module for module in network.modules() if isinstance(module, ChannelMap))
    return [each for each in maps if type(each).forward is ChannelMap.forward]


@contextmanager
def formed_ahead(maps: Sequence[ChannelMap]) -> Iterator[None]:
    """Within this context, let each map take the matrix that was formed at its start, once."""
    for each in maps:
        each.form_ahead()
    try:
        yield
    finally:
        for each in maps:
            each._kept.take_ahead()
