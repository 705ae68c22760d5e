"""What a training process loses on a machine that others use too, by how torch's threads wait for each other.

    python benchmarks/busy.py [repeats] [setting ...]

Trains WRN-16-1 on 128 images of 32×32 for some seconds in a process of its own, beside 0, 1, 2 and 4 processes that only
count, and beside one of its own kind; images/s, median of `repeats` (default 5), all settings in turn within a repeat. Baseline:
torch's own defaults. "ours" is what main.py sets (threads.py).
"""

import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import threads

SECONDS = 3.0
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_DYNAMIC", "KMP_BLOCKTIME")
SETTINGS = {
    "default": {},
    "ours": None,
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 5000": {"GOMP_SPINCOUNT": "5000"},
    "spin 20000": {"GOMP_SPINCOUNT": "20000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
OTHERS = {"idle": 0, "1 busy": 1, "2 busy": 2, "4 busy": 4, "twin": 0}


def child() -> None:
    """Trains, and prints images/s."""
    if "SWAPCONV_OURS" in os.environ:
        threads.configure()
    import torch
    import torch.nn.functional as F

    import options
    from build import build
    from device import settle
    from initial import materialise

    config = vars(options.counting(["cifar10", "--wrn_depth", "16", "--wrn_width", "1"]))
    network = settle(materialise(build(config), 0), torch.device("cpu"))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    x = torch.randn(128, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.arange(128) % 10
    steps, began = -2, 0.0
    while steps <= 0 or time.perf_counter() - began < SECONDS:
        if steps == 0:
            began = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(network(x).logits, y).backward()
        optimizer.step()
        steps += 1
    print(128 * steps / (time.perf_counter() - began))


def start(environment: dict[str, str] | None) -> subprocess.Popen:
    inherited = {name: value for name, value in os.environ.items() if name not in NAMES}
    own = {"SWAPCONV_OURS": "1"} if environment is None else environment
    command = [sys.executable, __file__, "child"]
    return subprocess.Popen(command, env=inherited | own, stdout=subprocess.PIPE, text=True)


def measure(environment: dict[str, str] | None, others: str) -> float:
    """Images/s beside `others`."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(OTHERS[others])]
    try:
        runs = [start(environment) for _ in range(2 if others == "twin" else 1)]
        spoken = [run.communicate()[0] for run in runs]
        return min(map(float, spoken))
    finally:
        for each in busy:
            each.kill()
            each.wait()


def main(repeats: int = 5, *chosen: str) -> None:
    from tabulate import tabulate

    settings = {name: SETTINGS[name] for name in chosen or SETTINGS}
    found = defaultdict(list)
    for _ in range(repeats):
        for others in OTHERS:
            for name, environment in settings.items():
                found[name, others].append(measure(environment, others))
    rows = []
    for name in settings:
        medians = [median(found[name, others]) for others in OTHERS]
        ratios = [speed / median(found["default", others]) for speed, others in zip(medians, OTHERS)]
        rows.append([name, *(f"{speed:.0f} ({ratio:.2f})" for speed, ratio in zip(medians, ratios))])
    print(tabulate(rows, ["images/s (times default)", *OTHERS]))


if __name__ == "__main__":
    child() if sys.argv[1:] == ["child"] else main(*map(int, sys.argv[1:2]), *sys.argv[2:])
