"""Estimate what a study takes: main.py's dry run of each distinct job, and the sums.

    python -m schedules.run study.json --dry_run --price 2.5

The jobs are measured one after the other, with nothing beside them, in a temporary folder. In place of a teacher that
is not trained yet, one with random weights is used.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate
from tqdm import tqdm

from input import datasets
from input.datasets import PREFIX, is_own
from layers.init import materialise
from models.build import build
from record import checkpoint, outcome
from record.paths import checkpoint_path
from schedules.check import resolved, shape
from schedules.job_queue import FINISHED, Place, Queue
from schedules.launchers.local import Local
from schedules.layout import Piece
from schedules.schedule import Job, recorded
from system import user_code
from system.configuration import Configuration
from system.durations import duration
from system.errors import RequestError
from weights.sources import is_file, is_run

# What a step's time and memory depend on, besides the networks.
OF_A_STEP = (
    "mode",
    "batch_size",
    "precision",
    "compile",
    "autotune",
    "checkpoint_activations",
    "grad_accum",
    "cache_teacher",
    "device",
    "dataset",
    "augment",
    "val_size",
    "train_size",
    "test_every",
    "data_folder",
)


class Measured(NamedTuple):
    """The measurements of main.py's dry run of the first of several equal jobs, or the reason why it failed."""

    jobs: list[Place]
    said: dict
    fault: str


def estimate(jobs: Sequence[Job], options: Configuration) -> str:
    """Return a table with a row for each distinct job, and the sums of all that is left, as text.

    `options` are those of schedules.run. Raise RequestError, with the table as notes, where a job cannot be run.
    """
    measured = measure(jobs, options)
    if not measured:
        return f"all {len(jobs)} runs are finished, nothing is left to do"
    return report(measured, Local(options).slots, options.price)


def measure(jobs: Sequence[Job], options: Configuration) -> list[Measured]:
    """Measure each distinct job that is not finished, for as many slots at once as `options` say; [] where all are finished."""
    places = [place for place in Queue(jobs, 0).places.values() if place.state != FINISHED]
    made = {job.name: job for job in jobs}
    groups: dict[tuple, list[Place]] = {}
    for place in places:
        groups.setdefault(_step(place.job, made), []).append(place)
    local, measured = Local(options), []
    for group in tqdm(groups.values(), "measuring", unit="job", leave=False, disable=None):
        with tempfile.TemporaryDirectory() as folder:
            measured.append(_measure(group, made, Path(folder), local))
    return measured


def left(measured: Sequence[Measured]) -> dict[str, Piece]:
    """Return what is left of each job by its name, in the order of the schedule, in which a job comes after those that it needs.

    All jobs have been measured without a fault.
    """
    found = [
        (place.job, Piece(_seconds(place, said) / 3600, max(1, place.job.gpus), (*place.job.needs,)))
        for places, said, _ in measured
        for place in places
    ]
    return {job.name: piece for job, piece in sorted(found, key=lambda each: each[0].number)}


def _seconds(place: Place, said: dict) -> float:
    """Return the seconds that are left of a job."""
    epochs = place.job.epochs - (record.epochs_done if (record := place.record()) else 0)
    return epochs * said["epoch_seconds"] + said["start_seconds"]


def _step(job: Job, made: dict[str, Job]) -> tuple:
    """Return a key that is equal for jobs whose steps take the same time and memory."""
    config = job.options
    teacher = _shape_of(config["teacher_checkpoint"], made) if config["mode"] == "student" else None
    parts = (bool(config["alpha"]), bool(config["beta"]), bool(config["cutout"]))
    return shape(config), teacher, parts, *(config[key] for key in OF_A_STEP)


def _shape_of(source: str, made: dict[str, Job]) -> tuple | str | None:
    """Return a key that is equal for teachers with equal networks, as far as their records say."""
    if not is_run(source):
        return source
    config = made[source].options if source in made else recorded(source)
    return config and shape(config)


