"""What a run would take, measured: `main.py ... --dry_run`. Nothing is written (but torch.compile fills its own cache).

measured = measure(step, data)
measured.train_seconds, measured.test_seconds, measured.peak_bytes
"""

import os
import resource
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch
from tabulate import tabulate

from counting.measure import scientific
from distributed.process_group import Ranks
from input.batches import Feed
from system.durations import duration
from training import teacher_cache
from training.loop import evaluate
from training.metrics import Meter
from training.step import TrainStep

REPEATS, PATIENCE = 5, 5.0  # a step is timed so often, but not again once that took so many seconds


class Measured(NamedTuple):
    """Seconds of a training and of a test step on a full batch (the median of `repeats` after one that is not counted).

    `peak_bytes` is the most memory in use: of the GPU, or of the whole process.
    """

    train_seconds: float
    test_seconds: float
    peak_bytes: int
    repeats: int


def measure(step: TrainStep, data: Feed) -> Measured:
    """Train and test on one full batch, with everything that the loop does. Raise Diverged as it does."""
    meter, batches, first = Meter(step.ranks, "the dry run"), data.full_batches(), data.test.head(data.batch_size)

    def train() -> None:
        step.model.train()
        meter.add(step(next(batches)))
        meter.read()

    teacher_cache.fill(step, data, 1 + REPEATS)
    for callback in step.callbacks:
        callback.before_epoch(step)
    train_seconds, repeats = _median_seconds(train, step.ranks)
    test_seconds, _ = _median_seconds(
        lambda: evaluate(step.model, data, first, step.precision, ranks=step.ranks), step.ranks
    )
    return Measured(train_seconds, test_seconds, _peak(data.device), repeats)


def _median_seconds(run: Callable[[], object], ranks: Ranks) -> tuple[float, int]:
    """Time `run` after one call that warms up; both `train` and `evaluate` wait for the device, since they read what they measure."""
    run()
    seconds: list[float] = []
    while ranks.broadcast(len(seconds) < REPEATS and sum(seconds) < PATIENCE):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return median(seconds), len(seconds)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def estimate(
    measured: Measured,
    data: Feed,
    costs: dict,
    epochs: tuple[int, int],
    done: tuple[int, int],
    disk: tuple[int, int],
) -> dict:
    """Return what the run would take, ready for JSON.

    Args: epochs: those of the run, and after how many of them it ends this time; done: those that are over, and steps of
    the next; disk: bytes that the run needs and that are free. `epoch_seconds` is the mean over all epochs, of which those
    that test take longer.
    """
    epochs, until = epochs
    steps = data.steps(data.training)
    tests = sum(data.steps(split) for _, split in data.evaluated(epochs - 1, epochs))
    training, testing = steps * measured.train_seconds, tests * measured.test_seconds
    tested = [epoch for epoch in range(epochs) if data.evaluated(epoch, epochs)]
    ahead = (until - done[0]) * training - done[1] * measured.train_seconds
    tests_ahead = sum(done[0] <= epoch < until for epoch in tested)
    ahead += testing * tests_ahead
    if data.reestimate_bn and until == epochs:
        ahead += (data.reestimate_bn + data.steps(data.test)) * measured.test_seconds
    return {
        "params": costs["params"],
        "mult_adds": costs["mult_adds"],
        "mult_adds_exact": costs["mult_adds_exact"],
        "batch_size": data.batch_size,
        **measured._asdict(),
        "device": str(data.device),
        "memory_bytes": _memory(data.device),
        "disk_bytes": disk[0],
        "free_disk_bytes": disk[1],
        "steps": steps,
        "test_steps": tests,
        "epoch_seconds": training + testing * len(tested) / epochs,
        "epochs": epochs,
        "epochs_done": done[0],
        "tests": len(tested),
        "tests_left": tests_ahead,
        "until": until,
        "seconds": max(0.0, ahead),
    }


def _memory(device: torch.device) -> int:
    """Return all memory that there is, of the GPU or of this machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def report(of: dict) -> str:
    """Return an estimate as a table for a person."""
    where = f"on {of['device']}" if of["device"] != "cpu" else "of this process"
    ahead = max(0, of["until"] - of["epochs_done"])
    rows = [
        ["parameters", f"{of['params']:,}"],
        ["mult-adds an image", f"{scientific(of['mult_adds'])} published, {of['mult_adds_exact']:.5E} exact"],
        ["training step", f"{of['train_seconds']:.4g} s ({of['batch_size']} images, median of {of['repeats']})"],
        ["test step", f"{of['test_seconds']:.4g} s"],
        ["peak memory", f"{of['peak_bytes'] / 1e6:,.0f} MB {where}"],
        ["disk", f"{of['disk_bytes'] / 1e6:,.1f} MB for checkpoints, {of['free_disk_bytes'] / 1e6:,.0f} MB are free"],
        ["an epoch", f"{duration(of['epoch_seconds'])}: {of['steps']:,} training and {of['test_steps']:,} test steps"],
        [
            "the run",
            f"{duration(of['seconds'])} for {ahead:,} epochs"
            + (f", {of['tests_left']:,} of which test" * (of["tests_left"] < ahead))
            + (f", {of['epochs_done']} are done" * (of["epochs_done"] > 0))
            + (f", until epoch {of['until']} of {of['epochs']}" * (of["until"] < of["epochs"])),
        ],
    ]
    return tabulate(rows, tablefmt="plain", disable_numparse=True)
