"""What errors of a layer's fit cost at each number of parameters, as far as they have been looked at.

curve = Curve("groups.0.0.conv1", parse_family("SepHashed"), spec)
curve.limit(2_000), curve.prepare((kernel, bias), sensitivity=1.7, seed=0)
point = curve.fit(0.25)
point.parameters, point.error, point.cost
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import Tensor

import blocks
from counting.budget import SMALLEST, block_or_limit, shortest, threshold
from layers.init import initialise
from layers.registry import ConvName, OpenName
from layers.spec import ConvSpec
from system.hashing import key
from weights.approximation import approximate_layer

LOST = 1e-6  # a fit that keeps a smaller part of its kernel counts as one that keeps this
STEP = 10 ** (1 / 3)  # from one share to the next that is looked at first
_counted: dict[tuple[ConvName, ConvSpec], float] = {}  # parameters, alike for the layers of a shape; or a limit


class Point(NamedTuple):
    """A number of a family in a layer: its parameters, and what the fit's relative error costs there."""

    parameters: int
    cost: float
    number: float | int = 0
    error: float = 0.0

    def slope_to(self, other: "Point") -> float:
        """Return how much the cost rises to another point for each parameter more."""
        return (other.cost - self.cost) / (other.parameters - self.parameters)


def weighted(error: float, sensitivity: float) -> float:
    """Return what a relative error e costs: −½·s·log(1 − e²) with the sensitivity s, which is ½·s·e² where e is small.

    A least-squares fit keeps the part 1 − e² of its kernel's squares. Layers follow each other, so these parts multiply.
    """
    return -sensitivity * math.log(max(1 - error**2, LOST)) / 2


def hull(points: Iterable[Point]) -> list[Point]:
    """Return the lower convex hull of points by their parameters, as far as it falls.

    >>> [point.parameters for point in hull([Point(1, 9.0), Point(2, 8.0), Point(3, 2.0), Point(4, 2.5), Point(9, 1.0)])]
    [1, 3, 9]
    """
    kept: list[Point] = []
    for point in sorted(points):
        if kept and (point.cost >= kept[-1].cost or point.parameters == kept[-1].parameters):
            continue
        while len(kept) > 1 and kept[-2].slope_to(kept[-1]) >= kept[-2].slope_to(point):
            kept.pop()
        kept.append(point)
    return kept


