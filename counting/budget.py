"""Find the number of a family, or the width of a network, that comes closest to a budget.

    config, found = resolve({..., "conv": "SepHashed", "budget": 500_000, "budget_mult_adds": None})
    config["conv"], found.achieved               # of WRN-28-10: ("SepHashed_0.03299", 500_005)

Of a mixed name, all families without their numbers get the same one. Costs rise with s, L and the width and fall with g,
in steps. Whole numbers are tried one after the other. Floats are found by bisection: of the two steps next to the budget
the closer one is taken, and of the numbers on it the shortest decimal. Where two steps are equally close, the smaller
number is taken.
"""

import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import nn

import blocks
from counting.costs import Swap, built, count, parameter_count, partition, reference
from counting.sides import check_side
from input.datasets import side_of
from layers.mixed import MixedName, parse_open
from layers.registry import ConvName, OpenName, Whole
from layers.spec import ConvSpec, ImpossibleShare
from models.build import swapped
from models.output import auxiliary_parameters
from models.registry import NETWORKS, flag_for_budget
from record.identity import is_allocated
from system.errors import RequestError

Cost = Callable[[float], float]  # a whole number; −inf where a layer cannot be so small, +inf where not so large
SMALLEST, LONGEST, WIDEST = 1e-9, 10_000, 100.0  # the s, L and width that are tried
# The costs of a network depend on these, on the flags of its size and on the conv.
OF_A_NETWORK = ("dataset", "data_classes", "image_size", "network", "where")
WIDTH_STEP = 1e-7  # widths that differ by less (relative) count as one: steps lie much farther apart


class OutOfReach(RequestError):
    """No setting meets the budget; `reach` says which amounts are in reach."""

    def __init__(self, message: str, reach: str):
        super().__init__(f"{message}: {reach}")
        self.reach = reach


class Found(NamedTuple):
    """What was asked for and what is achieved (per image), in which unit, and by which conv or flag.

    `of_given_width` is for a width: the share of the parameters of the reference network at the width that was given.
    """

    asked: int
    achieved: int | float
    unit: str
    setting: str
    of_given_width: float | None = None


def resolve(config: dict, batch: int = 128) -> tuple[dict, Found | None]:
    """Return the configuration with the number that its budget asks for, and how close it comes.

    A configuration without a budget, or whose budget has been allocated already, is returned as it is, with None. Raises
    RequestError where the budget is out of reach, with what is in reach.
    """
    asked, exact = config["budget"] or config["budget_mult_adds"], config["budget"] is None
    if asked is None or is_allocated(config):
        return config, None
    per = batch if exact else 1  # exact costs are whole numbers for a whole batch
    name = parse_open(config["conv"])
    varies = flag_for_budget(config["network"], str(name)) if name.number is None else "conv"
    flags = (*OF_A_NETWORK, *NETWORKS[config["network"]].building_flags)
    fixed = {key: config.get(key) for key in flags} | {varies: None}
    cost = _cost(tuple(fixed.items()), name, exact, batch)
    if name.number is None:
        steps = _closest_float(cost, asked * per, 0.01, WIDEST, WIDTH_STEP)
    elif isinstance(name.number, Whole):
        steps = _closest_whole(cost, asked * per, whole_numbers(config, name.number))
    else:
        steps = _closest_float(cost, asked * per, SMALLEST, 1.0)
    unit = "exact mult-adds" if exact else "parameters"
    value, least, most = steps
    if value is None:
        what = name if name.number is not None else f"{name} by --{varies}"
        reach = "nothing is"
        if math.isfinite(least):
            reach = f"{-(-least // per):,} to {most // per:,} are"
        budget = f"a budget of {asked:,} {unit}"
        raise OutOfReach(f"{budget} is out of reach for {what} on {config['network']}", f"{reach} in reach")
    share = None
    if name.number is None:
        setting = f"{name} with --{varies} {value!r}".removesuffix(".0") + f" (instead of {config[varies]:g})"
        given, config = reference(config, batch).parameters, config | {varies: value}
        share = parameter_count(swapped(config)) / given
    else:
        config, setting = config | {"conv": str(name.named(value))}, str(name.named(value))
    whole, rest = divmod(cost(value), per)
    return config, Found(asked, cost(value) / per if rest else whole, unit, setting, share)


@cache
def _cost(fixed: tuple[tuple[str, object], ...], name: OpenName | MixedName, exact: bool, batch: int) -> Cost:
    """Return a function from the number, or the width, to the cost of the network.

    The function remembers what it has counted, and equal requests get the same function, so that budgets share it.
    """
    config = dict(fixed) | {"module": None, "seed": 0}
    if name.number is None:
        flag = flag_for_budget(config["network"], str(name))
        return cache(lambda width: _of_width({**config, "conv": str(name), flag: width}, exact, batch))
    return cache(_of_number(config, name, exact, batch))


def _of_width(config: dict, exact: bool, batch: int) -> float:
    """Return the cost of the network at a width; −inf where it would have no channels."""
    try:
        check_side(config)
        network = swapped(config)
    except RequestError:
        return -math.inf
    if exact:
        return count(network, side_of(config), batch).exact_of_batch
    return parameter_count(network) - auxiliary_parameters(network)


