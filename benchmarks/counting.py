"""Claim: counting WRN-28-10 takes under 0.3 s beyond the import of torch.

    python benchmarks/counting.py [runs]

Each run is a process of its own, which imports torch, then imports and runs the counting of WRN-28-10 for one family.
Baseline in the same process: the import of torch. Prints the median of both over the runs (default 5) and their ratio.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONVS = ["Conv", "Sep", "Generic_0.1", "SepHashed_0.1", "Shuffle_4"]
ONE_RUN = """
import sys, time, json
began = time.perf_counter()
import torch
imported = time.perf_counter()
from cli import options
from counting.costs import summary
summary(options.counting(["cifar10", "--wrn_depth", "28", "--wrn_width", "10", "--conv", sys.argv[1]]))
print(json.dumps([imported - began, time.perf_counter() - imported]))
"""


def main(runs: int = 5) -> None:
    for conv in CONVS:
        times = []
        for _ in range(runs):
            done = subprocess.run(
                [sys.executable, "-c", ONE_RUN, conv],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=True,
            )
            times.append(json.loads(done.stdout))
        torch_import, counting = (statistics.median(column) for column in zip(*times))
        ratio = counting / torch_import
        spent = f"import torch {torch_import:.3f} s, counting {counting:.3f} s, ratio {ratio:.3f}"
        print(f"{conv:15} {spent} (median of {runs})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
