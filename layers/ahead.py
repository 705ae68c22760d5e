"""The matrices of a network's maps, formed one after the other before a pass.

    with formed_ahead(maps_of(network)):
        output = network(x)

Many small operators form a matrix. Where each layer forms its own, the activations of the layers before have filled a CPU's
caches, and the operators take two to five times as long. So do their gradients, which are taken one after the other too: last,
as what was formed first.
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
    """Within this context, let each map take the matrix that was formed at its start, once.

    Nothing may write to the parameters of the maps between that and the end of the pass.
    """
    try:
        for each in maps:
            each.form_ahead()
        yield
    finally:
        for each in maps:
            each._kept.take_ahead()
