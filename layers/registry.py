"""The families of blocks and the grammar of their names, as `SepHashed_0.1`.

A family is one entry: its name, the class that builds it and the numbers that its name carries. `blocks.py` follows an
entry to the class. This module imports no torch, so that a wrong name is answered at once.

    >>> parse_conv("SepHashed_0.10")
    ConvName(family='SepHashed', numbers=(0.1,))
    >>> str(parse_conv("SepHashed_0.10"))
    'SepHashed_0.1'
    >>> parse_conv("ACDC")
    ConvName(family='ACDC', numbers=(12,))
    >>> str(parse_family("TensorTrain_x_4").named(0.8))
    'TensorTrain_0.8_4'
    >>> register("Toy", "mine.toy:Toy", (Whole("n", 1),))       # of a file mine/toy.py
    >>> parse_conv("Toy_2")
    ConvName(family='Toy', numbers=(2,))
"""

import re
from dataclasses import dataclass

from system import grammar
from system.errors import RequestError, did_you_mean
from system.grammar import Fraction, Whole


@dataclass(frozen=True)
class Family:
    """The class that builds a family of blocks (`module:class`) and the numbers that its name carries.

    The class is a `layers.base.Replacement` or a `layers.base.ChannelMap`, called as cls(spec, *numbers, key=key).
    Where a family is `ordinary`, an nn.Conv2d is of that family already and is not replaced. A `variational` one is a
    `layers.variational.Variational`: noisy in training, which decides what is left of it, so that no budget can. It also
    replaces the Linear layers that no other conv does, the classifier. Where it is `slowed`, some of its parameters want a
    lower learning rate (its `slowed_parameters()`; training/structured_lr.py).
    """

    target: str
    numbers: tuple[Fraction | Whole, ...] = ()
    ordinary: bool = False
    variational: bool = False
    slowed: bool = False


SHARE, DIMENSIONS, LENGTH = Fraction(), Whole("d", 2, 9, default=3), Whole("L", 2, default=12)
RANK = Whole("r", 1, of_channels=True)
FAMILIES = {
    "Conv": Family("layers.dense:Conv", ordinary=True),
    "Sep": Family("layers.dense:Pointwise"),
    "Generic": Family("layers.lowrank:Generic", (SHARE,)),
    "LR": Family("layers.lowrank:LR", (SHARE,)),
    "Hashed": Family("layers.hashed:Hashed", (SHARE,), slowed=True),
    "HashedDecimate": Family("layers.hashed:HashedDecimate", slowed=True),
    "SepHashed": Family("layers.hashed:HashedPointwise", (SHARE,)),
    "SepHashedFull": Family("layers.hashed:HashedRemainder", (SHARE,)),
    "SepHashedDecimate": Family("layers.hashed:SepHashedDecimate"),
    "ACDC": Family("layers.acdc:ACDC", (LENGTH,)),
    "OriginalACDC": Family("layers.acdc:OriginalACDC", (LENGTH,), slowed=True),
    "PermutedACDC": Family("layers.acdc:PermutedACDC", (LENGTH,)),
    "TensorTrain": Family("layers.tensor:TensorTrain", (SHARE, DIMENSIONS)),
    "Tucker": Family("layers.tensor:Tucker", (SHARE, DIMENSIONS), slowed=True),
    "CP": Family("layers.tensor:CP", (SHARE, DIMENSIONS)),
    "Shuffle": Family("layers.shuffle:Shuffle", (Whole("g", 1, of_channels=True),)),
    "Butterfly": Family("layers.butterfly:Butterfly"),
    "Monarch": Family("layers.monarch:Monarch", (Whole("b", 1, of_channels=True),)),
    "BTT": Family("layers.btt:BTT", (RANK,)),
    "Kronecker": Family("layers.kronecker:Kronecker", (RANK,)),
    "SparseVD": Family("layers.sparse_vd:SparseVD", variational=True),
    "GroupVD": Family("layers.group_vd:GroupVD", variational=True),
}


