"""Which run needs which, and what of a run lies where: the ground of schedules.remove, schedules.rename and schedules.pack.

    needed_by({"wrn.teacher"})                        # {"wrn.teacher": ["wrn.student (its teacher)", …]}
    with locked(["wrn.teacher"]): ...

What a run needs is in weights/needs.py; what is being done with it, in record/unfinished.py. Imports torch only to read the checkpoint of a run whose
record is lost.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from record import lock, reader
from record.paths import CHECKPOINTS, RUNS, checkpoint_path
from schedules.schedule import Job, load
from system.errors import Busy, MachineFault, RequestError, did_you_mean
from system.files import previous
from weights.needs import ROLES, needs
from weights.sources import check_run_name

BESIDE = re.compile(r"\.pt(\.previous|\.partial|\.link|\.damaged\d*)?")  # ends of the files of a run in checkpoints/
ALONE = {"lock", "log", "answer.json", "answer.json.partial", "config.json.partial", "end.json.partial"}


def named(words: Iterable[str], flag: str = "NAME", is_there: bool = False) -> list[str]:
    """Return the names of runs, each once; a shell's glob may give them as runs/NAME. Raise RequestError for what is no name.

    Args: is_there: whether the runs exist, as names that begin with a dot may from earlier versions.
    """
    own = [word.rstrip("/") for word in words]
    found = [Path(word).name if Path(word).parent == RUNS else word for word in own]
    for name in dict.fromkeys(found):
        is_old = is_there and name.startswith(".") and checkpoint_path(name).exists()
        check_run_name(name[1:] if is_old else name, flag)
    return [*dict.fromkeys(found)]


def files_of(name: str) -> list[Path]:
    """Return the files of a run in checkpoints/, the checkpoint itself last."""
    there = [path for path in CHECKPOINTS.glob("*.pt*") if path.name.startswith(name)]
    return sorted((path for path in there if BESIDE.fullmatch(path.name[len(name) :])), reverse=True)


def exists(name: str) -> bool:
    """Return whether there is a run of this name. A folder of runs/ that no run has written is none."""
    folder = RUNS / name
    if files_of(name) or reader.read(folder) is not None:
        return True
    return folder.is_dir() and {each.name for each in folder.iterdir()} <= ALONE


def names() -> list[str]:
    """Return the names of all runs here, sorted."""
    stems = {path.name[: match.start()] for path in CHECKPOINTS.glob("*.pt*") if (match := _end(path.name))}
    return sorted(stems | {path.name for path in RUNS.glob("*") if path.is_dir() and exists(path.name)})


def _end(name: str) -> re.Match | None:
    return next((match for match in BESIDE.finditer(name) if match.end() == len(name)), None)


def check_exists(name: str) -> None:
    """Raise RequestError where there is no run of this name."""
    if not exists(name):
        raise RequestError(f"there is no run {name!r}{did_you_mean(name, names())}")
    if (RUNS / name).is_symlink():
        raise RequestError(f"{RUNS / name} is a link to another place: work there, or replace it by the folder")


def config_of(name: str) -> dict:
    """Return the configuration of a run, of its record or else of its last checkpoint or the one before.

    It is empty where the run has neither. Raise RequestError where it has one, and none can be read.
    """
    record = reader.read(RUNS / name)
    if record is not None and record.config:
        return record.config
    why = record.fault if record is not None else ""
    for path in (checkpoint_path(name), previous(checkpoint_path(name))):
        if path.exists():
            from record.checkpoint import load_file

            try:
                return load_file(path, f"run {name!r}")["config"]
            except MachineFault as error:
                why = why or str(error)
    if why:
        raise RequestError(f"what the run {name!r} needs cannot be read ({why}): repair or remove it first")
    return {}


class Needs(NamedTuple):
    """A run that needs another one, and by which key of its configuration."""

    name: str
    key: str

    def __str__(self) -> str:
        return f"{self.name} ({ROLES[self.key]})"


def needed_by(wanted: Collection[str]) -> dict[str, list[Needs]]:
    """Return which other runs need each of some runs; those among themselves included, unless they are damaged.

    Raise RequestError where it cannot be read what another run needs.
    """
    found: dict[str, list[Needs]] = {name: [] for name in wanted}
    for name in names():
        try:
            config = config_of(name)
        except RequestError:
            if name not in wanted:
                raise
            config = {}
        for key, origin in needs(config).items():
            if origin in found and origin != name:
                found[origin].append(Needs(name, key))
    return found


def check_none_begins(but: Collection[str]) -> None:
    """Raise Busy where a process holds a run of which it has written nothing yet: nobody knows what that needs."""
    for folder in sorted(RUNS.glob("*")):  # there may be checkpoints alone
        if folder.name.startswith(".") or folder.name in but:
            continue
        record = reader.read(folder)
        if record is not None and not record.config and not record.fault and (process := reader.holder(folder)):
            raise Busy(f"the run {folder.name!r} begins at this moment, in {process}: repeat the command")


def jobs_that_need(wanted: Collection[str]) -> list[str]:
    """Return, in words, the jobs of schedules in this folder that have not begun, need one of these runs, and do not make it."""
    found = []
    for path in sorted(Path(".").glob("*.json")):
        jobs = jobs_of(path)
        made = {job.name for job in jobs}
        for job in jobs:
            need = next((each for each in job.needs if each in wanted and each not in made), None)
            if need is not None and not exists(job.name):
                found.append(f"job {job.number} of {path} ({job.name}: its {job.needs[need]})")
    return found


def jobs_of(path: Path) -> list[Job]:
    """Return the jobs of a schedule; none of a file that is no schedule."""
    try:
        return load(str(path))[0] if path.read_bytes()[:200].lstrip().startswith(b"[") else []
    except (RequestError, OSError):
        return []


def listed(words: Sequence[object], most: int = 6) -> str:
    """Return words with commas between, the first ones of many."""
    return ", ".join([*map(str, words[:most]), *[f"and {len(words) - most} more"] * (len(words) > most)])


@contextmanager
def locked(wanted: Sequence[str]) -> Iterator[None]:
    """Hold the locks of runs, whose folders are there. Raise Busy where one is trained, before any lock is taken."""
    with ExitStack() as stack:
        for name in wanted:
            if process := lock.holder(RUNS / name):
                lock.refuse(name, process)
        for name in wanted:
            stack.enter_context(lock.take(name))
        yield
