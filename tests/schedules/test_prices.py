"""Spot prices: means of the last seven by their moments, what a study costs on each offer, one line for what is wrong."""

import json
from pathlib import Path

import pytest
from results import refused
from small_runs import TINY

from schedules import estimate, prices
from schedules.estimate import Measured, left
from schedules.job_queue import Queue
from schedules.layout import Piece, hours
from schedules.schedule import parse


def entry(price, day=1, kind="g5.xlarge", zone="a", product="Linux/UNIX", **other):
    stamp = f"2026-11-{day:02}T00:00:00Z"
    return {"AvailabilityZone": zone, "InstanceType": kind, "ProductDescription": product, "SpotPrice": str(price),
            "Timestamp": stamp} | other  # fmt: skip


def write(path, *entries):
    Path(path).write_text(json.dumps({"SpotPriceHistory": entries}))


def told(capsys, *arguments):
    assert prices.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_last_seven_by_their_moments(workplace, capsys):
    """Of each zone, type and product, whatever their order and file; an entry of two files counts once; cheapest GPU first."""
    days = [entry(day, day) for day in (9, 3, 1, 10, 2, 8, 4)]
    write(
        "a.json",
        *days,
        entry(4.0, kind="g5.12xlarge", Timestamp="2026-11-01T01:00:00+02:00"),
        entry(0.01, kind="c5.large"),
    )
    write("b.json", *days[:2], *(entry(day, day) for day in (5, 6, 7)), entry(0.5, product="Windows", zone="b"))
    rows = told(capsys, "a.json", "b.json")["offers"]
    shown = [
        (row["type"], row["zone"], row["product"], row["price"], row["price_per_gpu"], row["prices"]) for row in rows
    ]
    assert shown == [
        ("g5.xlarge", "b", "Windows", 0.5, 0.5, 1),
        ("g5.12xlarge", "a", "Linux/UNIX", 4.0, 1.0, 1),
        ("g5.xlarge", "a", "Linux/UNIX", 7.0, 7.0, 7),  # of days 4 to 10
        ("c5.large", "a", "Linux/UNIX", 0.01, None, 1),
    ]
    assert rows[2]["gpu"] == "A10G" and rows[1]["gpus"] == 4
    assert len(told(capsys, "a.json", "b.json", "--product", "Windows")["offers"]) == 1
    first = told(capsys, "a.json", "--gpus", "c5.large=2")["offers"][0]
    assert (first["type"], first["gpus"], first["price_per_gpu"]) == ("c5.large", 2, 0.005)
    assert prices.main(["a.json"]) == 0
    out = capsys.readouterr().out
    assert "no number of GPUs is known of c5.large: --gpus c5.large=N says it" in out and "5.2857" in out


SAID = {"epoch_seconds": 1800.0, "start_seconds": 0.0, "device": "cuda:0"}
JOBS = ["digits teacher -t t", "digits student -t t -s s", "digits teacher -t u", "digits teacher -t v"]


def test_what_a_study_costs(workplace, capsys, monkeypatch):
    """Each job takes an hour, a student waits for its teacher: no number of GPUs makes that less than two hours."""
    jobs, faults = parse([["python", "main.py", *line.split(), *TINY] for line in JOBS])
    places = [*Queue(jobs, 0).places.values()]
    measured = [Measured(places[:1], SAID, ""), Measured(places[1:], SAID, "")]
    assert not faults and [*left(measured).values()] == [Piece(1), Piece(1, 1, ("t",)), Piece(1), Piece(1)]
    Path("study.json").write_text(json.dumps([job.argv for job in jobs]))
    write("spot.json", entry(1.0), entry(2.0, kind="g5.12xlarge"), entry(0.1, kind="c5.large"))
    monkeypatch.setattr(estimate, "measure", lambda *_: measured)
    rows = told(capsys, "spot.json", "--study", "study.json")["offers"]
    assert [(row["type"], row["study_hours"], row["study_cost"]) for row in rows] == [
        ("g5.12xlarge", 2.0, 4.0), ("g5.xlarge", 4.0, 4.0), ("c5.large", None, None),
    ]  # fmt: skip
    found = told(capsys, "spot.json", "--study", "study.json", "--machines", "3", "--speed", "2")
    assert [(row["study_hours"], row["study_cost"]) for row in found["offers"]] == [
        (1.0, 3.0),
        (1.0, 6.0),
        (None, None),
    ]
    assert found["study"] == {"file": "study.json", "machines": 3, "speed": 2.0, "hours": 4.0, "chain": 2.0, "gpus": 1,
                              "unit": "GPU", "device": "cuda:0"}  # fmt: skip
    assert prices.main(["spot.json", "--study", "study.json"]) == 0
    out = capsys.readouterr().out
    assert (
        "4 GPU-hours are left of study.json, measured here on cuda:0; a GPU there is taken to be 1 times as fast" in out
    )
    monkeypatch.setattr(estimate, "measure", lambda *_: [])
    assert "all 4 runs are finished" in refused(capsys, prices.main, "spot.json", "--study", "study.json")[1]
    monkeypatch.setattr(estimate, "measure", lambda *_: [Measured(places[:1], {}, "no data")])
    assert "t cannot be run: no data" in refused(capsys, prices.main, "spot.json", "--study", "study.json")[1]


