"""Jobs, run folders made by hand, and a clock, for tests of the queue."""

import json
from pathlib import Path

from record import outcome
from schedules.schedule import parse

TINY = ["--wrn_depth", "10", "--wrn_width", "0.25", "--epochs", "3"]


def jobs(*lines):
    """`t` is a run alone, `s<t` a student of t, `u=t` a run that starts from t."""
    argvs = []
    for line in lines:
        if "<" in line:
            name, of = line.split("<")
            who = ["student", "-t", of, "-s", name]
        else:
            name, _, start = line.partition("=")
            who = ["teacher", "-t", name, *(["--init_from", start] if start else [])]
        argvs.append(["python", "main.py", "digits", *who, *TINY])
    found, faults = parse(argvs)
    assert not faults
    return found


def train(name, epochs, end=None):
    """What a run leaves that has got so far, and ended so."""
    folder = Path("runs") / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"config": {"epochs": 3}}))
    rows = [json.dumps({"epoch": epoch, "test_top1_error": 9.0, "seconds": 1.0}) + "\n" for epoch in range(epochs)]
    (folder / "metrics.jsonl").write_text("".join(rows))
    outcome.clear(folder)
    if end is not None:
        outcome.note(folder, end, f"it ended with {end}")


def begin(queue, room=100, **keywords):
    return [place.job.name for place in queue.ready(room, **keywords)]


def states(queue):
    return {name: place.state for name, place in queue.places.items()}
