"""Names of networks that are not written here, as torchvision:resnet18 or mine.py:Net. Imports no torch.

    >>> is_of_library("torchvision:resnet18"), is_of_library("WideResNet")
    (True, False)

Whether a library has a network of that name shows when it is built (library.py).
"""

import os
import re
from collections.abc import Callable, Iterable

from system.errors import RequestError, did_you_mean
from system.user_code import SUFFIX, check_form, is_of_file

LIBRARIES = ("torchvision", "timm")
FORMS = (*(f"{library}:NAME" for library in LIBRARIES), f"FILE{SUFFIX}:CLASS")


def is_of_library(name: object) -> bool:
    """Return whether a name is that of a library's network: library:NAME with letters, digits, - and _."""
    library, _, network = name.partition(":") if isinstance(name, str) else ("", "", "")
    return library in LIBRARIES and re.fullmatch(r"\w[\w-]*", network, re.ASCII) is not None


def is_foreign(name: object) -> bool:
    """Return whether a name is that of a network which is not written here: a library's, or a class of a user's file."""
    return is_of_library(name) or is_of_file(name)


def check_name(name: str, others: Iterable[str]) -> str:
    """Return the name of a network if it is one of `others` or has the form of a library's or FILE.py:CLASS.

    Raises RequestError otherwise, with the nearest name.
    """
    if name in others or is_of_library(name):
        return name
    if name.endswith(SUFFIX) or f"{SUFFIX}:" in name:
        return os.path.expanduser(check_form("network", name))
    library, colon, network = name.partition(":")
    known = ", ".join([*others, *FORMS])
    if not colon:
        raise RequestError(f"unknown network {name!r}{did_you_mean(name, others)} (known: {known})")
    if library not in LIBRARIES:
        hint = did_you_mean(library, LIBRARIES, lambda right: repr(f"{right}:{network}"))
        raise RequestError(f"unknown network {name!r}{hint} (known: {known})")
    if not network:
        raise RequestError(
            f"network {name!r} has no name after its colon: give one of the library's, as {library}:resnet18"
        )
    if re.fullmatch(r"\w[\w-]*[.:].*", network, re.ASCII):
        bare = re.split("[.:]", network)[0]
        weights = f"a network has no weights in its name: give {library}:{bare}, and weights by --init_from"
        raise RequestError(f"network {name!r}: {weights}")
    raise RequestError(f"network {name!r}: a name has letters, digits, - and _, as {library}:resnet18")


class WithForeign(dict):
    """The registered networks by name. A foreign network is in it under its name, though not among those listed."""

    def __init__(self, entry: Callable[[str], object]):
        super().__init__()
        self.entry = entry

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or is_foreign(name)

    def __missing__(self, name: str) -> object:
        if not is_foreign(name):
            raise KeyError(name)
        return self.entry(name)


def takes_flag(network: str, owners_of_flag: Iterable[str]) -> bool:
    """Return whether a network is among the owners of a flag, where foreign networks stand by their form."""
    return network in owners_of_flag or (is_foreign(network) and FORMS[0] in owners_of_flag)
