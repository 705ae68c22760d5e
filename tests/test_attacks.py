"""Short forms of attacks.py: kills at every stage, full disks, two processes with one name."""

import os

import pytest
from attacks import ALL, RUNS, full_disk, race, sweep
from children import Child


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which `teacher` holds a trained teacher `t`."""
    place = tmp_path_factory.mktemp("attacks")
    (place / "teacher").mkdir()
    command = [each if each != "r" else "t" for each in RUNS["teacher"]]
    assert Child(*command, cwd=place / "teacher").wait() == 0
    return place


def test_kills(place):
    counts = sweep(place, place / "teacher", kills=len(ALL))
    assert sum(counts[f"killed: {stage}"] for stage in ALL) == len(ALL) and counts["resumed to the end"]
    assert not (counts["lost epochs"] or counts["different ends"] or counts["files left over"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_full_disks(place):
    counts = full_disk(place, place / "teacher", [4, 70, 110, 150])
    assert counts["ended in one clear line"] >= 3 and not counts["unclear"] and counts["epochs announced"] > 0
    assert counts["went on when there was room"] == 4 and not (counts["different ends"] or counts["lost epochs"])


def test_races(place):
    counts = race(place, 8)
    assert sum(counts.values()) == 8 and not counts["more than one epoch recorded"]
