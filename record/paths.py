"""Where the files of a run lie.

    checkpoint_path("wrn.teacher")                     # checkpoints/wrn.teacher.pt, beside runs/wrn.teacher/

Imports no torch.
"""

import os
from pathlib import Path

from system.files import partial_files, previous

CHECKPOINTS, RUNS = Path("checkpoints"), Path("runs")


def checkpoint_path(name: str) -> Path:
    """Return where the checkpoint of a run lies."""
    return CHECKPOINTS / f"{name}.pt"


def clear(path: Path, used: Path | None) -> None:
    """Clear the way for the first save: delete what a killed process left half written, and put a damaged checkpoint aside.

    So the one before it, which was `used`, stays in reserve until there are two good ones.
    """
    for left in partial_files(path):
        left.unlink(missing_ok=True)
    if used == previous(path) and os.path.lexists(path):
        aside = (path.with_name(f"{path.name}.damaged{number}") for number in ("", *range(2, 1000)))
        os.replace(path, next(each for each in aside if not os.path.lexists(each)))
