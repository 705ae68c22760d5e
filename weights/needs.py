"""Which runs a run needs: its teacher, what --init_from names, and what it was shrunk from.

    needs({"mode": "student", "teacher_checkpoint": "wrn.teacher"})           # {"teacher_checkpoint": "wrn.teacher"}

Imports no torch.
"""

from collections.abc import Mapping
from pathlib import Path

from record.paths import CHECKPOINTS
from weights.sources import file_and_key, is_file, is_run

ROLES = {"teacher_checkpoint": "its teacher", "init_from": "its --init_from", "shrunk_from": "it was shrunk from it"}


def needs(config: Mapping) -> dict[str, str]:
    """Return the runs that a run of this configuration needs, by the keys that name them."""
    keys = [
        key for key in ROLES if config.get(key) and (key != "teacher_checkpoint" or config.get("mode") == "student")
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
