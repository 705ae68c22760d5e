"""What a run would take, measured: `main.py ... --dry_run`. Nothing is written (but torch.compile fills its own cache).

measured = measure(network, criterion, optimizer, data)
measured.train_seconds, measured.test_seconds, measured.peak_bytes
"""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from statistics import median
from typing import NamedTuple

import torch
from tabulate import tabulate
from torch import nn

from distributed.process_group import ALONE, Team
from input.batches import Batch, Feed
from system.durations import duration
from training.callbacks import Companion
from training.loop import evaluate, is_tested
from training.metrics import Meter
from training.step import TrainStep

REPEATS, PATIENCE = 5, 5.0  # a step is timed so often, but not again once that took so many seconds


class Measured(NamedTuple):
    """Seconds of a training and of a test step on a full batch (the median of `repeats` after one that is not counted),
    and the most memory in use: of the GPU, or of the whole process."""

    train_seconds: float
    test_seconds: float
    peak_bytes: int
    repeats: int


def measure(
    network: nn.Module, criterion, optimizer: torch.optim.Optimizer, data: Feed,
    companions: list[Companion], autocast=nullcontext, parts: int = 1, team: Team = ALONE,
) -> Measured:  # fmt: skip
    """Trains and tests on one full batch, with everything that the loop does. Raises Diverged as it does."""
    meter, batches, first = Meter(team, "the dry run"), _full_batches(data), data.test.head(data.batch_size)
    step = TrainStep(network, criterion, optimizer, companions, autocast, parts, team)

    def train() -> None:
        network.train()
        meter.add(step(next(batches), 0.0))
        meter.read()

    for companion in companions:
        companion.before_epoch(network, 0.0)
    train_seconds, repeats = _median_seconds(train, team)
    test_seconds, _ = _median_seconds(lambda: evaluate(network, data, first, autocast, team=team), team)
    return Measured(train_seconds, test_seconds, _peak(data.device), repeats)


def _full_batches(data: Feed) -> Iterator[Batch]:
    """Without end; the last batch of an epoch only if it is the only one."""
    while True:
        yield from islice(data.train(0), max(1, len(data.training) // data.batch_size))


def _median_seconds(step: Callable[[], object], team: Team) -> tuple[float, int]:
    """After one that warms up; both `train` and `evaluate` wait for the device, since they read what was measured."""
    step()
    seconds: list[float] = []
    while team.same(len(seconds) < REPEATS and sum(seconds) < PATIENCE):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return median(seconds), len(seconds)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def estimate(
    measured: Measured, data: Feed, costs: dict, epochs: int, done: tuple[int, int], needed: int, free: int,
    test_every: int = 1,
) -> dict:  # fmt: skip
    """What the run would take, ready for JSON. `epochs` of which `done` = (epochs, steps) are over; `needed` and `free`
    bytes of disk. `epoch_seconds` is the mean over all epochs, of which those that test take longer."""
    steps = data.steps(data.training)
    tests = sum(data.steps(split) for split in (data.test, data.validation) if split is not None)
    training, testing = steps * measured.train_seconds, tests * measured.test_seconds
    tested = [epoch for epoch in range(epochs) if is_tested(epoch, epochs, test_every)]
    return {
        "params": costs["params"],
        "mult_adds": costs["mult_adds"],
        "mult_adds_exact": costs["mult_adds_exact"],
        "batch_size": data.batch_size,
        **measured._asdict(),
        "device": str(data.device),
        "memory_bytes": _memory(data.device),
        "disk_bytes": needed,
        "free_disk_bytes": free,
        "steps": steps,
        "test_steps": tests,
        "epoch_seconds": training + testing * len(tested) / epochs,
        "epochs": epochs,
        "epochs_done": done[0],
        "tests": len(tested),
        "seconds": (epochs - done[0]) * training
        - done[1] * measured.train_seconds
        + testing * sum(epoch >= done[0] for epoch in tested),
    }


def _memory(device: torch.device) -> int:
    """All that there is, of the GPU or of this machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def report(of: dict) -> str:
    """An estimate as a table for a person."""
    where = f"on {of['device']}" if of["device"] != "cpu" else "of this process"
    ahead = of["epochs"] - of["epochs_done"]
    rows = [
        ["parameters", f"{of['params']:,}"],
        ["mult-adds an image", f"{of['mult_adds']:.5E} published, {of['mult_adds_exact']:.5E} exact"],
        ["training step", f"{of['train_seconds']:.4g} s ({of['batch_size']} images, median of {of['repeats']})"],
        ["test step", f"{of['test_seconds']:.4g} s"],
        ["peak memory", f"{of['peak_bytes'] / 1e6:,.0f} MB {where}"],
        ["disk", f"{of['disk_bytes'] / 1e6:,.1f} MB for checkpoints, {of['free_disk_bytes'] / 1e6:,.0f} MB are free"],
        ["an epoch", f"{duration(of['epoch_seconds'])}: {of['steps']:,} training and {of['test_steps']:,} test steps"],
        [
            "the run",
            f"{duration(of['seconds'])} for {ahead:,} epochs"
            + (f", {of['tests']:,} of which test" * (of["tests"] < of["epochs"]))
            + (f", {of['epochs_done']} are done" * (ahead < of["epochs"])),
        ],
    ]
    return tabulate(rows, tablefmt="plain", disable_numparse=True)