class Curve:
    """The points of one layer. `numbers`: all that a whole number may be, None for a share."""

    def __init__(self, layer: str, name: OpenName, spec: ConvSpec, numbers: range | None = None):
        self.layer, self.open, self.spec = layer, name, spec
        self.sensitivity = 0.0
        self._points: dict[int, Point] = {}
        if numbers is not None:
            self._whole = [each for each in _geometric(numbers) if math.isfinite(self._parameters(each))]
            self._smallest = min(self._whole, key=self._parameters, default=None)
        else:
            self._whole = None
            self._smallest = threshold(lambda share: self._parameters(share) == -math.inf, SMALLEST, 1.0)[1]
        self.limit(math.inf)

    def _parameters(self, number: float | int) -> float:
        if (asked := (self.open.named(number), self.spec)) not in _counted:
            block = block_or_limit(*asked, self.layer)
            _counted[asked] = block if isinstance(block, float) else block.parameter_count()
        return _counted[asked]

    @property
    def least(self) -> float:
        """The fewest parameters of the layer; inf where no number is possible."""
        least = math.inf if self._smallest is None else self._parameters(self._smallest)
        return math.inf if least == -math.inf else least

    @property
    def most(self) -> float:
        """The most parameters within the limit."""
        return -math.inf if self._largest is None else self._parameters(self._largest)

    @property
    def cheapest(self) -> ConvName:
        """The name of the fewest parameters."""
        return self._named(self._smallest)

    def limit(self, parameters: float) -> None:
        """Look at no point of more parameters."""
        self._largest = self.largest(parameters)

    def largest(self, parameters: float) -> float | int | None:
        """Return the number of the most parameters, but at most so many; None where there is none."""
        if self._whole is not None:
            fitting = [place for place, each in enumerate(self._whole) if self._parameters(each) <= parameters]
            if not fitting:
                return None
            best = max(fitting, key=lambda place: self._parameters(self._whole[place]))
            ends = self._whole[max(0, best - 1)], self._whole[min(best + 1, len(self._whole) - 1)]
            near = [each for each in range(ends[0], ends[1] + 1) if self._parameters(each) <= parameters]
            return max(near, key=self._parameters)
        number = threshold(lambda share: self._parameters(share) < math.inf and self._parameters(share) <= parameters,
                           self._smallest, 1.0)[0]  # fmt: skip
        return number if math.isfinite(self._parameters(number)) and self._parameters(number) <= parameters else None

    def prepare(self, trained: tuple[Tensor, Tensor | None], sensitivity: float, seed: int, effort: float) -> None:
        """Take what fits need: the trained kernel (o, i, k, k) and bias (o,), the sensitivity, the seed of structures."""
        kernel, bias = trained
        self._trained = kernel.detach(), None if bias is None else bias.detach()
        self.sensitivity, self._seed, self._effort = sensitivity, seed, effort

    def fit(self, number: float | int) -> Point:
        """Return the point of a number; its fit is done once for each number of parameters."""
        parameters = self._parameters(number)
        if parameters not in self._points:
            kernel, bias = self._trained
            with kernel.device:
                block = blocks.build_block(self.open.named(number), self.spec, key(self._seed, self.layer))
            initialise(block, self._seed, self.layer)
            error = approximate_layer(block, kernel, bias, self._effort)
            self._points[parameters] = Point(parameters, weighted(error, self.sensitivity), number, error)
        return self._points[parameters]

    def points(self) -> list[Point]:
        """Return what has been looked at, by parameters."""
        return sorted(self._points.values())

    def coarse(self) -> list[float | int]:
        """Return the numbers to look at first, all of different parameters, within the limit."""
        if self._whole is not None:
            numbers = [each for each in self._whole if self._parameters(each) <= self.most]
        else:
            numbers = [self._smallest, *_falling(self._largest, self._smallest)]
        return list({self._parameters(number): number for number in numbers}.values())

    def between(self, point: Point) -> list[float | int]:
        """Return numbers between a point and its neighbours, as far as there are any of other parameters."""
        points = self.points()
        at = points.index(point)
        found = []
        for other in points[max(0, at - 1) : at] + points[at + 1 : at + 2]:
            middle = self._middle(*sorted((point, other)))
            if middle is not None and self._parameters(middle) <= self.most:
                found.append(middle)
        return found

    def _middle(self, less: Point, more: Point) -> float | int | None:
        """Return the first number of parameters between those of two points that halving their ratio meets; None without.

        Neither point need lie in the middle of its step: the smallest share of a rank of 1 is a tiny part of the largest.
        """
        low, high = less.number, more.number
        while True:
            middle = math.sqrt(low * high)
            middle = round(middle) if self._whole is not None else float(f"{middle:.3g}")
            if not min(low, high) < middle < max(low, high):
                return None
            if less.parameters < self._parameters(middle) < more.parameters:
                return middle
            low, high = (middle, high) if self._parameters(middle) <= less.parameters else (low, middle)

    def name(self, point: Point) -> ConvName:
        """Return the name of a point, with the shortest number that gives its parameters."""
        return self._named(point.number)

    def _named(self, number: float | int) -> ConvName:
        if self._whole is None:
            number = shortest(self._parameters, self._parameters(number), SMALLEST, 1.0)
        return self.open.named(number)


def _geometric(numbers: range) -> Iterator[int]:
    """Yield whole numbers of about equal ratios, with both ends, as 1, 2, 3, 4, 6, 8, 12 and 16."""
    found = {numbers[0], numbers[-1]}
    power = 1
    while power < numbers[-1]:
        found |= {each for each in (power, power + power // 2) if each in numbers}
        power *= 2
    yield from sorted(found)


def _falling(high: float, low: float) -> Iterator[float]:
    """Yield shares from `high` down to above `low`, in equal ratios."""
    while high > low:
        yield high
        high = float(f"{high / STEP:.3g}")