def _measure(group: list[Place], made: dict[str, Job], folder: Path, local: Local) -> Measured:
    """Measure the first of equal jobs by a dry run in `folder`, which then holds the checkpoints that it needs."""
    job = group[0].job
    for need in job.needs:
        there, here = checkpoint_path(need).absolute(), folder / checkpoint_path(need)
        here.parent.mkdir(exist_ok=True)
        if there.exists():
            here.symlink_to(there)
        else:
            _save_untrained(here, dict(made[need].options))
    data = os.path.abspath(datasets.folder_of(job.options))
    own_files = [
        each
        for flag, path in user_code.files_of(job.options).items()
        for each in (f"--{flag}", user_code.elsewhere(job.options[flag], os.path.abspath(path)))
    ]
    flags = {"--teacher_checkpoint": job.options.teacher_checkpoint, "--init_from": job.options.init_from}
    place = job.options.imagenet_loc
    photos = ["--imagenet_loc", os.path.abspath(place)] if place else []
    own = job.options.data_folder
    files = [
        each for flag, source in flags.items() if source and is_file(source) for each in (flag, os.path.abspath(source))
    ]
    command = [f"{PREFIX}{own}" if own and is_own(each) else each for each in job.command() if each != "--resume"]
    began = time.monotonic()
    ran = subprocess.run(
        [*command, *own_files, *photos, *files, "--data_dir", data, "--dry_run", "--json"],
        cwd=folder, env={**os.environ, **local.environment, outcome.ANSWER: str(outcome.answer_file(folder))},
        capture_output=True, text=True,
    )  # fmt: skip
    if ran.returncode == 0:
        said = json.loads(ran.stdout)
        steps = (said["repeats"] + 1) * (said["train_seconds"] + said["test_seconds"])
        return Measured(group, said | {"start_seconds": max(0.0, time.monotonic() - began - steps)}, "")
    last = (ran.stderr.strip() or f"exit status {ran.returncode}").splitlines()[-1].removeprefix("error: ")
    return Measured(group, {}, outcome.answered(folder, ran.returncode).get("reason", last))


def _save_untrained(path: Path, config: dict) -> None:
    """Write a checkpoint as of a finished run, with the weights that the run begins with."""
    config = dict(resolved(config))
    for flag, path in user_code.files_of(config).items():
        config[flag] = user_code.elsewhere(config[flag], os.path.abspath(path))
    config |= user_code.digests(config)
    network = materialise(build(config), config["seed"])
    empty = {part: kind() for part, kind in checkpoint.PARTS.items() if part != "format"}
    checkpoint.save(path, empty | {"epoch": config["epochs"], "model": network.state_dict(), "config": config})


def report(
    measured: Sequence[Measured],
    slots: int,
    price: float | None,
    seconds: Callable[[Place, dict], float] = _seconds,
) -> str:
    """Return the table and its sums; raise RequestError, with them as notes, where a kind of job cannot be run.

    Args: price: of an hour of a slot; seconds: returns those that are left of a job, whose kind was measured so.
    """
    rows, total, faults = [], 0.0, []
    for jobs, said, fault in measured:
        name = jobs[0].job.name
        if fault:
            rows.append([name, len(jobs), None, None, None, None, None, "no: see below"])
            faults.append(f"{name}: {fault}")
            continue
        hours = sum(seconds(place, said) for place in jobs) / 3600
        total += hours * max(1, jobs[0].job.gpus)
        beside = slots if said["device"] == "cpu" else 1
        fits = said["peak_bytes"] * beside < said["memory_bytes"] and said["disk_bytes"] < said["free_disk_bytes"]
        each = said["start_seconds"] + said["epoch_seconds"] * jobs[0].job.epochs
        rows.append([
            name, len(jobs), f"{said['params']:,}", duration(said["train_seconds"]), f"{said['peak_bytes'] / 1e9:.2f}",
            duration(each), duration(3600 * hours), "yes" if fits else "no",
        ])  # fmt: skip
    headers = ["job, the first of its kind", "jobs", "params", "step", "memory, GB", "each", "left", "fits"]
    lines = [tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * 6, "left"))]
    known = [(jobs, said) for jobs, said, _ in measured if said]
    disk = sum(said["disk_bytes"] * len(jobs) for jobs, said in known)
    free = min((said["free_disk_bytes"] for _, said in known), default=0)
    unit = "GPU-hours" if any(said["device"] != "cpu" for _, said in known) else "slot-hours"
    cost = f", {total * price:,.2f} at {price:g} an hour" if price is not None else ""
    room = f"; {disk / 1e9:.3g} GB of checkpoints" + (f", but {free / 1e9:.3g} GB are free" if disk > free else "")
    least = "at least " if faults else ""
    took = duration(3600 * total / slots)
    lines.append(f"{least}{total:.3g} {unit} are left{cost}: {took} on {slots} slot{'s' * (slots > 1)}{room}")
    if not faults:
        return "\n".join(lines)
    error = RequestError(f"{len(faults)} of {len(measured)} kinds of job cannot be run as they are")
    error.__notes__ = [*"\n".join(lines).splitlines(), *faults]
    raise error
