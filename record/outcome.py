"""How the last process of a run ended before the run was finished: runs/NAME/end.json, until the run goes on.

    note(RUNS / "wrn.teacher", 143, "stopped by SIGTERM; ...", epochs=2, steps=17)
    read(RUNS / "wrn.teacher")            # {"status": 143, "cause": "stopped", "resumable": True, "epochs": 2, "steps": 17, ...}

What other parts of the program have to know is in the fields; `reason` is for people alone. A process that never had the run
(its request was wrong, or another process trains the run) writes nothing there. Where a launcher has started it, it answers
in the file that $SWAPCONV_END names instead. Imports no torch.
"""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from system.errors import Diverged, MachineFault, RequestError
from system.files import write_atomically

ANSWER = "SWAPCONV_END"  # environment variable: the file in which a launched process says how it ended
CAUSES = {
    0: "until", RequestError.exit_status: "request", Diverged.exit_status: "diverged", MachineFault.exit_status: "machine", 130: "stopped", 143: "stopped",
}  # fmt: skip


def cause_of(status: int) -> str:
    """Name what an exit status stands for; a negative one is the signal that killed the process."""
    return "killed" if status < 0 else CAUSES.get(status, "fault")


def progress(epochs: int, steps: int, planned: int) -> str:
    """Say how far a run has got: `2 of 30 epochs`, `2 of 30 epochs and 17 steps`."""
    return f"{epochs} of {planned} epochs" + (f" and {steps} step{'s' * (steps > 1)}" if steps else "")


def note(folder: Path, status: int, reason: str, epochs: int | None = None, steps: int | None = None) -> None:
    """Write end.json: the exit status, why, and the epochs and further steps that are kept (None: nobody knows).

    Nothing is written where the disk is full too: whoever started the process knows its status.
    """
    _write(folder / "end.json", fields(status, reason) | {"epochs": epochs, "steps": steps})


def fields(status: int, reason: str) -> dict:
    """Return the fields of an end of which nothing else is known."""
    cause = cause_of(status)
    resumable = cause not in (
        "request",
        "diverged",
    )  # the same command may go on: only these would end the same way again
    return {
        "status": status,
        "cause": cause,
        "reason": reason,
        "resumable": resumable,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "epochs": None,
        "steps": None,
    }


def _write(path: Path, end: dict) -> None:
    with suppress(MachineFault):
        write_atomically(path, lambda file: file.write(json.dumps(end).encode() + b"\n"))


def clear(folder: Path) -> None:
    """Delete end.json, as a run goes on."""
    with suppress(
        OSError
    ):  # a folder in which nothing can be removed cannot be trained in either, and that will be said
        (folder / "end.json").unlink(missing_ok=True)


def read(folder: Path) -> dict | None:
    """Return the fields of end.json, those that an earlier version did not write too; None where it is missing or unreadable."""
    return _read(folder / "end.json")


def _read(path: Path) -> dict | None:
    try:
        end = json.loads(path.read_text())
        if not (isinstance(end["status"], int) and isinstance(end["reason"], str)):
            return None
        return {**fields(end["status"], end["reason"]), "epochs": None, "steps": None, **end}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def answer_file(folder: Path) -> Path:
    """Return the file in which a launcher lets the process of a run answer."""
    return folder / "answer.json"


def answer(status: int, reason: str, busy: bool = False) -> None:
    """Tell the launcher, where there is one, how this process ended and whether another process trains the run."""
    if path := os.environ.get(ANSWER):
        _write(Path(path), fields(status, reason) | {"busy": busy})


def answered(folder: Path, status: int | None) -> dict:
    """Return what a process that ended with `status` has answered; empty where it has not."""
    end = _read(answer_file(folder))
    return end if end is not None and end["status"] == status else {}


def clear_answer(folder: Path) -> None:
    """Delete the answer of an earlier process."""
    with suppress(OSError):
        answer_file(folder).unlink(missing_ok=True)
