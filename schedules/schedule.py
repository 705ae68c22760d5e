"""A schedule: a JSON list of argv lists, each a run of main.py. Read, and checked as a whole before anything starts.

    jobs = read("study.json")                 # RequestError, with each fault as a note, where it has any
    jobs[7].name, jobs[7].needs, jobs[7].options.epochs

    [["python", "main.py", "digits", "teacher", "-t", "digits.teacher"], ["python", "main.py", "digits", "student", ...]]

Imports no torch; what only a built network can tell is check.py's.
"""

import json
import re
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cli
import options
from errors import RequestError, SwapconvError, did_you_mean
from files import CHECKPOINTS, RUNS, checkpoint_path
from identity import differences, name_of

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Job:
    """One line of a schedule: its place from 1, its argv as written, main.py's part of that, and what this resolves to."""

    number: int
    argv: tuple[str, ...]
    arguments: tuple[str, ...]
    options: Namespace

    @property
    def name(self) -> str:
        return name_of(vars(self.options))

    @property
    def needs(self) -> dict[str, str]:
        """The runs that have to be finished before this one, and what they are to it."""
        needs = {self.options.init_from: "run"} if self.options.init_from else {}
        return needs | ({self.options.teacher_checkpoint: "teacher"} if self.options.mode == "student" else {})

    def command(self) -> list[str]:
        """What is run: this interpreter and this main.py, going on where the run was left. The launcher gives a process
        its GPUs, which are numbered from 0 there."""
        gpus = ["--GPU", ",".join(map(str, range(self.gpus)))] if self.options.GPU else []
        return [sys.executable, str(ROOT / "main.py"), *self.arguments, *gpus, "--resume"]

    @property
    def gpus(self) -> int:
        """How many it takes, where there are any."""
        return 0 if self.options.device == "cpu" else len(self.options.GPU or [0])


def faulty(where: str, faults: Sequence[str]) -> RequestError:
    """A schedule's faults as one error, each fault a line of its own before it."""
    error = RequestError(f"{where}: {len(faults)} fault{'s' * (len(faults) > 1)}, nothing was started")
    for fault in faults:
        error.add_note(fault)
    return error


def read(path: str) -> list[Job]:
    """The jobs of a schedule, in its order. RequestError where anything of it cannot be meant, with every fault as a note."""
    try:
        document = json.loads(cli.read_file(path))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not JSON: {error}")
    if not isinstance(document, list):
        raise RequestError(f"{path} is not a list of argv lists, but {type(document).__name__}")
    if not document:
        raise RequestError(f"{path} is an empty list: there is nothing to run")
    jobs, faults = parse(document)
    faults += list(conflicts(jobs))
    if faults:
        raise faulty(path, faults)
    return jobs


def parse(document: Sequence[object]) -> tuple[list[Job], list[str]]:
    """The jobs of a list of argv lists, and the faults of those that are none."""
    jobs, faults = [], []
    for number, argv in enumerate(document, 1):
        try:
            jobs.append(_job(number, argv))
        except SwapconvError as error:
            faults.append(f"job {number}: {error}")
    return jobs, faults


def _job(number: int, argv: object) -> Job:
    if not isinstance(argv, list) or not all(isinstance(each, str) for each in argv):
        raise RequestError(f"{json.dumps(argv)[:80]} is not a list of strings")
    if odd := [each for each in argv if "\0" in each or each.encode(errors="replace").decode() != each]:
        raise RequestError(f"{odd[0][:80]!r} has a character that no argument can have")
    words = [Path(each).name for each in argv]
    script = next((place for place, each in enumerate(words) if place and not each.startswith("-")), 0)
    if not script or words[script] != "main.py" or not re.fullmatch(r"python[0-9.]*", words[0]):
        raise RequestError(f"{' '.join(argv)[:80]!r} does not begin with 'python', 'main.py'")
    arguments = argv[script + 1 :]
    if any(re.match("-r*h|--help$", each) for each in arguments):  # -rh too
        raise RequestError("--help trains nothing")
    resolved = options.training(arguments)
    if resolved.dry_run:
        raise RequestError("--dry_run trains nothing: give it to schedules.run, for the whole schedule")
    return Job(number, tuple(argv), tuple(each for each in arguments if each != "--"), resolved)  # flags are added


def conflicts(jobs: Sequence[Job]) -> Iterable[str]:
    """What is wrong between jobs, or between a job and the runs that are there already."""
    numbers: dict[str, Job] = {}
    existing = {path.name.lower(): path.name for path in RUNS.glob("*")}
    existing |= {path.stem.lower(): path.stem for path in CHECKPOINTS.glob("*.pt")}
    makers = {job.name: job for job in jobs}
    for job in jobs:
        if other := numbers.get(job.name.lower()):
            same = "has the same name" if other.name == job.name else f"is named {other.name!r}: the case alone differs"
            yield f"job {job.number}: the name {job.name!r} is taken, job {other.number} {same}"
        elif existing.get(job.name.lower(), job.name) != job.name:
            clash = existing[job.name.lower()]
            yield f"job {job.number}: the name {job.name!r} differs from the existing run {clash!r} in case alone"
        elif (RUNS / job.name).exists() and not (RUNS / job.name).is_dir():
            yield f"job {job.number}: {RUNS / job.name} is no folder"
        elif different := _other_configuration(job):
            yield f"job {job.number}: the run {job.name!r} exists with another configuration ({'; '.join(different)})"
        for need, what in job.needs.items():
            yield from _lacking(job, need, what, numbers, makers)
        numbers.setdefault(job.name.lower(), job)


def recorded(name: str) -> dict | None:
    """The configuration that a run was begun with, None where there is none."""
    try:
        config = json.loads((RUNS / name / "config.json").read_text())["config"]
        return config if isinstance(config, dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _other_configuration(job: Job) -> list[str]:
    """What tells the job apart from the run of its name, as far as a command line says it."""
    before, now = recorded(job.name), dict(vars(job.options))
    if before is None:
        return []
    found = {"conv", "wrn_width", "width_mult"} if job.options.budget or job.options.budget_mult_adds else set()
    keys = {*now} - found
    return differences({key: before.get(key) for key in keys}, {key: now[key] for key in keys})


def _lacking(job: Job, need: str, what: str, earlier: dict[str, Job], makers: dict[str, Job]) -> Iterable[str]:
    if need == job.name:
        yield f"job {job.number}: it would start from itself"
        return
    maker = earlier.get(need.lower())
    if maker is not None and maker.name == need:
        dataset = maker.options.dataset
    elif checkpoint_path(need).exists():
        dataset = (recorded(need) or {}).get("dataset", job.options.dataset)
    elif need in makers:
        yield f"job {job.number}: its {what} {need!r} is made only by job {makers[need].number}: put that one before it"
        return
    else:
        hint = did_you_mean(need, [*makers, *(path.stem for path in CHECKPOINTS.glob("*.pt"))])
        yield f"job {job.number}: no {what} {need!r}: no job before it makes it, and {checkpoint_path(need)} does not exist{hint}"
        return
    if dataset != job.options.dataset and what == "teacher":
        yield f"job {job.number}: its teacher {need!r} is trained on {dataset}, not {job.options.dataset}"
