"""Draw values of flags: pure functions of a seed, a bracket, a run's index in it and the flag's name. Imports no torch.

    lr = Range("log_uniform", "1e-3", "1")
    lr.draw(bits(seed=0, bracket=3, index=17, flag="lr"))                 # '0.0173823'
    Choice(("16", "32", "64")).draw(bits(0, 3, 17, "batch_size"))         # '32'

Values are texts, as a command line has them. Logarithms are those of the decimal module, correctly rounded, and no other
library's: a draw is the same on every machine and for every version of Python. Another flag in a space changes no draw.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

from system.keys import key

BITS = 64
DIGITS = 6  # significant ones of a drawn number
EXACT = Context(prec=40)
KINDS = ("log_uniform", "uniform", "integer")


def bits(seed: int, bracket: int, index: int, flag: str) -> int:
    """Return 0 ≤ b < 2^64, the hash of what the draw is for."""
    return key("hyperband", seed, bracket, index, flag) % (1 << BITS)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both as they are written: `uniform`, `log_uniform`, or whole ones (`integer`, both ends possible)."""

    kind: str
    low: str
    high: str

    def draw(self, bits: int) -> str:
        """Return the number for 64 random bits as text: with six significant digits, or whole, and never beyond an end."""
        low, high = Decimal(self.low), Decimal(self.high)
        if self.kind == "integer":
            return str(int(low) + (bits * (int(high) - int(low) + 1) >> BITS))
        with localcontext(EXACT):
            part = Decimal(bits) / (1 << BITS)
            if self.kind == "log_uniform":
                value = (low.ln() + part * (high.ln() - low.ln())).exp()
            else:
                value = low + part * (high - low)
        text = f"{float(value):.{DIGITS}g}"
        return self.low if Decimal(text) < low else self.high if Decimal(text) > high else text


@dataclass(frozen=True)
class Choice:
    """One of some texts, all equally likely; None leaves the flag out."""

    texts: tuple[str | None, ...]

    def draw(self, bits: int) -> str | None:
        """Return the text for 64 random bits."""
        return self.texts[bits * len(self.texts) >> BITS]


@dataclass(frozen=True)
class Drawn:
    """A flag of a space: where its values come from, and the words that give it a value (none for None) on a command line."""

    values: Range | Choice
    words: Callable[[str | None], list[str]]
