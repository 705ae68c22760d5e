"""Which run needs which, and what of a run lies where: the ground of schedules.remove, schedules.rename and schedules.pack.

    needed_by({"wrn.teacher"})                        # {"wrn.teacher": ["wrn.student (its teacher)", …]}
    with locked(["wrn.teacher"]), noted("remove", ["wrn.teacher"]): ...

A run needs its teacher, what --init_from names, and what it was shrunk from. Imports torch only to read the checkpoint of a run whose
record is lost.
"""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from record import lock, reader
from record.paths import CHECKPOINTS, RUNS, checkpoint_path
from schedules.schedule import Job, load
from system.errors import MachineFault, RequestError, did_you_mean, first_line
from system.files import write_atomically
from weights.sources import check_run_name, file_and_key, is_file, is_run

ORIGINS = {"teacher_checkpoint": "its teacher", "init_from": "its --init_from", "shrunk_from": "it was shrunk from it"}
BESIDE = re.compile(r"\.pt(\.previous|\.partial|\.link|\.damaged\d*)?")  # ends of the files of a run in checkpoints/
ALONE = {"lock", "log", "answer.json", "answer.json.partial", "config.json.partial", "end.json.partial"}
NOTE = RUNS / ".unfinished.json"  # what is being removed or renamed, until that is done


def named(words: Iterable[str], flag: str = "NAME") -> list[str]:
    """Return the names of runs, each once; a shell's glob may give them as runs/NAME. Raise RequestError for what is no name."""
    own = [word.rstrip("/") for word in words]
    found = [Path(word).name if Path(word).parent == RUNS else word for word in own]
    return [check_run_name(name, flag) for name in dict.fromkeys(found)]


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
    """Return the configuration of a run, of its record or else of its checkpoint; empty where neither says it."""
    record = reader.read(RUNS / name)
    if record is not None and record.config:
        return record.config
    if not checkpoint_path(name).exists():
        return {}
    from record.checkpoint import load_file

    try:
        return load_file(checkpoint_path(name), f"run {name!r}")["config"]
    except MachineFault:
        return {}


def origins(config: Mapping) -> dict[str, str]:
    """Return the runs that a run of this configuration needs, by the keys that name them."""
    keys = [
        key for key in ORIGINS if config.get(key) and (key != "teacher_checkpoint" or config.get("mode") == "student")
    ]
    found = {key: run_of(config[key]) for key in keys}
    return {key: name for key, name in found.items() if name is not None}


def run_of(source: str) -> str | None:
    """Return the run that a source of weights names, by its name or by the path of its checkpoint here; None for another source."""
    if is_run(source):
        return source
    path = Path(file_and_key(source)[0])
    is_here = is_file(source) and path.suffix == ".pt" and path.parent.resolve() == CHECKPOINTS.resolve()
    return path.stem if is_here else None


class Needs(NamedTuple):
    """A run that needs another one, and by which key of its configuration."""

    name: str
    key: str

    def __str__(self) -> str:
        return f"{self.name} ({ORIGINS[self.key]})"


def needed_by(wanted: Collection[str]) -> dict[str, list[Needs]]:
    """Return which other runs need each of some runs; those among themselves included."""
    found: dict[str, list[Needs]] = {name: [] for name in wanted}
    for name in names():
        for key, origin in origins(config_of(name)).items():
            if origin in found and origin != name:
                found[origin].append(Needs(name, key))
    return found


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


def unfinished() -> tuple[str, list[str]]:
    """Return what was being done when it was killed, `remove` or `rename`, and to which names; ("", []) where nothing was."""
    try:
        found = json.loads(NOTE.read_bytes())
        what, wanted = found["what"], found["names"]
    except FileNotFoundError:
        return "", []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MachineFault(f"{NOTE} cannot be read ({first_line(error)}): delete it")
    return str(what), [str(each) for each in wanted]


def check_finished(but: str = "") -> None:
    """Raise RequestError where a removal or a renaming was killed, unless it is of the kind `but`."""
    what, wanted = unfinished()
    if what and what != but:
        raise RequestError(
            f"an earlier command was killed: first repeat python -m schedules.{what} {' '.join(wanted)} (if that cannot be, delete {NOTE})"
        )


@contextmanager
def noted(what: str, wanted: Sequence[str]) -> Iterator[None]:
    """Note within the context what is being done, so that the same command can finish it after a kill."""
    document = json.dumps({"what": what, "names": list(wanted)}) + "\n"
    write_atomically(NOTE, lambda file: file.write(document.encode()))
    try:
        yield
    except OSError as error:
        raise MachineFault(f"{error.filename or RUNS} cannot be changed ({first_line(error)}): repeat the command")
    os.unlink(NOTE)