def test_jobs_are_laid_out_on_gpus():
    """Whole jobs, each on one machine, after those that it needs, the longest of those that can begin first."""
    equal = {name: Piece(1.0) for name in "abcde"}
    sizes = ((1, 4), (2, 2), (1, 5), (9, 1), (1, 1))
    assert [hours(equal, machines, gpus) for machines, gpus in sizes] == [2, 2, 1, 1, 5]
    assert hours(dict(zip("abc", (Piece(1), Piece(1), Piece(2)))), 1, 2) == 2  # c first, though the last
    wide = {"a": Piece(1, 3), "b": Piece(1, 2), "c": Piece(1)}
    assert [hours(wide, machines, gpus) for machines, gpus in ((1, 4), (2, 3), (3, 2))] == [2, 1, None]
    chain = {"t": Piece(2), "s": Piece(1, 1, ("t", "done")), "x": Piece(1.5), "y": Piece(2.5)}
    assert [hours(chain, 1, gpus) for gpus in (1, 2, 3)] == [7, 3.5, 3]  # of 2: t, x; y, s
    late = {"a": Piece(2), "b": Piece(2), "t": Piece(1), "s": Piece(3, 1, ("t",))}
    assert hours(late, 1, 2) == 4  # the teacher first, because its student takes long


@pytest.mark.parametrize(
    "text, said",
    [
        (None, "spot.json"),
        ("{", "spot.json is not JSON"),
        ("[]", "spot.json is no history of spot prices: it has no list 'SpotPriceHistory'"),
        ('{"SpotPriceHistory": []}', "spot.json holds no prices"),
        ('{"SpotPriceHistory": [3]}', "spot.json: price 1 of 1 is 3, not an object"),
        (entry("cheap"), "spot.json: price 1 of 1: SpotPrice 'cheap' is not a number above 0"),
        (entry("nan"), "SpotPrice 'nan' is not a number above 0"),
        (entry(-1), "SpotPrice '-1' is not a number above 0"),
        (entry(1, SpotPrice=0.5), "price 1 of 1: SpotPrice is 0.5, not a text"),
        (entry(1, InstanceType=None), "InstanceType is null, not a text"),
        (entry(1, Timestamp="yesterday"), "Timestamp 'yesterday' is no moment"),
    ],
)
def test_what_is_wrong_with_a_history(workplace, text, said, capsys):
    if text is not None:
        write("spot.json", text) if isinstance(text, dict) else Path("spot.json").write_text(text)
    assert said in refused(capsys, prices.main, "spot.json")[1]


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--product Linux", "there is no price of it; did you mean 'Linux/UNIX'? (known: 'Linux/UNIX')"),
        ("--gpus g5.xlarge", "'g5.xlarge' is not TYPE=N"),
        ("--gpus g5.xlarge=0", "'0' is not a whole number of at least 1"),
        ("--machines 2", "--machines 2 goes with --study"),
        ("--speed 2", "--speed 2 goes with --study"),
        ("--study study.json --speed 0", "'0' is not a number above 0"),
        ("--study study.json", "study.json"),
    ],
)
def test_wrong_flags_of_prices(workplace, flags, said, capsys):
    write("spot.json", entry(1))
    assert said in refused(capsys, prices.main, "spot.json", *flags.split())[1]
