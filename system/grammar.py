"""The grammar of names that carry numbers, as `TensorTrain_0.8_4`. Imports no torch.

NUMBERS = (Fraction(), Whole("d", 2, 9, default=3))
values(["0.8"], NUMBERS)                       # (0.8, 3)
text("TensorTrain", (0.8, 3), NUMBERS)         # "TensorTrain_0.8", without trailing defaults
shape("TensorTrain", NUMBERS)                  # "TensorTrain_s[_d]"
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from system.errors import RequestError, did_you_mean


@dataclass(frozen=True)
class Fraction:
    """A number 0 < s <= 1 in a name."""

    symbol: str = "s"
    default: None = None

    def parse(self, text: str) -> float | None:
        """Return the number that a text gives, or None."""
        value = decimal(text)
        return value if value is not None and 0 < value <= 1 else None

    def __str__(self) -> str:
        return f"0 < {self.symbol} <= 1"


@dataclass(frozen=True)
class Amount:
    """A number t >= 0 in a name."""

    symbol: str
    default: None = None

    def parse(self, text: str) -> float | None:
        """Return the number that a text gives, or None."""
        value = decimal(text)
        return value if value is not None and value <= 1e30 else None

    def __str__(self) -> str:
        return f"{self.symbol} >= 0"


@dataclass(frozen=True)
class Whole:
    """A whole number in a name, at least `least`, at most `most`. One with a default may be left out.

    Beyond a layer's channels, one that is `of_channels` changes nothing, so a budget tries none that is larger.
    """

    symbol: str
    least: int
    most: int | None = None
    default: int | None = None
    of_channels: bool = False

    def parse(self, text: str) -> int | None:
        """Return the number that a text gives, or None."""
        value = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else self.least - 1
        return value if self.least <= value <= (self.most or value) else None

    def __str__(self) -> str:
        return f"{self.least} <= {self.symbol} <= {self.most}" if self.most else f"{self.symbol} >= {self.least}, whole"


Number = Fraction | Amount | Whole


def decimal(text: str) -> float | None:
    """Return the number >= 0 that a text gives, as `0.1`, `.1` and `1e-3` do, or None."""
    return float(text) if re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", text) else None


def values(given: Sequence[str], wanted: Sequence[Number]) -> tuple[float | int, ...] | None:
    """Return the numbers that the parts of a name give, with defaults at its end; None where a part is wrong."""
    found = [number.parse(part) for number, part in zip(wanted, given)]
    found += [number.default for number in wanted[len(given) :]]
    return None if None in found or len(given) > len(wanted) else tuple(found)


def text(name: str, numbers: Sequence[float | int], wanted: Sequence[Number]) -> str:
    """Return a name with its numbers, canonical: without trailing defaults, 1 and not 1.0."""
    shown = list(zip(numbers, wanted))
    while shown and shown[-1][0] == shown[-1][1].default:
        shown.pop()
    return "_".join([name, *(repr(value).removesuffix(".0") for value, _ in shown)])


def shape(name: str, wanted: Sequence[Number]) -> str:
    """Return how names look: `Generic_s`, `TensorTrain_s[_d]`."""
    return name + "".join(f"_{n.symbol}" if n.default is None else f"[_{n.symbol}]" for n in wanted)


def form(name: str, wanted: Sequence[Number]) -> str:
    """Return the same with ranges: `Generic_s (0 < s <= 1)`, `ACDC[_L] (L >= 2, whole; 12 if left out)`."""
    ranges = [f"{n}" if n.default is None else f"{n}; {n.default} if left out" for n in wanted]
    return shape(name, wanted) + (f" ({', '.join(ranges)})" if ranges else "")


@dataclass(frozen=True)
class MethodName:
    """A parsed name of a method with one number, as `TopK_0.05`. Its text is canonical."""

    method: str
    number: float
    wanted: Number

    def __str__(self) -> str:
        return text(self.method, (self.number,), (self.wanted,))


def parse_method(name: str, methods: Mapping[str, Number], what: str) -> MethodName:
    """Return the method and the number that a name says. Raise RequestError where it is the name of no way to do `what`."""
    method, *given = name.split("_")
    if method not in methods:
        forms = [shape(each, (number,)) for each, number in methods.items()]
        hint = did_you_mean(method, methods, lambda each: form(each, (methods[each],)))
        raise RequestError(f"unknown way to {what} {name!r}{hint} (known: {', '.join(forms)})")
    found = values(given, (methods[method],))
    if found is None:
        raise RequestError(f"{name!r} is not of the form {form(method, (methods[method],))}")
    return MethodName(method, *found, methods[method])
