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
    """A test error in %: the mean over `seeds`, with the deviation `std`, of `images` test images (None: unknown).

    Without a deviation it counts as one seed.
    """

    error: float
    images: int | None
    seeds: int = 1
    std: float | None = None

    @property
    def is_of_one(self) -> bool:
        """Return whether nothing is known of other seeds."""
        return self.seeds < 2 or self.std is None


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
    return 0.0 if result.is_of_one else (result.std / 100) ** 2 / result.seeds


def limit(one: Result, other: Result) -> float:
    """Return the difference, in points, that chance alone exceeds in 1 of 20 comparisons of equal settings.

    It is the standard error of the difference times Student's t, since a deviation of few seeds is itself uncertain, for the
    degrees of freedom of Welch (1947). The variance of the test images is known exactly, so that it has infinitely many.
    With the variance v of the difference, and s²/k of the seeds of each error:

        v² / ( (s₁²/k₁)²/(k₁ − 1) + (s₂²/k₂)²/(k₂ − 1) )

    So t is 1.96 where seeds hardly differ. Where images hardly count it is 2.78 for three seeds each that vary alike, and 4.30
    where those of one error vary alone; 4.30 and 12.7 for two. Raise ValueError where the number of test images is not known.
    """
    from scipy.special import stdtrit  # here: it takes a third of a second

    error = standard_error(one, other)
    of_seeds = sum(_variance_of_seeds(each) ** 2 / (each.seeds - 1) for each in (one, other) if not each.is_of_one)
    degrees = (error / 100) ** 4 / of_seeds if of_seeds else math.inf
    return float(stdtrit(degrees, 0.975)) * error


def is_told_apart(one: Result, other: Result) -> bool | None:
    """Return whether the errors differ by more than their `limit`; None where the test images are not known.

    False where one of the errors is of a single seed, as nobody knows what another seed would give.
    """
    if not (one.images and other.images):
        return None
    return not (one.is_of_one or other.is_of_one) and _is_beyond(one, other)


def _is_beyond(one: Result, other: Result) -> bool:
    return abs(one.error - other.error) > limit(one, other)


def verdict(one: Result, other: Result) -> str:
    """Return is_told_apart in words: `told apart`, `not told apart` or `test images unknown`.

    `one seed` where the errors differ by more than their `limit`, but one of them is of a single seed.
    """
    told = is_told_apart(one, other)
    if told is False and _is_beyond(one, other):
        return ONE
    return {True: "told apart", False: NOT, None: "test images unknown"}[told]


def with_verdict(one: Result, other: Result) -> str:
    """Return the difference one − other in points with the verdict, for a table: `-1.35, not told apart`."""
    return f"{one.error - other.error:+.2f}, {verdict(one, other)}"


def reason(one: Result, other: Result) -> str:
    """Return the reason for the verdict, for below a table.

    Such as `-1.34 points, within the 3.16 that chance explains (95 %, 297 test images), and of one seed`.
    """
    difference, of_one = one.error - other.error, one.is_of_one or other.is_of_one
    if not (one.images and other.images):
        return f"{difference:+.2f} points; of how many test images is not recorded" + ", and of one seed" * of_one
    most = limit(one, other)
    beyond = abs(difference) > most
    images = f"{one.images:,}" if one.images == other.images else f"{one.images:,} and {other.images:,}"
    seeds = f", {'but' if beyond else 'and'} of one seed" if of_one else ""
    side = "beyond" if beyond else "within"
    return f"{difference:+.2f} points, {side} the {most:.2f} that chance explains (95 %, {images} test images){seeds}"
