"""Whether two errors can be told apart: the formula by hand and by random samples, and its words in tables."""

import math
import random
import re
import statistics

import pytest
from references import statistics_of_scipy

from schedules import demo
from schedules.difference import NOT, ONE, Result, limit, reason, standard_error, verdict, with_verdict


def test_the_formula():
    taught, alone = Result(3.37, 297), Result(4.71, 297)
    by_hand = 100 * math.sqrt(0.0337 * 0.9663 / 297 + 0.0471 * 0.9529 / 297)
    assert standard_error(taught, alone) == pytest.approx(by_hand) and round(by_hand, 2) == 1.61
    several = Result(30, 10_000, 4, 0.8), Result(28, 5_000, 3, 0.6)
    parts = (0.3 * 0.7 / 10_000, 0.008**2 / 4, 0.28 * 0.72 / 5_000, 0.006**2 / 3)
    assert standard_error(*several) == pytest.approx(100 * math.sqrt(sum(parts)))
    assert standard_error(Result(0, 297), Result(0, 297)) == 0
    with pytest.raises(ValueError, match="not known"):
        standard_error(Result(1, None), alone)


def test_the_standard_error_is_what_drawing_gives():
    """2,000 pairs of test sets of 400 images each, with errors of 10 and of 20 %."""
    draw = random.Random(0)
    errors = [[100 * sum(draw.random() < rate for _ in range(400)) / 400 for rate in (0.1, 0.2)] for _ in range(2000)]
    spread = statistics.stdev(one - other for one, other in errors)
    assert spread == pytest.approx(standard_error(Result(10, 400), Result(20, 400)), rel=0.05)


@pytest.mark.parametrize("one, other, says", [
    (Result(3.37, 297), Result(4.71, 297), NOT),
    (Result(3.37, 297), Result(40, 297), ONE),
    (Result(30, 10_000, 3, 0.2), Result(40, 10_000), ONE),
    (Result(30, 10_000, 3, 0.2), Result(30.5, 10_000), NOT),
    (Result(30, 10_000, 3, 0.2), Result(32, 10_000, 3, 0.2), "told apart"),
    (Result(32, 10_000, 3, 0.2), Result(30, 10_000, 3, 0.2), "told apart"),
    (Result(30, 10_000, 3, 2.0), Result(32, 10_000, 3, 2.0), NOT),  # by its seeds
    (Result(30, 297, 3, 0.0), Result(32, 297, 3, 0.0), NOT),  # by its images
    (Result(0, 297, 3, 0.0), Result(0, 297, 3, 0.0), NOT),
    (Result(30, None, 3, 0.2), Result(40, None, 3, 0.2), "test images unknown"),
    (Result(30, None), Result(90, 297), "test images unknown"),
    (Result(30, 10_000, 3, None), Result(40, 10_000, 3, 0.2), ONE),  # one of three was tested
])  # fmt: skip
def test_verdicts(one, other, says):
    assert verdict(one, other) == says
    assert with_verdict(one, other) == f"{one.error - other.error:+.2f}, {says}"


def test_the_limit_by_hand():
    """1.96 and 4.303 standard errors: of images alone, and of two seeds each, where each degree of freedom is a seed's."""
    taught, alone = Result(3.37, 297), Result(4.71, 297)
    assert limit(taught, alone) == pytest.approx(1.959964 * standard_error(taught, alone))
    two = Result(30, 10**12, 2, 1.0), Result(31, 10**12, 2, 1.0)
    assert limit(*two) == pytest.approx(4.302653 * standard_error(*two), rel=1e-5)
    three = Result(30, 10_000, 3, 0.9), Result(28, 10_000, 3, 0.5)
    seeds, images = [0.009**2 / 3, 0.005**2 / 3], 0.3 * 0.7 / 10_000 + 0.28 * 0.72 / 10_000
    degrees = (sum(seeds) + images) ** 2 / (seeds[0] ** 2 / 2 + seeds[1] ** 2 / 2)
    assert limit(*three) == pytest.approx(statistics_of_scipy.t.ppf(0.975, degrees) * standard_error(*three))
    assert limit(Result(0, 297, 3, 0.0), Result(0, 297, 3, 0.0)) == 0
    with pytest.raises(ValueError, match="not known"):
        limit(Result(1, None), alone)


