"""The settings that a study compares: convs, or what meets budgets, times the combinations of all else that varies.

    chosen = settings(STUDIES["digits"], request)         # [Setting(("--conv", "ACDC_4"), "acdc_4"), …]

`request` is what schedules.generate was asked for: convs, vary, budgets, budgets_mult_adds, families, teacher, behind, dataset, name.
"""

import math
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from string import Formatter
from typing import TypeVar

from cli import options as cli_options
from layers.mixed import MixedName, in_file_names, parse_name, parse_open
from layers.registry import FAMILIES, OpenName, parse_family
from models.registry import reference_conv, width_flag
from schedules.commands import Setting, keys_that_vary, teacher
from schedules.flags import keys_in, teaching_keys
from schedules.studies import Flags, Study, words_of
from system.arguments import amount, number
from system.configuration import Configuration
from system.errors import RequestError, did_you_mean
from weights.sources import check_run_name

TOLERANCE = 0.05  # a setting meets a budget within this share of it
MOST = 10_000  # settings of a study
Value = TypeVar("Value", int, str)
NOT_GIVEN = "default"  # in names, of a key that a combination leaves to the preset


def budgets(text: str) -> list[int]:
    """Return the budgets of `3e5,1e6`, or of `3e5:3e6:5`: five from one to the other in equal ratios."""
    ends = text.split(":")
    if len(ends) == 1:
        found = [amount(each) for each in text.split(",")]
        if twice := repeated(found):
            raise ArgumentTypeError(f"{text!r} has {twice:,} twice: give each budget once")
        return found
    if len(ends) != 3:
        raise ArgumentTypeError(f"{text!r} is neither amounts such as 3e5,1e6 nor LOW:HIGH:POINTS such as 3e5:3e6:5")
    low, high, points = amount(ends[0]), amount(ends[1]), number(int, 2, 1000)(ends[2])
    if low >= high:
        raise ArgumentTypeError(f"{text!r}: the first amount is not below the second")
    found = [_rounded(low * (high / low) ** (place / (points - 1))) for place in range(points)]
    if twice := repeated(found):
        raise ArgumentTypeError(f"{text!r} has {twice:,} twice, to three digits: give fewer than {points} points")
    return found


def families_of(texts: Sequence[str], at: str) -> list[OpenName | MixedName]:
    """Return the families that meet budgets; raise RequestError where one is given twice. Args: at: where they stand."""
    names = [parse_open(text) for text in texts]
    if twice := repeated([str(name) for name in names]):
        raise RequestError(f"{at}the family {twice} is given twice: give each family once")
    return names


def repeated(values: Sequence[Value]) -> Value | None:
    """Return the first value that occurs again, None where there is none."""
    return next((value for place, value in enumerate(values) if value in values[:place]), None)


def _rounded(value: float) -> int:
    """Return the value to three digits: nobody asks for 533,484 parameters."""
    size = 10 ** max(0, int(math.log10(value)) - 2)
    return round(value / size) * size


def settings(study: Study, request: Configuration) -> list[Setting]:
    """Return the settings of a study; [] where they are the study's own, of networks without a teacher.

    Raise RequestError where two of them have one name, or one has a name that no run can have.
    """
    if study.settings:
        return []
    grid = study.grid | dict(request.vary)
    if request.budgets or request.budgets_mult_adds:
        of_convs = _that_meet(study, request)
    else:
        of_convs = _of_convs(study, request)
    if not grid and not study.template:
        return of_convs
    template = study.template or ".".join(["{conv}"] * bool(of_convs) + [f"{key}_{{{key}}}" for key in grid])
    if study.template:  # what --vary adds is not in it
        template += "".join(f".{key}_{{{key}}}" for key in grid if key not in study.grid)
    chosen = list(islice(_product(of_convs or [Setting((), "")], grid, template), MOST + 1))
    if len(chosen) > MOST:
        raise RequestError(f"the study has more than {MOST:,} settings: let less vary")
    varied = ["conv"] * (len(of_convs) > 1) + several_values(grid)
    check_names(template, [each.name for each in chosen], varied, study.template_at)
    for each in chosen:
        check_run_name(f"{request.name}.{each.name}", f"{study.template_at}{template!r} gives the name")
    return chosen


def several_values(grid: dict[str, dict[str, Flags]]) -> list[str]:
    """Return the keys of a grid that have more than one value."""
    return [key for key, values in grid.items() if len(values) > 1]


def _product(of_convs: Sequence[Setting], grid: dict[str, dict[str, Flags]], template: str) -> Iterator[Setting]:
    """Yield every combination, the last key varying fastest."""
    alone_template = _of_alone(template)
    for setting, *values in product(of_convs, *(values.items() for values in grid.values())):
        flags = [word for _, each in values for word in words_of(each)]
        names = {"conv": setting.name} | dict(zip(grid, (name for name, _ in values)))
        name, alone = template.format_map(names), alone_template.format_map(names) or NOT_GIVEN
        yield replace(setting, flags=(*setting.flags, *flags), name=name, conv=setting.flags, alone=alone)


def _of_alone(template: str) -> str:
    """Return the template of networks alone: without the keys of teaching, each with the text between it and the key before."""
    left = [
        text.replace("{", "{{").replace("}", "}}") + (f"{{{key}}}" if key is not None else "")
        for text, key, _, _ in Formatter().parse(template)
        if key not in teaching_keys()
    ]
    return "".join(left).strip("._-")


