"""What a training process loses on a machine that others use too, by how torch's threads wait for each other.

    python benchmarks/busy.py [repeats] [setting or load ...]      # 15 default ours idle: these two, on an idle machine
    python benchmarks/busy.py watch

Trains WRN-16-1 on 128 images of 32×32 for some seconds in a process of its own, beside 0, 1, 2 and 4 processes that only
count, and beside one of its own kind; images/s, median of `repeats` (default 5), all settings in turn within a repeat. Baseline:
torch's own defaults. "ours" is what main.py does (threads.py). `watch`: what its looking costs on an idle machine, by turns in one
process, as processes differ by more than that.
"""

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from itertools import permutations
from pathlib import Path
from statistics import median
from types import SimpleNamespace

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from system import threads

SECONDS, WARM_UP = 4.0, 1.5
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_DYNAMIC", "KMP_BLOCKTIME")
SETTINGS = {  # the first is the baseline
    "default": {},
    "ours": None,
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
OTHERS = {"idle": 0, "1 busy": 1, "2 busy": 2, "4 busy": 4, "twin": 0}


def step():
    """Return a function that trains one step."""
    import torch
    import torch.nn.functional as F

    from cli import options
    from layers.init import materialise
    from models.build import build
    from training.device import to_device

    config = options.counting(["cifar10", "--wrn_depth", "16", "--wrn_width", "1"])
    network = to_device(materialise(build(config), 0), torch.device("cpu"))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    x = torch.randn(128, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.arange(128) % 10

    def train() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(x).logits, y).backward()
        optimizer.step()

    return train


def speed(train, seconds: float) -> float:
    """Images/s."""
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        train()
        steps += 1
    return 128 * steps / (time.perf_counter() - began)


def child() -> None:
    """Trains, and prints images/s."""
    ours = "SWAPCONV_OURS" in os.environ
    if ours:
        threads.configure()
    train = step()
    if ours:
        import torch

        threads.sleep_when_busy(torch.get_num_threads())
    speed(train, WARM_UP)
    print(speed(train, SECONDS))


def watch(rounds: int = 90) -> None:
    """Measure what the thread that watches the machine costs where nothing else runs: one process, with and without it."""
    for name in NAMES:
        os.environ.pop(name, None)
    import torch

    train, on = step(), threading.Event()
    sleep, found = time.sleep, {"without": [], "without, again": [], "with": []}
    threads.time = SimpleNamespace(sleep=lambda seconds: (sleep(seconds), on.wait()))
    threads.sleep_when_busy(torch.get_num_threads())
    speed(train, 2 * WARM_UP)
    orders = list(permutations(found))
    for number in range(rounds):
        for way in orders[number % len(orders)]:
            on.set() if way == "with" else on.clear()
            found[way].append(speed(train, 1.2))
    for way, speeds in found.items():
        ratios = [one / other for one, other in zip(speeds, found["without"])]
        print(f"{way:<16}{median(speeds):.0f} images/s, {median(ratios):.3f} (median of the rounds' ratios)")


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

    if unknown := set(chosen) - {*SETTINGS, *OTHERS}:
        sys.exit(f"error: {', '.join(sorted(unknown))}: possible are {', '.join([*SETTINGS, *OTHERS])}")
    named = [name for name in SETTINGS if name in chosen]
    settings = list(dict.fromkeys(["default", *named])) if named else list(SETTINGS)
    loads = [name for name in OTHERS if name in chosen] or list(OTHERS)
    found = defaultdict(list)
    for _ in range(repeats):
        for others in loads:
            for name in settings:
                found[name, others].append(measure(SETTINGS[name], others))
                print(f"{name}, {others}: {found[name, others][-1]:.0f}", file=sys.stderr, flush=True)
    rows = []
    for name in settings:
        medians = [median(found[name, others]) for others in loads]
        ratios = [speed / median(found["default", others]) for speed, others in zip(medians, loads)]
        rows.append([name, *(f"{speed:.0f} ({ratio:.2f})" for speed, ratio in zip(medians, ratios))])
    print(tabulate(rows, ["images/s (times default)", *loads]))


if __name__ == "__main__":
    alone = {"child": child, "watch": watch}.get("".join(sys.argv[1:2]))
    alone() if alone else main(*map(int, sys.argv[1:2]), *sys.argv[2:])
