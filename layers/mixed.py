"""Mixed networks: names that say for each layer what replaces it, as `layer1=Conv,layer[23]=SepHashed_0.1,.*=Generic_0.25`.

Each part is PATTERN=NAME. The first pattern, a regular expression, that is found in a layer's dotted name decides what
replaces the layer. One that no pattern is found in stays as the network has it. This module imports no torch.

    >>> name = parse_name("layer1 = Conv, layer[2,3]=SepHashed_.10")
    >>> str(name)
    'layer1=Conv,layer[2,3]=SepHashed_0.1'
    >>> name.of("layer3.0.conv1"), name.of("layer4.0.conv1")
    (ConvName(family='SepHashed', numbers=(0.1,)), None)
    >>> str(parse_open("layer1=Conv,.*=SepHashed").named(0.2))
    'layer1=Conv,.*=SepHashed_0.2'
    >>> several("ACDC,Sep"), several("ACDC;a=Conv,.*=Sep")
    (['ACDC', 'Sep'], ['ACDC', 'a=Conv,.*=Sep'])
"""

import argparse
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from layers.registry import FAMILIES, ConvName, Family, Fraction, OpenName, Whole, parse_conv, parse_family
from system.arguments import pattern
from system.errors import RequestError, did_you_mean

# What in a regular expression may hold a comma, and the comma itself.
TOKENS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*,\d*\}|\(\?#[^)]*\)|[(),]", re.DOTALL)
SHORT = 36  # characters of a mixed name that figures show in full


def found_in(regex: str, layer: str) -> bool:
    """Return whether a regular expression is found in a layer's dotted name, as --where and mixed names ask."""
    return re.search(regex, layer) is not None


@dataclass(frozen=True)
class MixedName:
    """Patterns, each with the name of what replaces the layers that it decides, in their order.

    A name without its number (OpenName) is left to a budget. Its text is canonical, as that of each name in it.
    """

    parts: tuple[tuple[str, ConvName | OpenName], ...]

    def of(self, layer: str) -> ConvName | OpenName | None:
        """Return what replaces a layer; None for one that stays as the network has it."""
        return next((name for regex, name in self.parts if found_in(regex, layer)), None)

    def decide(self, layers: Sequence[str]) -> dict[str, ConvName | OpenName | None]:
        """Return what replaces each of the layers that can be swapped. Raise RequestError where a pattern decides none."""
        unused = list(range(len(self.parts)))
        for layer in layers:
            first = next((place for place, (regex, _) in enumerate(self.parts) if found_in(regex, layer)), None)
            unused = [place for place in unused if place != first]
        if unused:
            raise RequestError(f"--conv {self.parts[unused[0]][0]!r}{self._why_unused(unused[0], layers)}")
        return {layer: self.of(layer) for layer in layers}

    def _why_unused(self, place: int, layers: Sequence[str]) -> str:
        regex = self.parts[place][0]
        if layer := next((each for each in layers if found_in(regex, each)), None):
            first = next(each for each, _ in self.parts if found_in(each, layer))
            return f" decides no layer: all that it matches are decided before it, as {layer!r} by {first!r}"
        stems = [stem for layer in layers for stem in accumulate(layer.split("."), "{}.{}".format)]
        hint = did_you_mean(regex, [*dict.fromkeys(stems)]) or (f", such as {layers[0]!r}" if layers else "")
        return f" matches none of the layers that can be swapped{hint}"

    @property
    def numbers(self) -> list[Fraction | Whole]:
        """The kinds of numbers that are open, each once."""
        return list(dict.fromkeys(name.number for _, name in self.parts if isinstance(name, OpenName)))

    @property
    def number(self) -> Fraction | Whole | None:
        """The number that all open names share, None where none is open. Raise RequestError where their kinds differ."""
        if len(self.numbers) > 1:
            kinds = " and ".join(f"{number.symbol} ({number})" for number in self.numbers[:2])
            raise RequestError(
                f"conv {str(self)!r}: a budget finds one number, but {kinds} are open: give one of them, or --allocate"
            )
        return next(iter(self.numbers), None)

    def named(self, value: float | int) -> "MixedName":
        """Return the name with `value` as the number of all open names."""
        given = ((regex, name.named(value) if isinstance(name, OpenName) else name) for regex, name in self.parts)
        return MixedName(tuple(given))

    def opened(self) -> "MixedName":
        """Return the name without any first numbers: what the settings of one curve have in common."""
        return MixedName(tuple((regex, opened(name) if _has_number(name) else name) for regex, name in self.parts))

    @property
    def is_variational(self) -> bool:
        """Whether training decides what is left of one of its families."""
        return any(FAMILIES[family].variational for family in self.families())

    def families(self) -> list[str]:
        """Return the families, each once, in their order."""
        return list(dict.fromkeys(name.family for _, name in self.parts))

    def __str__(self) -> str:
        return ",".join(f"{regex}={name}" for regex, name in self.parts)


def _has_number(name: ConvName | OpenName) -> bool:
    return isinstance(name, ConvName) and bool(FAMILIES[name.family].numbers)


def opened(name: ConvName | MixedName) -> OpenName | MixedName:
    """Return a name without its first number: `SepHashed` of SepHashed_0.1, `TensorTrain_x_4` of TensorTrain_0.8_4."""
    if isinstance(name, MixedName):
        return name.opened()
    return OpenName(name.family, next(iter(FAMILIES[name.family].numbers), None), name.numbers[1:])


def parse_name(text: str) -> ConvName | MixedName:
    """Return what a name says, mixed or not. Raise RequestError where it is wrong."""
    if "=" not in text:
        return parse_conv(text)
    return MixedName(tuple((regex, parse_conv(name)) for regex, name in _parts(text)))


def is_variational(text: str) -> bool:
    """Return whether training decides what is left of a conv, or of a part of a mixed one, whose numbers may be open.

    >>> is_variational("groups.0=Conv,.*=GroupVD"), is_variational("SepHashed")
    (True, False)
    """
    return any(family.variational for family in _families(text))


def is_slowed(text: str) -> bool:
    """Return whether a conv, or a part of a mixed one, has parameters that want a lower learning rate.

    >>> is_slowed("groups.0=Conv,.*=Hashed_0.1"), is_slowed("SepHashed_0.1")
    (True, False)
    """
    return any(family.slowed for family in _families(text))


def _families(text: str) -> list[Family]:
    """Return the families that a conv, whose numbers may be open, names and that are known."""
    names = (part.rpartition("=")[2].strip().split("_")[0] for part in _split(text))
    return [FAMILIES[name] for name in names if name in FAMILIES]


def reaches_classifiers(config: Mapping) -> bool:
    """Return whether the conv of a configuration replaces the classifier too: where it is, or was, variational.

    Of a shrunk network `shrunk_conv` is the conv that it had before shrink.py, if that is another one.
    """
    return any(is_variational(conv) for conv in (config.get("conv"), config.get("shrunk_conv")) if conv)


def parse_open(text: str) -> OpenName | MixedName:
    """Return a name whose number a budget finds: of a mixed name, every one that is left out.

    Raise RequestError where it is wrong, or where a mixed name leaves out none although one of its families has numbers.
    """
    if "=" not in text:
        return parse_family(text)
    name = MixedName(tuple((regex, _open_or_not(name)) for regex, name in _parts(text)))
    if not name.numbers and any(_has_number(each) for _, each in name.parts):
        raise RequestError(f"conv {text!r}: a budget finds the numbers that are left out, so leave one out")
    return name


def _open_or_not(text: str) -> ConvName | OpenName:
    """Return a part of a mixed name, open where it has numbers and leaves out the first."""
    family, *given = text.split("_")
    if family in FAMILIES and FAMILIES[family].variational:
        return parse_family(text)  # which refuses it
    if family in FAMILIES and FAMILIES[family].numbers and given[:1] in ([], ["x"]):
        return parse_family(text)
    return parse_conv(text)


def _parts(text: str) -> list[tuple[str, str]]:
    """Return the patterns and names of a mixed name. Raise RequestError where its form is wrong."""
    parts = []
    for part in _split(text):
        regex, equals, name = (each.strip() for each in part.rpartition("="))
        if not part.strip():
            raise RequestError(f"conv {text!r} has a comma too many")
        if ";" in part:
            raise RequestError(f"conv {part!r}: the parts of a mixed name have commas between them, not semicolons")
        if not equals:
            several_names = "; several names that are to be compared have semicolons between them"
            raise RequestError(f"conv {part!r} of {text!r} is not of the form PATTERN=NAME{several_names}")
        if not regex or not regex.isprintable():
            what = "has no pattern" if not regex else "has a pattern with an unprintable character"
            raise RequestError(f"conv {part!r} {what}: '.*={name or 'NAME'}' is for all layers")
        if not name:
            raise RequestError(f"conv {part!r} says no name after its '=', as Conv or SepHashed_0.1")
        try:
            pattern(regex)
        except argparse.ArgumentTypeError as error:
            raise RequestError(f"conv {part!r}: {error}")
        parts.append((regex, name))
    return parts


def _split(text: str) -> list[str]:
    """Split a mixed name at its commas, but not at those within brackets, parentheses or quantifiers, or after \\."""
    parts, depth, last = [], 0, 0
    for token in TOKENS.finditer(text):
        match token[0]:
            case "(":
                depth += 1
            case ")":
                depth = max(0, depth - 1)
            case "," if depth == 0:
                parts.append(text[last : token.start()])
                last = token.end()
    return [*parts, text[last:]]


def several(text: str) -> list[str]:
    """Take conv names with commas between them: `A,B,C`; with semicolons where one of them is mixed."""
    return [each.strip() for each in text.split(";" if {";", "="} & set(text) else ",")]


def in_file_names(conv: str) -> str:
    """Return what a conv is called in names of runs and files: in lower case; a mixed one by its families and a digest.

    >>> in_file_names("SepHashed_0.1"), in_file_names("a=Conv,.*=SepHashed_0.1")
    ('sephashed_0.1', 'mixed_conv_sephashed_d9087129')
    """
    if "=" not in conv:
        return conv.lower()
    families = "_".join(family.lower() for family in parse_name(conv).families())
    return f"mixed_{families[:40].rstrip('_')}_{zlib.crc32(conv.encode()):08x}"


def brief(conv: str) -> str:
    """Return a conv as figures show it: a long mixed name by the names in it, or else its families, and a digest.

    >>> brief("a=Conv,.*=SepHashed_0.1")
    'a=Conv,.*=SepHashed_0.1'
    >>> brief("groups.0.[01].conv1=Conv,groups.1=SepHashed_0.1,.*=Conv")
    'mixed Conv+SepHashed_0.1 0529'
    """
    if "=" not in conv or len(conv) <= SHORT:
        return conv
    names = dict.fromkeys(part.rpartition("=")[2] for part in _split(conv))
    shown = "+".join(names)
    if len(shown) > SHORT:
        shown = "+".join(dict.fromkeys(name.split("_")[0] for name in names))[:SHORT]
    return f"mixed {shown} {zlib.crc32(conv.encode()) >> 16:04x}"