class Division(NamedTuple):
    """What of a network's cost no number changes, and the layers whose number is open, each with its name."""

    fixed: int
    open: list[tuple[Swap, OpenName]]


def divide(config: dict, name: OpenName | MixedName, exact: bool = False, batch: int = 128) -> Division:
    """Divide a network by what an open name leaves to a budget of parameters, or of exact multiply-adds of a batch.

    Raises RequestError where a layer cannot take what is fixed for it.
    """
    of = partition(config, batch)
    layers, varying = list(of.staying), []
    names = blocks.decided(name, [swap.name for swap in of.swaps])
    for swap in of.swaps:
        match names[swap.name]:
            case OpenName() as own:
                varying.append((swap, own))
            case own if blocks.stays(swap.module, own):
                layers += swap.layers
            case ConvName() as own:
                layers.append(swap.by(built(own, swap).block, batch))
    return Division(sum(layer.exact_of_batch if exact else layer.parameters for layer in layers), varying)


def _of_number(config: dict, name: OpenName | MixedName, exact: bool, batch: int) -> Cost:
    """Return a function from the family's number to the cost of the network. Only the layers that it is of change."""
    fixed, varying = divide(config, name, exact, batch)
    kinds = Counter((own, swap.spec, swap.calls, swap.images(batch)) for swap, own in varying)
    first = {(own, swap.spec): swap.name for swap, own in reversed(varying)}

    def cost(value: float) -> float:
        total, too_large = fixed, False
        for (own, spec, calls, images), times in kinds.items():
            block = block_or_limit(own.named(value), spec, first[own, spec])
            if block == -math.inf:
                return block
            if block == math.inf:
                too_large = True
                continue
            costs = [block.exact_mult_adds(*sides, images) for sides in calls] if exact else [block.parameter_count()]
            total += times * sum(costs)
        return math.inf if too_large else total

    return cost


def block_or_limit(conv: ConvName, spec: ConvSpec, layer: str) -> nn.Module | float:
    """Return the block of a layer on the meta device; −inf where it cannot be so small, inf where not so large.

    Raises RequestError where the layer cannot be of the family.
    """
    try:
        with torch.device("meta"):
            return blocks.build_block(conv, spec)
    except ImpossibleShare as error:
        return math.inf if error.too_large else -math.inf
    except ValueError as error:
        raise RequestError(f"layer {layer!r} ({spec.in_channels} -> {spec.out_channels}): {error}")


def whole_numbers(config: dict, number: Whole) -> range:
    """Return the numbers to try: up to LONGEST, or up to the most channels where more change nothing."""
    if not number.of_channels:
        return range(number.least, LONGEST + 1)
    network = reference(config).network
    specs = [blocks.spec_of(network.get_submodule(layer)) for layer in blocks.swappable(network)]
    return range(number.least, max(max(spec.in_channels, spec.out_channels) for spec in specs) + 1)


def _closest_whole(cost: Cost, target: int, whole: range) -> tuple[int | None, float, float]:
    """Return the whole number whose cost is closest to the target, None if out of reach; the least and most costs."""
    costs: dict[int, float] = {}
    for value in whole:
        costs[value] = cost(value)
        rises = costs[value] > costs.get(value - 1, math.inf)
        if rises and costs[value] >= target:
            break
    best = min(costs, key=lambda value: abs(costs[value] - target))
    least_cost, most_cost = min(costs.values()), max(*costs.values(), cost(whole[-1]))
    return (best if least_cost <= target <= most_cost else None), least_cost, most_cost


def _closest_float(
    cost: Cost, target: int, low: float, high: float, step: float = 0.0
) -> tuple[float | None, float, float]:
    """Return the same for a float from `low` to `high`: the shortest decimal on the closest step."""
    least = cost(threshold(lambda value: cost(value) == -math.inf, low, high, step)[1])
    most = cost(threshold(lambda value: cost(value) < math.inf, low, high, step)[0])
    if not least <= target <= most:
        return None, least, most
    neighbours = [cost(value) for value in threshold(lambda value: cost(value) <= target, low, high, step)]
    closest = min((each for each in neighbours if math.isfinite(each)), key=lambda each: abs(each - target))
    return shortest(cost, closest, low, high, step), least, most


def shortest(cost: Cost, wanted: float, low: float, high: float, step: float = 0.0) -> float:
    """Return the shortest decimal of what the cost `wanted` is reached by; the smallest of these."""
    before, first = threshold(lambda value: cost(value) < wanted, low, high, step)
    numerator, denominator = before.as_integer_ratio()
    for digits in range(0 if high > 1 else 1, 20):  # a share of 1 is not shorter than one of 0.1
        decimal = -(-numerator * 10**digits // denominator) / 10**digits
        if decimal <= high and cost(decimal) == wanted:
            return decimal
    return first


def threshold(holds: Callable[[float], bool], low: float, high: float, step: float = 0.0) -> tuple[float, float]:
    """Return neighbours: `holds` is true of the first and false of the second. At an end both are the same value."""
    if holds(high):
        return high, high
    if not holds(low):
        return low, low
    while (middle := (low + high) / 2) not in (low, high) and high - low > step * high:
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high
