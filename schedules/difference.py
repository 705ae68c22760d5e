"""Whether two test errors can be told apart, or differ by no more than chance may have made.

taught, alone = Result(3.37, images=297), Result(4.71, images=297)
standard_error(taught, alone)                  # 1.61 points
verdict(taught, alone)                         # "not told apart"
"""

import math
from dataclasses import dataclass

NOT = "not told apart"


@dataclass(frozen=True)
class Result:
    """A test error in %, the mean of so many `seeds` with their standard deviation, on so many test images (None: the
    record does not say)."""

    error: float
    images: int | None
    seeds: int = 1
    std: float | None = None


def standard_error(one: Result, other: Result) -> float:
    """Of the difference of two errors, in points of a percent.

    An error rate p on n test images has the variance p(1 − p)/n: which images are in the test set is chance. A mean over k
    seeds with the standard deviation s has the variance s²/k besides, as the seeds are chance too; all seeds are tested on
    the same images, so that k does not make the first part smaller. The variances of both errors add up:

        √( p₁(1 − p₁)/n₁ + s₁²/k₁ + p₂(1 − p₂)/n₂ + s₂²/k₂ )

    Both errors are of the same images as a rule, which makes the true one rather smaller. ValueError without images.
    """
    return 100 * math.sqrt(_variance(one) + _variance(other))


def _variance(result: Result) -> float:
    if not result.images:
        raise ValueError("the number of test images is not known")
    rate = min(1.0, max(0.0, result.error / 100))
    of_seeds = ((result.std or 0.0) / 100) ** 2 / result.seeds if result.seeds > 1 else 0.0
    return rate * (1 - rate) / result.images + of_seeds


def verdict(one: Result, other: Result) -> str:
    """`not told apart` where the errors differ by no more than two standard errors, or where one of them is of a single
    seed, of which nobody knows what another would give; `told apart` else. `test images unknown` where it cannot be said."""
    if min(one.seeds, other.seeds) < 2:
        return NOT
    if not (one.images and other.images):
        return "test images unknown"
    return "told apart" if abs(one.error - other.error) > 2 * standard_error(one, other) else NOT


def told(one: Result, other: Result) -> str:
    """The difference one − other in points and its verdict, short enough for a table: `-1.35, not told apart`."""
    return f"{one.error - other.error:+.2f}, {verdict(one, other)}"


def reason(one: Result, other: Result) -> str:
    """What the verdict stands on, for below a table: `-1.34 points, not more than two standard errors of 297 test images
    (3.23), and of one seed`."""
    difference, of_one = one.error - other.error, min(one.seeds, other.seeds) < 2
    if not (one.images and other.images):
        return f"{difference:+.2f} points; of how many test images is not recorded" + ", and of one seed" * of_one
    limit = 2 * standard_error(one, other)
    beyond = abs(difference) > limit
    images = f"{one.images:,}" if one.images == other.images else f"{one.images:,} and {other.images:,}"
    seeds = f", {'but' if beyond else 'and'} of one seed" if of_one else ""
    side = "more" if beyond else "not more"
    return f"{difference:+.2f} points, {side} than two standard errors of {images} test images ({limit:.2f}){seeds}"
