"""Whether two errors can be told apart: the formula by hand and by random samples, and its words in tables."""

import math
import random
import re
import statistics

import pytest

from schedules import demo
from schedules.difference import NOT, ONE, Result, reason, standard_error, verdict, with_verdict


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
])  # fmt: skip
def test_verdicts(one, other, says):
    assert verdict(one, other) == says
    assert with_verdict(one, other) == f"{one.error - other.error:+.2f}, {says}"


def test_the_limit_is_two_standard_errors():
    for share, says in ((1.99, NOT), (2.01, "told apart")):
        one, other = Result(10.0, 1000, 2, 0.0), Result(10.0, 1000, 2, 0.0)
        for _ in range(50):  # the error whose distance is that share of the standard error
            other = Result(10 + share * standard_error(one, other), 1000, 2, 0.0)
        assert verdict(one, other) == says


def test_reasons():
    text = reason(Result(3.37, 297), Result(4.71, 297))
    assert text == "-1.34 points, not more than two standard errors of 297 test images (3.23), and of one seed"
    assert "+37.00 points, more than" in reason(Result(40, 297), Result(3, 297)) and "but of one seed" in reason(
        Result(40, 297), Result(3, 297)
    )
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
