"""Any network with structured convolutions in the places of its own, in Python: `from weights import swap`.

small = swap(torchvision.models.resnet18(), "SepHashed_0.1", where="layer3")
near = swap(trained, "SepHashed_0.5", where="layer3", approximate=True)
"""

import copy
from argparse import ArgumentTypeError

from torch import nn

from blocks import substitute
from layers.mixed import parse_name
from system.arguments import pattern
from system.errors import RequestError
from weights import approximation


def swap(model: nn.Module, conv: str, where: str = "", seed: int = 0, approximate: bool = False) -> nn.Module:
    """Return a copy of a network with every swappable layer replaced in whose dotted name `where` is found.

    A network of `--network` or of `load` says itself what may be swapped. Of any other all square convolutions of one group and all
    Linear layers are, its first convolution and its classifier too: `where` leaves them out.

    Args: conv: as of --conv, a mixed name too; where: a regular expression; seed: of the new weights and the hashes; approximate:
    whether each new layer comes near the kernel that it replaces, as with --init_from, or starts anew. Raise RequestError (a
    ValueError) for a conv that there is not, or that a layer cannot take or come near by, and where nothing is swapped.
    """
    _check(model, conv, where, seed)
    swapped = copy.deepcopy(model)
    here, there = (getattr(each, "wrapped", each) for each in (swapped, model))
    try:
        substitute(here, parse_name(conv), where, seed)
        if approximate:
            approximation.check(here, there)
            approximation.approximate_network(here, there)
    except ValueError as error:
        raise RequestError(str(error).replace("--where", "where").replace("--conv", "conv"))
    if here is not swapped:
        swapped.note_swap(conv)
    return swapped


def _check(model: object, conv: object, where: object, seed: object) -> None:
    """Raise RequestError for arguments of other kinds."""
    if not isinstance(model, nn.Module):
        raise RequestError(f"a torch.nn.Module is wanted, not {type(model).__name__}: load(name) gives that of a run")
    for name, value in (("conv", conv), ("where", where)):
        if not isinstance(value, str):
            raise RequestError(f"{name} is {value!r}: a text is wanted")
    if type(seed) is not int or not 0 <= seed <= 2**53:
        raise RequestError(f"seed is {seed!r}: a whole number from 0 on is wanted")
    try:
        pattern(where)
    except ArgumentTypeError as error:
        raise RequestError(f"where: {error}")
