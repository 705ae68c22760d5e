"""What a training step on a CPU gains if the process keeps the memory that it frees (system/memory.py).

    OMP_NUM_THREADS=1 python benchmarks/freed.py [--convs Sep,Conv] [--repeats 5] [--json FILE]

A whole step of WRN-16-2 in a process of its own, by turns with what the C library does by itself (`default`, the baseline)
and with what main.py asks of it (`kept`): CPU milliseconds, median of 9 steps after 3, median of --repeats processes; pages
that the system gave in a step; the largest memory of the process.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.table import show
from system import memory

WAYS, BATCHES = ("default", "kept"), (32, 128)


def measure(way: str, conv: str, images: int) -> None:
    """Print what steps of one network cost in this process."""
    import resource

    from benchmarks.training import network_of, stepper

    if way == "kept":
        memory.keep_freed()
    run, spent = stepper(network_of(conv, 16, 2)[1], images), []
    for _ in range(3):
        run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(9):
        began = time.process_time()
        run()
        spent.append(time.process_time() - began)
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = (used.ru_minflt - before) / 9
    print(json.dumps({"ms": 1000 * median(spent), "pages": pages, "largest": used.ru_maxrss / 1024}))


def in_turn(conv: str, images: int, repeats: int) -> dict:
    """Return a network's row of the table."""
    environment = {
        name: value for name, value in os.environ.items() if name not in (*memory.ALLOCATOR, "GLIBC_TUNABLES")
    }
    found: dict[str, list[dict]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            command = [sys.executable, __file__, "--one", way, conv, str(images)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found[way].append(json.loads(done.stdout))
    row = {"batch": images, "conv": conv}
    for key in ("ms", "pages", "largest"):
        row |= {f"{key}, {way}": round(median(each[key] for each in found[way]), 1) for way in WAYS}
    ratios = [kept["ms"] / default["ms"] for default, kept in zip(found["default"], found["kept"])]
    return row | {"kept / default": round(median(ratios), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--convs", default="Sep,SepHashed_0.1,Conv")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measure(given.one[0], given.one[1], int(given.one[2]))
        return
    rows = [in_turn(conv, images, given.repeats) for images in BATCHES for conv in given.convs.split(",")]
    show(rows, given.json, repeats=given.repeats)


if __name__ == "__main__":
    main()
