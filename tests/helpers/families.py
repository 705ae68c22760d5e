"""Example names of every family, made from the registry, so that a new family is tested by itself."""

from layers.registry import FAMILIES, Fraction, parse_conv


def examples(family: str) -> list[str]:
    """Names with several first numbers, and with the later ones left out and given."""
    names = [family]
    for number in FAMILIES[family].numbers:
        if isinstance(number, Fraction):
            values = ["_0.1", "_0.5"]
        elif number.default is None:
            values = ["_4"]  # lowered to 3 and to 1 where channels ask for it
        else:
            values = ["", f"_{number.least}" if number.most is None else "_4"]
        names = [name + value for name in names for value in values]
    return names


STEADY = [family for family, about in FAMILIES.items() if not about.variational]  # not noisy in training
CONVS = [name for family in STEADY for name in examples(family)]
ONE_EACH = [next(name for name in CONVS if parse_conv(name).family == family) for family in STEADY]
VARIATIONAL = [family for family, about in FAMILIES.items() if about.variational]
