"""The grammar of names: of convolutions (`SepHashed_0.1`) and of runs (`wrn_28_10.acdc.student.Dec11`).

Imports no torch, so a misspelt name is answered at once. A family of blocks is registered here, in one line: its name,
the class that builds it and the numbers that it takes. `blocks.py` follows the line to the class.

    >>> parse_conv("SepHashed_0.10")
    ConvName(family='SepHashed', numbers=(0.1,))
    >>> str(parse_conv("SepHashed_0.10"))
    'SepHashed_0.1'
    >>> parse_conv("ACDC")
    ConvName(family='ACDC', numbers=(12,))
    >>> str(parse_family("TensorTrain_x_4").named(0.8))
    'TensorTrain_0.8_4'
"""

import re
from dataclasses import dataclass

from system.errors import RequestError, did_you_mean


@dataclass(frozen=True)
class Fraction:
    """A number 0 < s <= 1."""

    symbol: str = "s"
    default: None = None

    def parse(self, text: str) -> float | None:
        value = float(text) if re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", text) else 0.0
        return value if 0 < value <= 1 else None

    def __str__(self) -> str:
        return f"0 < {self.symbol} <= 1"


@dataclass(frozen=True)
class Whole:
    """A whole number of at least `least`, at most `most`; one with a default may be left out of a name."""

    symbol: str
    least: int
    most: int | None = None
    default: int | None = None

    def parse(self, text: str) -> int | None:
        value = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else self.least - 1
        return value if self.least <= value <= (self.most or value) else None

    def __str__(self) -> str:
        return f"{self.least} <= {self.symbol} <= {self.most}" if self.most else f"{self.symbol} >= {self.least}, whole"


@dataclass(frozen=True)
class Family:
    """Where a family of blocks is built (`module:class`) and which numbers its name carries."""

    target: str
    numbers: tuple[Fraction | Whole, ...] = ()


SHARE, DIMENSIONS, LENGTH = Fraction(), Whole("d", 2, 6, default=3), Whole("L", 2, default=12)
FAMILIES = {
    "Conv": Family("layers.dense:Conv"),
    "Sep": Family("layers.dense:Pointwise"),
    "Generic": Family("layers.lowrank:Generic", (SHARE,)),
    "LR": Family("layers.lowrank:LR", (SHARE,)),
    "Hashed": Family("layers.hashed:Hashed", (SHARE,)),
    "HashedDecimate": Family("layers.hashed:HashedDecimate"),
    "SepHashed": Family("layers.hashed:HashedPointwise", (SHARE,)),
    "SepHashedFull": Family("layers.hashed:HashedRemainder", (SHARE,)),
    "SepHashedDecimate": Family("layers.hashed:SepHashedDecimate"),
    "ACDC": Family("layers.acdc:ACDC", (LENGTH,)),
    "OriginalACDC": Family("layers.acdc:OriginalACDC", (LENGTH,)),
    "PermutedACDC": Family("layers.acdc:PermutedACDC", (LENGTH,)),
    "TensorTrain": Family("layers.tensor:TensorTrain", (SHARE, DIMENSIONS)),
    "Tucker": Family("layers.tensor:Tucker", (SHARE, DIMENSIONS)),
    "CP": Family("layers.tensor:CP", (SHARE, DIMENSIONS)),
    "Shuffle": Family("layers.shuffle:Shuffle", (Whole("g", 1),)),
}


@dataclass(frozen=True)
class ConvName:
    """A parsed name with all its numbers. Its text is the canonical one, without trailing defaults, so `Generic_.10` and
    `Generic_0.1` are the same request, and so are `ACDC_12` and `ACDC`."""

    family: str
    numbers: tuple[float | int, ...] = ()

    @property
    def target(self) -> str:
        return FAMILIES[self.family].target

    def __str__(self) -> str:
        shown = list(zip(self.numbers, FAMILIES[self.family].numbers))
        while shown and shown[-1][0] == shown[-1][1].default:
            shown.pop()
        return "_".join([self.family, *(repr(value).removesuffix(".0") for value, _ in shown)])


@dataclass(frozen=True)
class OpenName:
    """A name whose first number is to be found (`number` is None where the family has none), with its later ones."""

    family: str
    number: Fraction | Whole | None
    later: tuple[int, ...] = ()

    def named(self, value: float | int) -> ConvName:
        return ConvName(self.family, (value, *self.later))

    def __str__(self) -> str:
        if self.number is None or self.later == tuple(n.default for n in FAMILIES[self.family].numbers[1:]):
            return self.family
        return "_".join([self.family, "x", *map(repr, self.later)])


def shape(family: str) -> str:
    """How names of a family look: `Generic_s`, `TensorTrain_s[_d]`."""
    parts = [f"_{n.symbol}" if n.default is None else f"[_{n.symbol}]" for n in FAMILIES[family].numbers]
    return family + "".join(parts)


def form(family: str) -> str:
    """The same with ranges: `Generic_s (0 < s <= 1)`, `ACDC[_L] (L >= 2, whole; 12 if left out)`."""
    numbers = FAMILIES[family].numbers
    ranges = [f"{n}" if n.default is None else f"{n}; {n.default} if left out" for n in numbers]
    return shape(family) + (f" ({', '.join(ranges)})" if ranges else "")


def _split(text: str) -> tuple[str, list[str]]:
    family, *given = text.split("_")
    if family not in FAMILIES:
        hint = did_you_mean(family, FAMILIES, form)
        raise RequestError(f"unknown conv {text!r}{hint} (known: {', '.join(map(shape, FAMILIES))})")
    return family, given


def _values(given: list[str], wanted: tuple[Fraction | Whole, ...]) -> tuple[float | int, ...] | None:
    """The numbers that a name's parts give, defaults for those left out at its end; None where that cannot be."""
    values = [number.parse(part) for number, part in zip(wanted, given)]
    values += [number.default for number in wanted[len(given) :]]
    return None if None in values or len(given) > len(wanted) else tuple(values)


def parse_conv(text: str) -> ConvName:
    """The family and numbers that a conv name stands for. RequestError where there are none such."""
    family, given = _split(text)
    values = _values(given, FAMILIES[family].numbers)
    if values is None:
        raise RequestError(f"conv {text!r} is not of the form {form(family)}")
    return ConvName(family, values)


def parse_family(text: str) -> OpenName:
    """A family without its first number, for a budget to find: `SepHashed`, `ACDC`, `TensorTrain_x_4`."""
    family, given = _split(text)
    wanted = FAMILIES[family].numbers
    later = _values(given[1:], wanted[1:])
    if later is None or given[:1] not in ([], ["x"]) or (given and not wanted):
        optional = "".join(f"[_{number.symbol}]" for number in wanted[1:])
        ranges = f" ({', '.join(map(str, wanted[1:]))})" if optional else ""
        allowed = f"{family}_x{optional}{ranges}" if optional else family
        raise RequestError(f"conv {text!r}: a budget finds the number, so give {allowed}")
    return OpenName(family, wanted[0] if wanted else None, later)