def check_template(template: str, keys: Sequence[str]) -> None:
    """Raise RequestError unless a template holds `{key}` alone, each of one of the keys."""
    try:
        fields = [(name, rule, way) for _, name, rule, way in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise RequestError(f"{template!r} is no template such as '{{conv}}.{{lr}}': {error}")
    for name, rule, way in fields:
        if rule or way:
            raise RequestError(f"{template!r}: {{{name}}} is a key alone, without ':' and '!' behind it")
        if name not in keys:
            known = ", ".join(f"{{{key}}}" for key in keys)
            raise RequestError(f"{template!r}: unknown key {{{name}}}{did_you_mean(name, keys)} (known: {known})")


def check_names(template: str, names: Sequence[str], varied: Sequence[str], at: str) -> None:
    """Raise RequestError where two settings have one name.

    Args: varied: the keys that have several values; at: where the template stands.
    """
    name, times = max(Counter(each.lower() for each in names).items(), key=lambda each: each[1], default=("", 1))
    if times == 1:
        return
    inside = {field for _, field, _, _ in Formatter().parse(template)}
    lacks = [f"{{{key}}}" for key in varied if key not in inside]
    how = f"it lacks {', '.join(lacks)}" if lacks else "put something between its keys that tells them apart"
    raise RequestError(f"{at}{template!r} gives {times} settings the name {name!r}: {how}")


def _of_convs(study: Study, request: Configuration) -> list[Setting]:
    """Return a setting for each conv, None of them being the network's own, and for the control."""
    keys = keys_in(words_of(study.flags)) | request.behind.keys | keys_that_vary(study, request)
    may_be_open = bool(keys & {"budget", "budget_mult_adds"})
    names = dict.fromkeys(canonical_conv(text, may_be_open) for text in request.convs or study.convs)
    chosen = [
        Setting(("--conv", conv), in_file_names(conv)) if conv is not None else Setting((), NOT_GIVEN) for conv in names
    ]
    has_control = (
        study.control and not request.convs and not keys_in(study.control.split()) & keys_that_vary(study, request)
    )
    return chosen + ([_of_width(study.control.split())] if has_control else [])


def canonical_conv(text: str | None, may_be_open: bool = False) -> str | None:
    """Return a conv's canonical name; with `may_be_open`, of one without its number too, which a budget finds."""
    try:
        return None if text is None else str(parse_name(text))
    except RequestError:
        if not may_be_open:
            raise
        return str(parse_open(text))


def _of_width(flags: Sequence[str], budget: int | None = None, conv: str = "") -> Setting:
    return Setting(tuple(flags), f"{f'{in_file_names(conv)}_' * bool(conv)}width_{flags[1].removesuffix('.0')}", budget)


def _that_meet(study: Study, request: Configuration) -> list[Setting]:
    """Return each family's nearest setting to each budget, and print which budgets a family cannot meet."""
    config = config_of(study, request)
    network, exact = config["network"], request.budgets is None
    names = families_of(request.families, "--families: ") if request.families else _families(network)
    if (flag := width_flag(network)) in keys_that_vary(study, request):
        if request.families and (widths := [name for name in names if name.number is None]):
            raise RequestError(
                f"--vary {flag}: the family {widths[0]} meets a budget by its width: leave one of them out"
            )
        names = [name for name in names if name.number is not None]
    found: dict[tuple[str, ...], Setting] = {}
    for name in names:
        if name.number is None and width_flag(network) is None:
            raise RequestError(f"{name} has no number to find, and {network} no width that could vary instead")
        missed: dict[str, list[str]] = {}  # budgets by the reason why none of them has a setting of its own
        for asked in request.budgets or request.budgets_mult_adds:
            setting, words = _nearest(config, name, asked, exact)
            if setting is None:
                missed.setdefault(words, []).append(f"{asked:,}")
                continue
            if setting.flags in found:
                missed.setdefault(f"{words} is nearest to that too", []).append(f"{asked:,}")
            found.setdefault(setting.flags, setting)
        if missed:
            print(f"{name} leaves out " + "; ".join(f"{', '.join(of)} ({why})" for why, of in missed.items()))
    if not found:
        raise RequestError("no family meets any of these budgets")
    return list(found.values())


def _nearest(config: Configuration, name: OpenName | MixedName, asked: int, exact: bool) -> tuple[Setting | None, str]:
    """Return a family's setting that meets a budget, and it in words; or None, and why no setting meets it."""
    from counting.budget import OutOfReach, resolve

    goal = {"budget_mult_adds" if exact else "budget": asked}
    try:
        achieved, result = resolve({**config, "conv": str(name), **goal})
    except OutOfReach as error:
        return None, error.reach
    except RequestError as error:
        return None, str(error)
    if abs(result.achieved - asked) > TOLERANCE * asked:
        return None, f"{result.setting} comes nearest with {result.achieved:,}"
    if name.number is not None:
        return Setting(("--conv", achieved["conv"]), in_file_names(achieved["conv"]), asked), result.setting
    flag = width_flag(config["network"])
    other = str(name) if str(name) != reference_conv(config["network"]) else ""
    return _of_width((f"--{flag}", repr(achieved[flag]), "--conv", str(name)), asked, other), result.setting


def _families(network: str) -> list[OpenName]:
    """Return the families that have a number, and the network's own conv where the network has a width."""
    numbered = [family for family in FAMILIES if FAMILIES[family].numbers]
    return [parse_family(each) for each in [*numbered, *([reference_conv(network)] if width_flag(network) else [])]]


def config_of(study: Study, request: Configuration) -> Configuration:
    """Return the configuration of the study's teacher; where it has none, of its network as it is."""
    return cli_options.training([*teacher(study, request, "teacher")[2:]])
