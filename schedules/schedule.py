"""Read a schedule, a JSON list of argv lists, each a run of main.py, and check its jobs against each other.

    jobs, faults = load("study.json")
    jobs[7].name, jobs[7].needs, jobs[7].options.epochs

    [["python", "main.py", "digits", "teacher", "-t", "digits.teacher"], ["python", "main.py", ...]]

check.py adds what only a built network shows. Imports no torch.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli import options as cli_options
from input.datasets import is_known, other_classes
from models.registry import width_flags
from record import reader
from record.identity import differences, name_of
from record.paths import CHECKPOINTS, RUNS, checkpoint_path
from system import files, user_code
from system.configuration import Configuration
from system.errors import RequestError, SwapconvError, did_you_mean, first_line
from weights.sources import is_run

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Job:
    """One line of a schedule: its number from 1, its argv as written, main.py's arguments in it, and their meaning."""

    number: int
    argv: tuple[str, ...]
    arguments: tuple[str, ...]
    options: Configuration

    @property
    def name(self) -> str:
        """The name of its run."""
        return name_of(self.options)

    @property
    def needs(self) -> dict[str, str]:
        """The runs that have to be finished before this one, each with what it is used as: `teacher` or `run`."""
        needs = {self.options.init_from: "run"} if self.options.init_from else {}
        needs |= {self.options.teacher_checkpoint: "teacher"} if self.options.mode == "student" else {}
        return {source: what for source, what in needs.items() if is_run(source)}

    @property
    def epochs(self) -> int:
        """The epochs after which its process ends: those of --until, if they are given."""
        return self.options.until or self.options.epochs

    def command(self) -> list[str]:
        """Return the argv of its process: this interpreter, this main.py, and --resume.

        GPUs are numbered from 0, as a process sees only those that the launcher gives it.
        """
        gpus = ["--GPU", ",".join(map(str, range(self.gpus)))] if self.options.GPU else []
        return [sys.executable, str(ROOT / "main.py"), *self.arguments, *gpus, "--resume"]

    @property
    def gpus(self) -> int:
        """The number of GPUs that it takes on a machine with GPUs."""
        return 0 if self.options.device == "cpu" else len(self.options.GPU or [0])


Fault = tuple[int, str]  # the number of a job, and what is wrong with it


def faulty(where: str, faults: Iterable[Fault]) -> RequestError:
    """Return one error for all faults of a schedule, with a note for each, which names the jobs that have it."""
    jobs: dict[str, list[int]] = {}
    for number, fault in sorted(faults):
        jobs.setdefault(fault, []).append(number)
    error = RequestError(f"{where}: {len(jobs)} fault{'s' * (len(jobs) > 1)}, nothing was written or started")
    for fault, numbers in jobs.items():
        more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
        error.add_note(f"job{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:8]))}{more}: {fault}")
    return error


def load(path: str) -> tuple[list[Job], list[Fault]]:
    """Return the jobs of the schedule at `path`, in its order, and the faults of lines that are no job.

    Raise RequestError where the file is no schedule.
    """
    contents = files.read_file(path)
    try:
        document = json.loads(contents)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not JSON: {first_line(error)}")
    if not isinstance(document, list):
        raise RequestError(f"{path} is not a list of argv lists, but {type(document).__name__}")
    if not document:
        raise RequestError(f"{path} is an empty list: there is nothing to run")
    return parse(document)


def read(path: str) -> list[Job]:
    """Return the jobs of the schedule at `path`, whether their runs exist or not.

    Raise RequestError where the file is no schedule, or one of its lines no job.
    """
    jobs, faults = load(path)
    if faults:
        raise faulty(path, faults)
    return jobs


def read_several(paths: Iterable[str]) -> list[Job]:
    """Return the jobs of all schedules in their order, one that several of them hold once.

    Raise RequestError where `read` does, or where two jobs of one name are not the same run.
    """
    found: dict[str, tuple[str, Job]] = {}
    for path in paths:
        if Path(path).is_dir():
            raise RequestError(f"--schedule {path} is a folder: give folders of runs before --schedule")
        for job in read(path):
            where, other = found.setdefault(job.name, (path, job))
            if different := differences(other.options, job.options):
                both = f"job {other.number} of {where} and job {job.number} of {path} are both named {job.name!r}"
                raise RequestError(
                    f"{both} but differ ({'; '.join(different)}): collate them one by one, or rename one"
                )
    return [job for _, job in found.values()]