@pytest.mark.parametrize("seeds, deviation", [(2, 3.0), (3, 3.0), (3, 0.3), (5, 1.0)])
def test_of_equal_settings_one_pair_in_twenty_is_told_apart(seeds, deviation):
    """4,000 pairs with an error of 30 %, each on 10,000 images of its own."""
    draw, told = random.Random(0), 0
    for _ in range(4000):
        pair = []
        for _ in range(2):
            images = draw.gauss(0, 100 * math.sqrt(0.3 * 0.7 / 10_000))  # the same for all seeds
            errors = [30 + images + draw.gauss(0, deviation) for _ in range(seeds)]
            pair.append(Result(statistics.fmean(errors), 10_000, seeds, statistics.stdev(errors)))
        told += verdict(*pair) == "told apart"
    assert 0.025 < told / 4000 < 0.065


@pytest.mark.parametrize("share, says", [(0.99, NOT), (1.01, "told apart")])
def test_the_verdict_is_by_the_limit(share, says):
    one, other = Result(10.0, 1000, 2, 0.3), Result(10.0, 1000, 2, 0.3)
    for _ in range(50):  # the error whose distance is that share of the limit
        other = Result(10 + share * limit(one, other), 1000, 2, 0.3)
    assert verdict(one, other) == says


def test_reasons():
    text = reason(Result(3.37, 297), Result(4.71, 297))
    assert text == "-1.34 points, within the 3.16 that chance explains (95 %, 297 test images), and of one seed"
    of_one = reason(Result(40, 297), Result(3, 297))
    assert of_one.startswith("+37.00 points, beyond") and of_one.endswith(", but of one seed")
    assert reason(Result(40, 297, 2, 0.1), Result(3, 297, 2, 0.1)).endswith(")")
    assert (
        reason(Result(3, None), Result(4, 297))
        == "-1.00 points; of how many test images is not recorded, and of one seed"
    )


@pytest.mark.parametrize(
    "images, error, says",
    [(297, 4.38, "not told apart"), (297, 14.38, "told apart"), (None, 4.38, "test images unknown")],
)
def test_the_demo_says_what_is_told_apart(images, error, says):
    """In a table of 80 columns, of two seeds, with the reasons below."""

    def of(conv, error, params, active=None):
        counts = dict(params=params, mult_adds=26_788_480, mult_adds_exact=26_657_400, stored_bytes=704_080)
        config = {"conv": conv, "data_test": images} if images else {"conv": conv}
        row = {"test_top1_error": error, "seconds": 61.7} | ({"active_parameters": active} if active else {})
        return {"config": config, "counts": counts}, [row] * 30

    roles = {"teacher": [of("Conv", 2.36, 175_066)]}
    roles["student"] = [of("SepHashed_0.1", each, 9_066) for each in (error - 0.1, error + 0.1)]
    roles["student alone"] = [of("SepHashed_0.1", each, 9_066) for each in (4.95, 5.15)]
    roles["pruned"] = [of("Conv", each, 175_066, 8_773) for each in (30, 31)]
    lines = demo.table(roles).splitlines()
    assert re.split(r"\s{2,}", lines[0].strip()) == [*roles] == [*demo.RUNS]
    rows = {re.split(r"\s{2,}", line)[0]: re.split(r"\s{2,}", line.rstrip())[1:] for line in lines[2:-2]}
    assert max(map(len, lines[:-2])) <= 80 and max(map(len, lines)) <= 130
    assert rows["error %"] == ["2.36", f"{error:.2f} ± 0.14", "5.05 ± 0.14", "30.50 ± 0.71"]
    assert rows["conv"] == ["Conv", *["SepHashed_0.1"] * 2, "Conv"]
    assert rows["params"] == ["175,066", "9,066", "9,066", "175,066"] and rows["seconds"] == ["1,851", *["3,702"] * 3]
    assert rows["params, not 0"] == ["175,066", "9,066", "9,066", "8,773"] and rows["stored bytes"] == ["704,080"] * 4
    assert rows["mult-adds, published"] == ["26,788,480"] * 4 and rows["mult-adds, exact"] == ["26,657,400"] * 4
    assert lines[-2].startswith(f"student − student alone, {says}: {error - 5.05:+.2f} points")
    assert lines[-1].startswith(f"pruned − student, {'told apart' if images else says}: {30.5 - error:+.2f} points")
