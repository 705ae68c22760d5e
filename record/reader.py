"""Read what runs have left in their folders, at any moment, also while they run.

    run = read(Path("runs/digits.teacher"))
    run.state, run.epochs_done, run.last["test_top1_error"]         # ("finished", 30, 2.36)

A state is `finished`, `running` (a process of this machine or of its file system holds the lock), `diverged`, `failed`,
or `incomplete`: ended by --until, stopped, killed, or without power, so that the same command goes on. Imports no torch.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from record import lock, outcome
from system.errors import MachineFault, first_line

STATES = ("finished", "running", "incomplete", "diverged", "failed", "planned")
INCOMPLETE = ("stale", "interrupted", "paused")  # what an incomplete run is, more exactly


@dataclass
class Record:
    """What a run's folder holds.

    document: its config.json, empty where the run never began; lines: those of its metrics.jsonl; fault: why they
    cannot be read, or "".
    """

    folder: Path
    document: dict
    lines: list[bytes]
    fault: str = ""

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def config(self) -> dict:
        """The run's configuration, empty where it never began."""
        return self.document.get("config", {})

    @cached_property
    def rows(self) -> list[dict]:
        """The metrics of the finished epochs."""
        rows = []
        for line in self.lines:
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                continue  # another program has damaged the line; the checkpoint has it, and a resume restores it
        return [row for row in rows if _is_row(row)]

    @cached_property
    def last(self) -> dict:
        """The metrics of the last finished epoch, empty before the first."""
        return json.loads(self.lines[-1]) if self.lines else {}

    @cached_property
    def tested(self) -> dict:
        """The metrics of the last epoch that was tested, empty before the first."""
        return next((row for row in [self.last, *reversed(self.rows)] if "test_top1_error" in row), {})

    @property
    def epochs_done(self) -> int:
        """The number of finished epochs."""
        return len(self.lines)

    @property
    def epochs_planned(self) -> int:
        """The number of epochs that the run is to have."""
        return self.config.get("epochs", 0)

    @cached_property
    def end(self) -> dict | None:
        """How its last process ended, the fields of record.outcome; None where it ended well or nobody noted it."""
        return outcome.read(self.folder)

    @cached_property
    def state(self) -> str:
        """One of STATES."""
        if self.document and self.epochs_done >= self.epochs_planned:
            return "finished"
        if holder(self.folder):
            return "running"
        if self.fault:
            return "failed"
        if self.end is None or self.end["cause"] in ("stopped", "killed", "until"):
            return "incomplete"
        return "diverged" if self.end["cause"] == "diverged" else "failed"

    @property
    def condition(self) -> str:
        """Its state, and of an incomplete run which of INCOMPLETE.

        It is `paused` by --until, `interrupted` by a signal, or `stale`: its process died without a word.
        """
        if self.state != "incomplete":
            return self.state
        if self.end is None:
            return "stale"
        return "paused" if self.end["cause"] == "until" else "interrupted"

    def shown_error(self, unit: str = "") -> str:
        """Return the error in percent that a table shows: of the last test or, with --test_every 0, of the images held out."""
        if self.tested:
            return f"{self.tested['test_top1_error']:.2f}{unit}"
        return f"{self.last['val_top1_error']:.2f}{unit} held out" if "val_top1_error" in self.last else ""

    @property
    def reason(self) -> str:
        """Why the run is not finished, or "" where nobody noted it."""
        noted = self.end["reason"] if self.end and self.state not in ("finished", "running") else ""
        return self.fault or noted

    @property
    def seconds_left(self) -> float | None:
        """The time that the rest of the run takes if each epoch takes as long as the last; None before the first."""
        if not self.last or self.epochs_done >= self.epochs_planned:
            return None
        return (self.epochs_planned - self.epochs_done) * self.last.get("seconds", 0.0)


def latency(folder: Path) -> dict:
    """Return how long inference takes with a run's network, as its latency.json says; empty where there is none, or it is damaged."""
    try:
        found = json.loads((folder / "latency.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not all(isinstance(each, int | float | str | None) for each in found.values()):
        return {}
    return {key: value for key, value in found.items() if is_latency(key)}


def is_latency(key: str) -> bool:
    """Return whether a column says how long inference takes, which differs with the machine and the moment."""
    return key.startswith("latency_")


def read(folder: Path) -> Record | None:
    """Return the record of a run's folder, without a line that is being written; None where there is no run."""
    document, lines, fault = {}, [], ""
    try:
        if (folder / "config.json").exists():
            document = json.loads((folder / "config.json").read_bytes())
            _check_document(document)
            if (folder / "metrics.jsonl").exists():
                lines = (folder / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
                if lines and not _is_row(json.loads(lines[-1])):
                    raise TypeError("the last line of its metrics is none")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        document, lines, fault = {}, [], f"its record is damaged: {type(error).__name__}: {first_line(error)}"
    record = Record(folder, document, lines, fault)
    return record if document or fault or record.end is not None or holder(folder) else None


def _check_document(document: object) -> None:
    """Raise TypeError or KeyError where a config.json lacks something that is relied on."""
    config = document["config"]
    kinds = {"conv": str, "module": str, "mode": str, "dataset": str, "network": str, "teacher_checkpoint": str}
    if type(config["epochs"]) is not int or config["epochs"] < 1:
        raise TypeError("its epochs are no number of at least 1")
    if wrong := [key for key, kind in kinds.items() if not isinstance(config.get(key), kind | None)]:
        raise TypeError(f"its {wrong[0]} is {config[wrong[0]]!r}")
    if not all(isinstance(document.get(part, {}), dict) for part in ("counts", "versions")):
        raise TypeError("its counts or versions are no object")
    resumed = document.get("resumed", [])
    if not isinstance(resumed, list) or not all(isinstance(each, dict) for each in resumed):
        raise TypeError("its resumed is no list of objects")
    for argv in [each.get("argv", []) for each in (document, *resumed)]:
        if not isinstance(argv, list) or not all(isinstance(each, str) for each in argv):
            raise TypeError("its argv are no words")


def _is_row(row: object) -> bool:
    """Return whether a line is an epoch's metrics, all of them numbers."""
    return isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())


def holder(folder: Path) -> str | None:
    """Return which process trains the run, in words; None where none does, or where its lock cannot be seen."""
    try:
        return lock.holder(folder)
    except MachineFault:  # a file system without locks, from another machine
        return None
