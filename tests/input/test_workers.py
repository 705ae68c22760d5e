"""Processes that decode photographs: killed ones are a fault in one line, and all end with the process that trains."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from photo_samples import photographs
from samples import write_folder
from small_runs import ROOT

from input.photos.workers import worker_fault


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    write_folder(folder / "tree", photographs())
    return folder


def test_a_killed_worker_is_a_fault_in_one_line():
    killed = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    assert "often for want of memory" in str(worker_fault(killed))
    bus = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly: Bus error, out of\nshared memory")
    assert "/dev/shm" in str(worker_fault(bus)) and "\n" not in str(worker_fault(bus))
    for other in (
        RuntimeError("other"),
        ValueError("DataLoader worker"),
        RuntimeError("Caught KeyError in DataLoader worker process 0."),
    ):
        assert worker_fault(other) is None


PROGRAM = """
    import multiprocessing, os, signal, sys
    from input import datasets, places
    from input.augment import Augmentation
    from input.batches import BatchPlan
    from input.photos.loader import Photos
    from system.errors import MachineFault
    from system.signals import Deferred

    if __name__ == "__main__":
        place, how = sys.argv[1:]
        index = places.find("imagenet", None, imagenet_loc=place).read(1, False)
        photos = Photos(index, datasets.DATASETS["imagenet"], BatchPlan(Augmentation(cutout=0), 1, 0), side=16, workers=2)
        if how == "spawn":
            photos.pool.loader.multiprocessing_context = "spawn"
        with Deferred() as stop:
            batches = photos.train(0)
            next(batches)
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
            if how == "leave":
                sys.exit(7)
            if how == "wait":
                sys.stdin.readline()
            try:
                if how == "lose":
                    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
                print(1 + len(list(batches)) + len(list(photos.train(1))), stop(), flush=True)
            except MachineFault as error:
                print("fault:", error)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    "how",
    ["lose", signal.SIGTERM]
    + [pytest.param(how, marks=pytest.mark.long) for how in ("spawn", "leave", "kill", signal.SIGINT)],
)
def test_workers_live_as_long_as_they_are_needed(place, tmp_path, how):
    """They are gone soon after the process is, whatever ended it; a signal to all of them does not stop its last step."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    waits = how == "kill" or isinstance(how, int)
    process = subprocess.Popen(
        [sys.executable, program, place / "tree", "wait" if waits else how], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
    )  # fmt: skip
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    if how == "kill":
        process.kill()
    elif waits:
        os.killpg(process.pid, how)
        time.sleep(0.3)
    output, said = process.communicate("\n" if waits and how != "kill" else None)
    ended, said = time.monotonic(), (process.returncode, output, said)
    if how == "lose":
        assert output.startswith("fault: a process that decodes images ") and process.returncode == 0, said
    elif how not in ("leave", "kill"):
        assert output.split() == ["24", str(isinstance(how, int))] and process.returncode == 0, said
    while any(map(alive, workers)):
        assert time.monotonic() - ended < 10
        time.sleep(0.1)