def parse(document: Sequence[object]) -> tuple[list[Job], list[Fault]]:
    """Return the jobs of a list of argv lists, and the faults of lines that are no job."""
    jobs, faults = [], []
    for number, argv in enumerate(document, 1):
        try:
            jobs.append(_job(number, argv))
        except SwapconvError as error:
            faults.append((number, str(error)))
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
    resolved = cli_options.training(arguments)
    if resolved.is_printed:
        raise RequestError("--print_config trains nothing")
    if resolved.evaluate:
        raise RequestError("--evaluate trains nothing")
    if resolved.dry_run:
        raise RequestError("--dry_run trains nothing: give it to schedules.run, for the whole schedule")
    return Job(number, tuple(argv), tuple(each for each in arguments if each != "--"), resolved)  # flags are added


def conflicts(jobs: Sequence[Job]) -> Iterator[Fault]:
    """Yield the faults between jobs, and between jobs and the runs that exist."""
    earlier: dict[str, Job] = {}
    existing = {path.name.lower(): path.name for path in RUNS.glob("*")}
    existing |= {path.stem.lower(): path.stem for path in CHECKPOINTS.glob("*.pt")}
    makers = {job.name: job for job in jobs}
    for job in jobs:
        if other := earlier.get(job.name.lower()):
            same = "has the same name" if other.name == job.name else f"is named {other.name!r}: the case alone differs"
            yield job.number, f"the name {job.name!r} is taken, job {other.number} {same}"
        elif existing.get(job.name.lower(), job.name) != job.name:
            clash = existing[job.name.lower()]
            yield job.number, f"the name {job.name!r} differs from the existing run {clash!r} in case alone"
        elif (RUNS / job.name).exists() and not (RUNS / job.name).is_dir():
            yield job.number, f"{RUNS / job.name} is no folder"
        else:
            try:
                yield from ((job.number, fault) for fault in another_run(job.name, _known(job)))
            except RequestError as error:
                yield job.number, str(error)
        for need, what in job.needs.items():
            if fault := _lacking(job, need, what, earlier, makers):
                yield job.number, fault
        earlier.setdefault(job.name.lower(), job)


def recorded(name: str) -> dict | None:
    """Return the configuration of the run of this name, None where no record has one."""
    record = reader.read(RUNS / name)
    return record.config if record and record.config else None


def another_run(name: str, config: dict) -> list[str]:
    """Return one fault where the run of this name exists with another configuration than `config`, else none.

    Only the entries of `config` are compared.
    """
    before = recorded(name)
    if before is None:
        return []
    different = differences({key: before.get(key) for key in config}, config)
    exists = f"the run {name!r} exists with another configuration ({'; '.join(different)})"
    return (
        [f"{exists}: give this one another name, as --tag of schedules.generate or `name:` of a space does"]
        if different
        else []
    )


def _known(job: Job) -> dict:
    """Return the part of its run's configuration that the command line says; check.py knows what a budget finds."""
    config = dict(job.options)
    config |= user_code.digests(config)
    found = ("conv", *width_flags()) if config["budget"] or config["budget_mult_adds"] else ()
    return {key: value for key, value in config.items() if key not in found}


def _lacking(job: Job, need: str, what: str, earlier: dict[str, Job], makers: dict[str, Job]) -> str | None:
    """Say why a run that a job needs will be missing when the job starts, or cannot be used."""
    if need == job.name:
        return "it would start from itself"
    maker, there = earlier.get(need.lower()), checkpoint_path(need).exists()
    if maker is not None and maker.name == need:
        origin = maker.options
        record = reader.read(RUNS / need)
        if record is not None and record.state == "finished" and not there:
            return f"its {what} {need!r} is finished, but {checkpoint_path(need)} is missing"
    elif there:
        origin = recorded(need) or {}
    elif need in makers:
        return f"its {what} {need!r} is made only by job {makers[need].number}: put that one before it"
    else:
        hint = did_you_mean(need, [*makers, *(path.stem for path in CHECKPOINTS.glob("*.pt"))])
        return f"no {what} {need!r}: no job before it makes it, and {checkpoint_path(need)} does not exist{hint}"
    if what == "teacher" and is_known(origin) and (other := other_classes(origin, job.options, read=False)):
        other = other if origin["dataset"] == job.options.dataset else f"{origin['dataset']}, not {job.options.dataset}"
        return f"its teacher {need!r} is trained on {other}"
    return None
