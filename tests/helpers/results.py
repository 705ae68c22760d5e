"""What runs and commands have left, and whether two runs are the same."""

import json
from pathlib import Path

import torch
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from cli import command

TIMING = ("seconds", "images_per_second")


def same(a, b) -> bool:
    """Equal to the bit, through dicts and lists, the clock aside."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a if key not in TIMING)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file and when it was changed."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def saved(folder: Path, name: str) -> dict:
    return torch.load(folder / f"checkpoints/{name}.pt", weights_only=True)


def rows_of(folder: Path, name: str) -> list[dict]:
    """The rows of metrics.jsonl."""
    return [json.loads(line) for line in (folder / f"runs/{name}/metrics.jsonl").read_text().splitlines()]


def points(folder: Path, name: str) -> list[tuple[str, int, float]]:
    """Every point of the run's event files, as TensorBoard would read them: (tag, step, value), sorted."""
    found = []
    for path in (folder / "runs" / name).glob("events.out.tfevents.*"):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            found += [
                (each.tag, event.step, each.simple_value)
                for each in event.summary.value
                if not each.HasField("metadata")
            ]
            data = data[16 + length :]
    return sorted(found)


def hyperparameters(folder: Path, name: str) -> dict[str, HParamsPluginData]:
    """What the run's only event file says for TensorBoard's tab HPARAMS, by tag."""
    (path,) = (folder / "runs" / name).glob("events.out.tfevents.*")
    data, found = path.read_bytes(), {}
    while data:
        length = int.from_bytes(data[:8], "little")
        for each in Event.FromString(data[12 : 12 + length]).summary.value:
            if each.metadata.plugin_data.plugin_name == "hparams":
                assert each.tag not in found
                found[each.tag] = HParamsPluginData.FromString(each.metadata.plugin_data.content)
        data = data[16 + length :]
    return found


def same_run(a: Path, b: Path, name: str) -> bool:
    """Whether two runs have left the same weights, optimizer, generators, metrics and points."""
    shown = [[point for point in points(folder, name) if point[0] not in TIMING] for folder in (a, b)]
    return (
        same(saved(a, name), saved(b, name))
        and same(rows_of(a, name), rows_of(b, name))
        and same(saved(b, name)["rows"], rows_of(b, name))
        and shown[0] == shown[1]
        and len(set(shown[1])) == len(shown[1])
    )


def refused(capsys, main, *arguments):
    """What a command that is refused says on stderr, and that it has left everything as it was."""
    before = snapshot(Path.cwd())
    assert command.run(lambda: main(list(arguments))) == 2
    *faults, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ") and not any(fault.startswith("error: ") for fault in faults)
    assert snapshot(Path.cwd()) == before
    return faults, last


# What is generated


def write_schedule(document, name: str = "study.json") -> str:
    """Write a schedule into the current folder; return its name."""
    Path(name).write_text(json.dumps(document))
    return name
