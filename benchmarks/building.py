"""How long a network takes to be there, initialised, with every family: nothing is decomposed, nothing is sorted.

    python benchmarks/building.py

Baseline: the same network with `Conv`. Median of 3, in one process, beyond its imports.
"""

import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from tabulate import tabulate

from cli import options
from layers.init import materialise
from models.build import build

CONVS = [
    "Conv", "Sep", "Generic_0.1", "LR_0.1", "Hashed_0.1", "HashedDecimate", "SepHashed_0.1", "SepHashedFull_0.1",
    "SepHashedDecimate", "ACDC", "OriginalACDC", "PermutedACDC", "TensorTrain_0.8", "Tucker_0.5", "CP_0.5", "Shuffle_4",
    "Butterfly", "Monarch_4", "BTT_2", "Kronecker_4",
]  # fmt: skip
NETWORKS = {
    "WRN-28-10": ["cifar10", "--wrn_depth", "28", "--wrn_width", "10"],
    "WRN-50-2": ["imagenet", "--network", "WRN_50_2"],
}


def seconds(flags: list[str]) -> float:
    config = options.counting(flags)
    began = time.perf_counter()
    materialise(build(config), seed=0)
    return time.perf_counter() - began


def main() -> None:
    rows, dense = [], {}
    for conv in CONVS:
        row = [conv]
        for network, flags in NETWORKS.items():
            spent = median(seconds([*flags, "--conv", conv]) for _ in range(3))
            dense.setdefault(network, spent)
            row += [spent, spent / dense[network]]
        rows.append(row)
    headers = ["conv", *(title for network in NETWORKS for title in (f"{network}, s", "times Conv"))]
    print(tabulate(rows, headers, floatfmt=".2f"))


if __name__ == "__main__":
    main()
