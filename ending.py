"""How the last process of a run ended where it did not end well: runs/NAME/end.json, until the run goes on.

    note(RUNS / "wrn.teacher", 3, "loss is nan in epoch 7, ...")
    read(RUNS / "wrn.teacher")                         # {"status": 3, "reason": ..., "time": ...}, or None

The statuses are main.py's: 2 wrong request, 3 diverged, 4 the machine failed, 130 and 143 stopped; a negative one is the
signal that killed it. Imports no torch.
"""

import json
import time
from contextlib import suppress
from pathlib import Path

from errors import MachineFault
from files import write_atomically


def note(folder: Path, status: int, reason: str) -> None:
    """Where the disk is full too, nothing: whoever started the process knows."""
    end = {"status": status, "reason": reason, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    with suppress(MachineFault):
        write_atomically(folder / "end.json", lambda file: file.write(json.dumps(end).encode() + b"\n"))


def clear(folder: Path) -> None:
    with suppress(OSError):  # what cannot be removed, cannot be trained either, and that will be told
        (folder / "end.json").unlink(missing_ok=True)


def read(folder: Path) -> dict | None:
    """None where there is none, or none that can be read."""
    try:
        end = json.loads((folder / "end.json").read_text())
        return end if isinstance(end["status"], int) and isinstance(end["reason"], str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
