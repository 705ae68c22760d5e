"""A student of its like, trained, and trained again from a step within: to the same end, to the bit."""

import shutil
from pathlib import Path

from results import rows_of, same_run, saved

import main


def taught_and_resumed(workplace: Path, run: list[str], conv: str, epochs: str = "1", every: str = "1") -> list[dict]:
    """Train a teacher for `epochs`, and its student for two with a checkpoint `every` so many steps. Return the student's rows."""
    assert main.main([*run, "teacher", "-t", "t", "--epochs", epochs]) == 0
    student = [*run, "student", "-t", "t", "-s", "s", "--conv", conv, "--checkpoint_every", every, "--epochs", "2"]
    assert main.main(student) == 0
    first, second = rows = rows_of(workplace, "s")
    assert first["train_loss_attention"] > 0 and second["train_loss"] != first["train_loss"]
    whole = workplace / "whole"
    for folder in ("checkpoints", "runs"):
        shutil.copytree(workplace / folder, whole / folder)
    (workplace / "checkpoints/s.pt.previous").replace(workplace / "checkpoints/s.pt")  # as some steps earlier
    assert saved(workplace, "s")["epoch"] == 1
    assert main.main([*student, "--resume"]) == 0
    assert same_run(whole, workplace, "s")
    return rows
