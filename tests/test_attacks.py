"""Short forms of attacks.py: kills at every stage, full disks, two processes with one name, a search whose launcher is killed."""

import os

import pytest
from attacks import ALL, FAILURES, RUNS, full_disk, race, search_kills, sweep
from children import Child

pytestmark = pytest.mark.long
FEW = ["--train_size", "600"]  # 10 steps an epoch, with a checkpoint after the seventh: as many moments to hit as in 24


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which `teacher` holds a trained teacher `t`."""
    place = tmp_path_factory.mktemp("attacks")
    (place / "teacher").mkdir()
    command = [*(each if each != "r" else "t" for each in RUNS["teacher"]), *FEW]
    assert Child(*command, cwd=place / "teacher").wait() == 0
    return place


def test_kills(place):
    three = {name: [*RUNS[name], *FEW] for name in ("student", "pruned", "checkpoints within epochs")}
    counts = sweep(place, place / "teacher", len(ALL), runs=three)
    assert sum(counts[f"killed: {stage}"] for stage in ALL) == len(ALL) and counts["resumed to the end"]
    assert not any(counts[failure] for failure in FAILURES), counts


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_full_disks(place):
    counts = full_disk(place, place / "teacher", [110, 150], FEW)
    assert counts["ended in one clear line"] == 2 and counts["epochs announced"] > 0
    assert counts["went on when there was room"] == 2 and not any(counts[failure] for failure in FAILURES), counts


def test_races(place):
    counts = race(place, 3)  # the second with --resume
    assert sum(counts.values()) == 3 and not any(counts[failure] for failure in FAILURES), counts


def test_searches(tmp_path):
    """Runs that diverge and others that fail are in it, too."""
    counts = search_kills(tmp_path, 2)
    assert counts["launchers killed"] == 2 and counts["searches to the end"]
    assert not any(counts[failure] for failure in FAILURES), counts
