"""Any network with structured convolutions in the places of its own, in Python: `from weights import swap`.

small = swap(torchvision.models.resnet18(), "SepHashed_0.1", where="layer3")
near = swap(trained, "SepHashed_0.5", where="layer3", approximate=True)
"""

import copy

from torch import nn

from blocks import substitute
from layers.mixed import parse_name
from weights import approximation


def swap(model: nn.Module, conv: str, where: str = "", seed: int = 0, approximate: bool = False) -> nn.Module:
    """Return a copy of a network with every swappable layer replaced in whose dotted name `where` is found.

    A network of `--network` or of `load` says itself what may be swapped. Of any other all square convolutions of one group and all
    Linear layers are, its first convolution and its classifier too: `where` leaves them out.

    Args: conv: as of --conv, a mixed name too; where: a regular expression; seed: of the new weights and the hashes; approximate:
    whether each new layer comes near the kernel that it replaces, as with --init_from, or starts anew. Raise RequestError (a
    ValueError) for a conv that there is not, or that a layer cannot take, and where nothing is swapped; ValueError where a layer
    cannot approximate a kernel.
    """
    swapped = copy.deepcopy(model)
    substitute(swapped, parse_name(conv), where, seed)
    if approximate:
        approximation.check(swapped, model)
        approximation.approximate_network(swapped, model)
    return swapped
