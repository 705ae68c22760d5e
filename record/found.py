"""What is there of a run, and whether a request may begin it or go on with it. Nothing here writes.

found = find("wrn.teacher")
refuse("wrn.teacher", config, found, resume=True)             # RequestError says what can be done instead
"""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from record import lock, outcome, unfinished
from record.checkpoint import load
from record.identity import differences, name_of
from record.paths import CHECKPOINTS, RUNS, checkpoint_path
from system.errors import MachineFault, RequestError, first_line
from system.files import file_identity, previous

# What may lie in the folder of a run of which nothing has been trained.
BEFORE_TRAINING = {
    "lock", "config.json.partial", "end.json", "end.json.partial", "answer.json", "answer.json.partial", "log",
}  # fmt: skip


class Found(NamedTuple):
    """What is there of a run.

    `stamp` tells whether the files are still the same; `config` is None where the name is free, `state` (its checkpoint) where no
    step has been kept; `used` is the file of the checkpoint.
    """

    stamp: tuple
    config: Mapping | None = None
    state: dict | None = None
    used: Path | None = None

    def without_weights(self) -> "Found":
        """Return what ranks need to know to which the weights are broadcast later."""
        return self._replace(state=self.state and {part: self.state[part] for part in ("epoch", "step")})


def find(name: str) -> Found:
    """Return what there is of a run.

    Raise MachineFault where it cannot be read, RequestError where the folder of the run holds something else, or the run is being
    removed or renamed.
    """
    unfinished.check_name(name)
    stamp, path, folder = stamp_of(name), checkpoint_path(name), RUNS / name
    if os.path.lexists(path) or os.path.lexists(previous(path)):
        state, used = load(path)
        return Found(stamp, state["config"], state, used)
    document, metrics = folder / "config.json", folder / "metrics.jsonl"
    if not document.exists():
        if folder.is_dir() and (others := {each.name for each in folder.iterdir()} - BEFORE_TRAINING):
            raise RequestError(
                f"{folder} holds {min(others)!r}, which no run of swapconv has written: choose another name"
            )
        return Found(stamp)
    try:
        config = dict(json.loads(document.read_text())["config"])
        epochs = len(metrics.read_text().splitlines()) if metrics.exists() else 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MachineFault(
            f"{document} cannot be read ({first_line(error)}), and there is no checkpoint: delete {folder} to start again"
        )
    if config.get(
        "shrunk_from"
    ):  # shrink.py was killed before it wrote the network, which it does last: the name is free
        return Found(stamp)
    if epochs:
        raise MachineFault(
            f"{folder} records {epochs} epochs, but {path} is missing: put it back, or delete {folder} to start again"
        )
    return Found(stamp, config)


def stamp_of(name: str) -> tuple:
    """Return what changes when the checkpoint or the configuration of a run is written."""
    path = checkpoint_path(name)
    return tuple(file_identity(each) for each in (path, previous(path), RUNS / name / "config.json"))


def refuse(name: str, config: Mapping, found: Found, resume: bool) -> None:
    """Raise RequestError where the name belongs to another run.

    That is a run of another configuration (the differences are listed), one that exists where `resume` is not asked for, one that
    another process trains, one that is being removed or renamed, or one whose name differs in case alone.
    """
    refuse_other(name, config, found, resume)
    if process := lock.holder(RUNS / name):
        lock.refuse(name, process)


def refuse_other(name: str, config: Mapping, found: Found, resume: bool) -> None:
    """Raise RequestError as `refuse` does, but for another process that trains the run."""
    unfinished.check_name(name)
    taken = {path.stem for path in CHECKPOINTS.glob("*.pt")} | {path.name for path in RUNS.glob("*")}
    if clash := sorted(other for other in taken if other != name and other.lower() == name.lower()):
        raise RequestError(f"the name {name!r} differs from the existing run {clash[0]!r} in case alone")
    if found.config is None:
        return
    if found.state is not None and name_of(found.config) != name_of(config):
        raise RequestError(
            f"{found.used} is a checkpoint of the run {name_of(found.config)!r}, not of {name!r}: put the right one back"
        )
    if origin := found.config.get("shrunk_from"):  # no training makes such a run
        raise RequestError(
            f"the run {name!r} was shrunk from {origin!r} and is finished: choose another name, with "
            f"--init_from {name} to go on in its widths"
        )
    if different := differences(found.config, config):
        free = "" if found.state else f", or delete {RUNS / name}, nothing of it has been trained"
        raise RequestError(
            f"the run {name!r} exists with another configuration ({'; '.join(different)}): choose another name{free}"
        )
    if not resume:
        finished = found.state is not None and found.state["epoch"] >= config["epochs"]
        done = "is finished" if finished else f"exists, with {progress(found.state, config)} done"
        way = "show its result" if finished else "go on"
        raise RequestError(f"the run {name!r} {done}: {way} with --resume or choose another name")


def check_needs(name: str, needs: Collection[str]) -> None:
    """Raise RequestError where one of the runs that a run begins from is gone, or is being removed or renamed.

    The run is locked by now, but has no record from which others could tell what it needs.
    """
    for need in needs:
        unfinished.check_name(need, f"{name} needs the run")
        if not os.path.lexists(checkpoint_path(need)):
            raise RequestError(f"{name} needs the run {need!r}, which was removed or renamed in the meantime")


def progress(state: dict | None, config: Mapping) -> str:
    """Say how far a state has got: `2 of 30 epochs`, `2 of 30 epochs and 17 steps`."""
    epoch, step = (state["epoch"], state["step"]) if state else (0, 0)
    return outcome.progress(epoch, step, config["epochs"])