def register(
    name: str, target: str, numbers: tuple[Fraction | Whole, ...] = (), *, variational: bool = False, slowed: bool = False
) -> None:  # fmt: skip
    """Add a family of blocks under a name. The arguments are those of `Family`.

    Raises ValueError where there is a family of that name, or where the name or the target has another form.
    """
    if name in FAMILIES:
        raise ValueError(f"there is a family {name!r} already, built by {FAMILIES[name].target}: choose another name")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
        raise ValueError(f"{name!r} cannot name a family: use letters and digits, as in SepHashed")
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", target):
        raise ValueError(f"the target {target!r} of {name} is not of the form module:class, as layers.dense:Conv is")
    FAMILIES[name] = Family(target, tuple(numbers), variational=variational, slowed=slowed)


@dataclass(frozen=True)
class ConvName:
    """A parsed name with all its numbers.

    Its text is canonical, without trailing defaults: `Generic_.10` and `Generic_0.1` are the same request, and so are
    `ACDC_12` and `ACDC`.
    """

    family: str
    numbers: tuple[float | int, ...] = ()

    @property
    def target(self) -> str:
        """The class that builds it, as `module:class`."""
        return FAMILIES[self.family].target

    @property
    def is_ordinary(self) -> bool:
        """Whether an nn.Conv2d is of this family already."""
        return FAMILIES[self.family].ordinary

    @property
    def is_variational(self) -> bool:
        """Whether training decides what is left of it."""
        return FAMILIES[self.family].variational

    def __str__(self) -> str:
        return grammar.text(self.family, self.numbers, FAMILIES[self.family].numbers)


@dataclass(frozen=True)
class OpenName:
    """A name without its first number, which a budget finds. `number` is None where the family has no numbers."""

    family: str
    number: Fraction | Whole | None
    later: tuple[int, ...] = ()

    def named(self, value: float | int) -> ConvName:
        """Return the name with `value` as its first number."""
        return ConvName(self.family, (value, *self.later))

    def __str__(self) -> str:
        if self.number is None or self.later == tuple(n.default for n in FAMILIES[self.family].numbers[1:]):
            return self.family
        return "_".join([self.family, "x", *map(repr, self.later)])


def shape(family: str) -> str:
    """Return how names of a family look: `Generic_s`, `TensorTrain_s[_d]`."""
    return grammar.shape(family, FAMILIES[family].numbers)


def form(family: str) -> str:
    """Return the same with ranges: `Generic_s (0 < s <= 1)`, `ACDC[_L] (L >= 2, whole; 12 if left out)`."""
    return grammar.form(family, FAMILIES[family].numbers)


def _split(text: str) -> tuple[str, list[str]]:
    family, *given = text.split("_")
    if family not in FAMILIES:
        hint = did_you_mean(family, FAMILIES, form)
        raise RequestError(f"unknown conv {text!r}{hint} (known: {', '.join(map(shape, FAMILIES))})")
    return family, given


def parse_conv(text: str) -> ConvName:
    """Return the family and the numbers that a name says. Raise RequestError where the name is wrong."""
    family, given = _split(text)
    values = grammar.values(given, FAMILIES[family].numbers)
    if values is None:
        raise RequestError(f"conv {text!r} is not of the form {form(family)}")
    return ConvName(family, values)


def parse_family(text: str) -> OpenName:
    """Return a name without its first number, as `SepHashed`, `TensorTrain_x_4`. Raise RequestError if it is wrong."""
    family, given = _split(text)
    if FAMILIES[family].variational:
        raise RequestError(f"conv {text!r}: training decides what is left of {family}, so no budget can")
    wanted = FAMILIES[family].numbers
    later = grammar.values(given[1:], wanted[1:])
    if later is None or given[:1] not in ([], ["x"]) or (given and not wanted):
        optional = "".join(f"[_{number.symbol}]" for number in wanted[1:])
        ranges = f" ({', '.join(map(str, wanted[1:]))})" if optional else ""
        allowed = f"{family}_x{optional}{ranges}" if optional else family
        raise RequestError(f"conv {text!r}: a budget finds the number, so give {allowed}")
    return OpenName(family, wanted[0] if wanted else None, later)
