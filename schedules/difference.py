"""Decide whether chance alone explains the difference of two test errors.

taught, alone = Result(3.37, images=297), Result(4.71, images=297)
standard_error(taught, alone)                  # 1.61 points
limit(taught, alone)                           # 3.16 points: what chance explains
is_told_apart(taught, alone)                   # False
verdict(taught, alone)                         # "not told apart"
"""

import math
from dataclasses import dataclass

NOT, ONE = "not told apart", "one seed"


@dataclass(frozen=True)
class Result:
    """A test error in %: the mean over `seeds`, with the deviation `std`, of `images` test images (None: unknown)."""

    error: float
    images: int | None
    seeds: int = 1
    std: float | None = None


def standard_error(one: Result, other: Result) -> float:
    """Return the standard error of the difference of two errors, in percentage points.

    An error rate p on n test images has the variance p(1 − p)/n, as the test set is a random sample. A mean over k
    seeds with the standard deviation s has the variance s²/k besides. All seeds are tested on the same images, so k
    does not divide the first part. The variances of both errors add up:

        √( p₁(1 − p₁)/n₁ + s₁²/k₁ + p₂(1 − p₂)/n₂ + s₂²/k₂ )

    Both errors are usually of the same images, which makes the true value smaller. Raise ValueError where the number of
    test images is not known.
    """
    return 100 * math.sqrt(_variance(one) + _variance(other))


def _variance(result: Result) -> float:
    if not result.images:
        raise ValueError("the number of test images is not known")
    rate = min(1.0, max(0.0, result.error / 100))
    return rate * (1 - rate) / result.images + _variance_of_seeds(result)


def _variance_of_seeds(result: Result) -> float:
    return ((result.std or 0.0) / 100) ** 2 / result.seeds if result.seeds > 1 else 0.0


def limit(one: Result, other: Result) -> float:
    """Return up to how many points two errors differ by chance alone, in 19 of 20 comparisons.

    It is the standard error of the difference times Student's t for the degrees of freedom of Welch (1947): a deviation of
    few seeds is itself uncertain. With the variance v of the difference, s²/k of the seeds of each, and that of the test
    images, which is known, so that it counts as one of endlessly many degrees:

        v² / ( (s₁²/k₁)²/(k₁ − 1) + (s₂²/k₂)²/(k₂ − 1) )

    1.96 standard errors where seeds hardly differ; where they are all that differs 2.78 with three seeds each, 4.30 with two.
    Raise ValueError where the number of test images is not known.
    """
    from scipy.special import stdtrit  # here: it takes a third of a second

    error = standard_error(one, other)
    of_seeds = sum(_variance_of_seeds(each) ** 2 / (each.seeds - 1) for each in (one, other) if each.seeds > 1)
    degrees = (error / 100) ** 4 / of_seeds if of_seeds else math.inf
    return float(stdtrit(degrees, 0.975)) * error


def is_told_apart(one: Result, other: Result) -> bool | None:
    """Return whether the errors differ by more than their `limit`; None where the test images are not known.

    False where one of the errors is of a single seed, as nobody knows what another seed would give.
    """
    if min(one.seeds, other.seeds) < 2:
        return False
    if not (one.images and other.images):
        return None
    return _is_beyond(one, other)


def _is_beyond(one: Result, other: Result) -> bool:
    """Return whether the errors differ by more than their limit, as far as is known."""
    return bool(one.images and other.images) and abs(one.error - other.error) > limit(one, other)


def verdict(one: Result, other: Result) -> str:
    """Return is_told_apart in words: `told apart`, `not told apart` or `test images unknown`.

    `one seed` where the errors differ by more than their `limit`, but one of them is of a single seed.
    """
    if min(one.seeds, other.seeds) < 2 and _is_beyond(one, other):
        return ONE
    return {True: "told apart", False: NOT, None: "test images unknown"}[is_told_apart(one, other)]


def with_verdict(one: Result, other: Result) -> str:
    """Return the difference one − other in points with the verdict, for a table: `-1.35, not told apart`."""
    return f"{one.error - other.error:+.2f}, {verdict(one, other)}"


def reason(one: Result, other: Result) -> str:
    """Return the reason for the verdict, for below a table.

    Such as `-1.34 points, within the 3.16 that chance explains (95 %, 297 test images), and of one seed`.
    """
    difference, of_one = one.error - other.error, min(one.seeds, other.seeds) < 2
    if not (one.images and other.images):
        return f"{difference:+.2f} points; of how many test images is not recorded" + ", and of one seed" * of_one
    beyond, most = _is_beyond(one, other), limit(one, other)
    images = f"{one.images:,}" if one.images == other.images else f"{one.images:,} and {other.images:,}"
    seeds = f", {'but' if beyond else 'and'} of one seed" if of_one else ""
    side = "beyond" if beyond else "within"
    return f"{difference:+.2f} points, {side} the {most:.2f} that chance explains (95 %, {images} test images){seeds}"
