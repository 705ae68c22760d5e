"""Share a budget of parameters among the layers of a network, by what errors in each cost a trained network.

Each layer of an open name gets a number of its own. To a number belong the layer's parameters, the relative error e of the
kernel that is fitted to the trained one, and its cost −½·s·log(1 − e²) with the layer's sensitivity s (sensitivity.py): to
second order the rise of the loss, ½·s·e². The sum of ½·s·e² itself is almost equal for many choices, and in the
least one large layers are left with next to nothing: such networks trained worse than with one number for all (research-log.md).
Along the lower convex hulls of these curves the step of the steepest fall a parameter is always the next, until nothing fits.
That is the best choice for each budget that steps of the hulls end at (Shoham & Gersho 1988, Efficient bit allocation for
an arbitrary set of quantizers). The curves are refined around what is chosen, and the choice is made again.

    found = allocate(config, trained, batches)         # config: "conv": "SepHashed", "budget": 60_000, resolved otherwise
    str(found.conv)                                    # groups.0.0.conv1=SepHashed_0.46,groups.0.0.conv2=SepHashed_0.215,…
    print(report(found))
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tabulate import tabulate
from torch import Tensor, nn
from tqdm import tqdm

import blocks
from counting import budget
from counting.costs import Swap, partition, summary
from layers.mixed import MixedName, found_in, parse_name, parse_open
from layers.registry import ConvName, OpenName, Whole
from models.build import build
from system.errors import RequestError, SwapconvError
from weights import approximation
from weights.curve import Curve, Point, hull, weighted
from weights.sensitivity import sensitivities

ROUNDS = 2  # of refining the curves around what is chosen
EFFORT = 0.3  # of a fit's; the relative errors that a whole one gives are 0 to 1 % smaller (research-log.md)


class Row(NamedTuple):
    """What a layer gets: its number in a name, its parameters, the relative error of its fit, its sensitivity."""

    layer: str
    conv: ConvName
    parameters: int
    error: float
    sensitivity: float

    @property
    def cost(self) -> float:
        """What the error costs."""
        return weighted(self.error, self.sensitivity)


class Allocation(NamedTuple):
    """The mixed name that meets the budget, a row for each layer that it gave a number, and the parameters in all.

    `uniform`: the same with one number for all layers, that which comes closest to the budget; None where none does.
    """

    conv: ConvName | MixedName
    rows: list[Row]
    asked: int
    achieved: int
    uniform: "Allocation | None" = None

    @property
    def cost(self) -> float:
        """What the errors of all these layers cost: the sum that the choice makes small."""
        return sum(row.cost for row in self.rows)

    @property
    def rise(self) -> float:
        """The rise of the loss that these errors let expect to second order: the sum of ½·s·e²."""
        return sum(row.sensitivity * row.error**2 / 2 for row in self.rows)


def allocate(config: dict, trained: nn.Module, batches: Iterable[Tensor]) -> Allocation:
    """Return the numbers by which a network, fitted to a trained one, loses least within `config["budget"]` parameters.

    Args: config: a resolved configuration, the numbers of whose `conv` are open; trained: a network of its architecture;
    batches: images (B, 3, H, W), on the device of `trained`. Raises RequestError where the budget is out of reach, or where
    the network cannot start from the trained one.
    """
    name, layers = parse_open(config["conv"]), [swap.name for swap in partition(config).swaps]
    fixed, curves = open_curves(config)
    room = config["budget"] - fixed
    cheapest = mixed(name, {curve.layer: curve.cheapest for curve in curves}, layers)
    try:
        approximation.check(build({**config, "conv": str(cheapest)}), trained)
    except ValueError as error:
        raise RequestError(f"--init_from {config['init_from']}: {error}")
    of = sensitivities(trained, [curve.layer for curve in curves], batches, config["seed"])
    for curve in curves:
        kernel_and_bias = approximation.dense(trained.get_submodule(curve.layer))
        curve.prepare(kernel_and_bias, of[curve.layer], config["seed"], EFFORT * (config["fit_effort"] or 1.0))
    uniform = _uniform(config)
    one = blocks.decided(uniform, layers) if uniform else {}
    chosen, alike = _search(curves, room, [one[curve.layer] for curve in curves if one])
    rows = _rows(curves, chosen)
    conv = mixed(name, {row.layer: row.conv for row in rows}, layers)
    achieved = fixed + sum(row.parameters for row in rows)
    if (counted := summary({**config, "conv": str(conv)})["params"]) != achieved:
        raise SwapconvError(f"the layers of {conv} add up to {achieved} parameters, the network has {counted}")
    asked = config["budget"]
    level = Allocation(uniform, _rows(curves, alike), asked, fixed + _parameters(alike)) if uniform else None
    return Allocation(conv, rows, asked, achieved, level)


def open_curves(config: dict) -> tuple[int, list[Curve]]:
    """Return the parameters that no number changes, and the curve of each layer whose number is open. Nothing is fitted.

    Raises RequestError where a layer cannot be what it is to be, OutOfReach where the budget is.
    """
    fixed, varying = budget.divide(config, parse_open(config["conv"]))
    curves = [_curve(config, swap, own) for swap, own in varying]
    _check_reach(config, fixed, curves)
    return fixed, curves


def _rows(curves: Sequence[Curve], points: Sequence[Point]) -> list[Row]:
    return [
        Row(curve.layer, curve.name(point), point.parameters, point.error, curve.sensitivity)
        for curve, point in zip(curves, points)
    ]


def _curve(config: dict, swap: Swap, name: OpenName) -> Curve:
    numbers = budget.whole_numbers(config, name.number) if isinstance(name.number, Whole) else None
    return Curve(swap.name, name, swap.spec, numbers)


def _check_reach(config: dict, fixed: int, curves: Sequence[Curve]) -> None:
    """Raise OutOfReach where the layers cannot be so small, or not so large."""
    least, most = (fixed + sum(getattr(curve, end) for curve in curves) for end in ("least", "most"))
    if not least <= config["budget"] <= most:
        reach = f"{least:,} to {most:,} are in reach" if least <= most < float("inf") else "nothing is in reach"
        what = f"a budget of {config['budget']:,} parameters is out of reach for {config['conv']}, a number a layer"
        raise budget.OutOfReach(f"{what}, on {config['network']}", reach)


def _uniform(config: dict) -> ConvName | MixedName | None:
    """Return the name with one common number that comes closest to the budget, None where there is none."""
    try:
        return parse_name(budget.resolve({**config, "allocate": None})[0]["conv"])
    except RequestError:
        return None


def _parameters(points: Iterable[Point]) -> int:
    return sum(point.parameters for point in points)


def _cost(points: Iterable[Point]) -> float:
    return sum(point.cost for point in points)


def mixed(name: OpenName | MixedName, found: Mapping[str, ConvName], layers: Sequence[str]) -> MixedName:
    """Return an open name with the numbers that were found for its layers; the patterns that have numbers stay.

    Args: layers: the dotted names of all that can be swapped.
    """
    parts: list[tuple[str, ConvName]] = []
    rest = dict(found)
    for regex, own in name.parts if isinstance(name, MixedName) else [("", name)]:
        if not isinstance(own, OpenName):
            parts.append((regex, own))
            continue
        own_layers = [layer for layer in rest if found_in(regex, layer)]
        parts += [(_pattern(layer, layers), rest.pop(layer)) for layer in own_layers]
    return MixedName(tuple(parts))


def _pattern(layer: str, layers: Sequence[str]) -> str:
    """Return a regular expression that is found in the name of this layer alone: the name itself where that does it."""
    alone = not any(found_in(layer, other) for other in layers if other != layer)
    return layer if alone and found_in(layer, layer) else f"^{re.escape(layer)}$"


def _search(curves: list[Curve], room: int, uniform: Sequence[ConvName]) -> tuple[list[Point], list[Point]]:
    """Return the point of each curve that is chosen, and that of its name in `uniform`, which may be empty."""
    spare = room - sum(curve.least for curve in curves)
    for curve in curves:
        curve.limit(curve.least + spare)
    with tqdm(desc="allocating", unit="fit", disable=None, leave=False) as bar:

        def fit(curve: Curve, number: float) -> Point:
            point = curve.fit(number)
            bar.update()
            return point

        alike = [fit(curve, conv.numbers[0]) for curve, conv in zip(curves, uniform)]
        numbers = [curve.coarse() for curve in curves]
        for _ in range(1 + ROUNDS):
            bar.total = bar.n + sum(map(len, numbers))
            for curve, each in zip(curves, numbers):
                for number in each:
                    fit(curve, number)
            chosen = share_out([curve.points() for curve in curves], room)
            numbers = [curve.between(point) for curve, point in zip(curves, chosen)]
    chosen = _fill(curves, chosen, room)
    return (alike if alike and _parameters(alike) <= room and _cost(alike) < _cost(chosen) else chosen), alike


def share_out(curves: Sequence[Sequence[Point]], room: int) -> list[Point]:
    """Return a point of each curve, with at most `room` parameters in all, by steps along the hulls, the steepest first.

    >>> cheap, dear = [Point(1, 8.0), Point(2, 4.0), Point(4, 1.0)], [Point(1, 3.0), Point(3, 1.0)]
    >>> [(point.parameters, point.cost) for point in share_out([cheap, dear], 5)]
    [(4, 1.0), (1, 3.0)]
    """
    hulls = [hull(points) for points in curves]
    places, left = [0] * len(hulls), room - sum(each[0].parameters for each in hulls)
    while True:
        steps = [(each[at], each[at + 1], n) for n, (each, at) in enumerate(zip(hulls, places)) if at + 1 < len(each)]
        steps = [(a.slope_to(b), n, b.parameters - a.parameters) for a, b, n in steps]
        fitting = [step for step in steps if step[2] <= left]
        if not fitting:
            return [each[at] for each, at in zip(hulls, places)]
        _, which, parameters = min(fitting)
        places[which] += 1
        left -= parameters


def _fill(curves: list[Curve], chosen: list[Point], room: int) -> list[Point]:
    """Give what is left to layers whose number can be larger for it, those first whose cost falls most for a parameter."""
    chosen, left = list(chosen), room - _parameters(chosen)
    slopes = [
        min((point.slope_to(each) for each in curve.points() if each.parameters > point.parameters), default=0.0)
        for curve, point in zip(curves, chosen)
    ]
    for which in sorted(range(len(curves)), key=slopes.__getitem__):
        number = curves[which].largest(chosen[which].parameters + left)
        if number is not None and (point := curves[which].fit(number)).cost < chosen[which].cost:
            left -= point.parameters - chosen[which].parameters
            chosen[which] = point
    return chosen


def report(found: Allocation) -> str:
    """Return the layers as a table, their sums, and the same for one number of all layers."""
    rows = [[row.layer, row.conv, row.parameters, row.error, row.sensitivity, row.cost] for row in found.rows]
    headers = ["layer", "conv", "parameters", "relative error", "sensitivity", "cost"]
    lines = [tabulate(rows, headers, intfmt=",", floatfmt=("", "", "", ".4f", ".3e", ".3e"))]
    lines.append(f"budget: {found.asked:,} parameters asked, {found.achieved:,} achieved; {_sums(found)}")
    if (one := found.uniform) is not None:
        lines.append(f"one number for all: {one.conv}, {one.achieved:,} parameters; {_sums(one)}")
    return "\n".join(lines)


def _sums(found: Allocation) -> str:
    return f"cost {found.cost:.4g}, rise of the loss to second order {found.rise:.4g}"
