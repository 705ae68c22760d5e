"""What a package offers from its modules, imported when it is asked for: most of our programs import no torch.

    __getattr__ = offers(load="weights.loading:load")        # in weights/__init__.py; from weights import load

A module of the package must not have the name of an attribute: once imported, it would stand in its place.
"""

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any


def offers(**targets: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package (PEP 562) that offers each name, the attribute "module:name"."""

    def attribute(name: str) -> Any:
        if name not in targets:
            raise AttributeError(f"there is no {name!r} here, but {', '.join(targets)}")
        return resolve_name(targets[name])

    return attribute
