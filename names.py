"""The grammar of names: of convolutions (`SepHashed_0.1`) and of runs (`wrn_28_10.acdc.student.Dec11`).

Imports no torch, so a misspelt name is answered at once. A family of blocks is registered here, in one line: its name,
the class that builds it and the number that it takes. `blocks.py` follows the line to the class.

    >>> parse_conv("SepHashed_0.10")
    ConvName(family='SepHashed', numbers=(0.1,))
    >>> str(parse_conv("SepHashed_0.10"))
    'SepHashed_0.1'
"""

import re
from dataclasses import dataclass

from errors import RequestError, did_you_mean


@dataclass(frozen=True)
class Fraction:
    """A number 0 < s <= 1."""

    symbol: str = "s"

    def parse(self, text: str) -> float | None:
        value = float(text) if re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", text) else 0.0
        return value if 0 < value <= 1 else None

    def __str__(self) -> str:
        return f"0 < {self.symbol} <= 1"


@dataclass(frozen=True)
class Whole:
    """A whole number of at least `least`."""

    symbol: str
    least: int

    def parse(self, text: str) -> int | None:
        value = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else self.least - 1
        return value if value >= self.least else None

    def __str__(self) -> str:
        return f"{self.symbol} >= {self.least}, whole"


@dataclass(frozen=True)
class Family:
    """Where a family of blocks is built (`module:class`) and which numbers its name carries."""

    target: str
    numbers: tuple[Fraction | Whole, ...] = ()


FAMILIES = {
    "Conv": Family("layers.dense:Conv"),
    "Sep": Family("layers.dense:Pointwise"),
    "Generic": Family("layers.lowrank:Generic", (Fraction(),)),
    "SepHashed": Family("layers.hashed:HashedPointwise", (Fraction(),)),
    "Shuffle": Family("layers.shuffle:Shuffle", (Whole("g", 1),)),
}


@dataclass(frozen=True)
class ConvName:
    """A parsed name; its text is the canonical one, so `Generic_.10` and `Generic_0.1` are the same request."""

    family: str
    numbers: tuple[float | int, ...] = ()

    @property
    def target(self) -> str:
        return FAMILIES[self.family].target

    def __str__(self) -> str:
        return "_".join([self.family, *map(repr, self.numbers)])


def form(family: str) -> str:
    """How names of a family look: `Generic_s (0 < s <= 1)`."""
    numbers = FAMILIES[family].numbers
    ranges = f" ({', '.join(map(str, numbers))})" if numbers else ""
    return "_".join([family, *(number.symbol for number in numbers)]) + ranges


def parse_conv(text: str) -> ConvName:
    """The family and numbers that a conv name stands for. RequestError where there are none such."""
    family, *given = text.split("_")
    if family not in FAMILIES:
        hint = did_you_mean(family, FAMILIES, form)
        raise RequestError(f"unknown conv {text!r}{hint} (known: {', '.join(map(form, FAMILIES))})")
    wanted = FAMILIES[family].numbers
    values = tuple(number.parse(part) for number, part in zip(wanted, given))
    if len(given) != len(wanted) or None in values:
        raise RequestError(f"conv {text!r} is not of the form {form(family)}")
    return ConvName(family, values)


RUN_NAME = re.compile(r"[A-Za-z0-9._+-]{1,100}")


def check_run_name(name: str, flag: str) -> str:
    """The name itself, if a run may have it. RequestError otherwise."""
    if not RUN_NAME.fullmatch(name) or not re.search("[A-Za-z0-9]", name):
        raise RequestError(
            f"{flag} {name!r}: a run's name is 1 to 100 letters, digits and . _ + - with at least one letter or digit"
        )
    return name
