"""The metrics of an epoch as TensorBoard's points, written and read.

    for event in of_row({"epoch": 0, "lr": 0.1, "train_loss": 2.3}): writer.write_event(event)
    read(path)                                        # [("lr", 1, 0.1), ("train/loss", 1, 2.3)]

A file of events is records of a length (8 bytes, little-endian), its checksum (4), the event, and its checksum (4).
"""

import time
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

FILES = "events.out.tfevents.*"
OLD_TAGS = {"best_test_top1_error": "test/top1_error_best"}  # of earlier versions, whose finished runs stay as they are
Point = tuple[str, int, float]  # tag, step, value


def of_row(row: dict) -> Iterator[Event]:
    """Yield an event for every metric of an epoch's row."""
    for name, value in row.items():
        if name != "epoch":
            is_best = name.startswith("best_")  # of all epochs: TensorBoard sorts tags, and shows the last error first
            prefix, _, rest = name.removeprefix("best_").partition("_")
            tag = f"{prefix}/{rest}" + "_best" * is_best if prefix in ("train", "val", "test") else name
            yield Event(wall_time=time.time(), step=row["epoch"] + 1, summary=scalar(tag, value))


def points(event: Event) -> list[Point]:
    """Return the points of an event, by their tags of today; what hyperparameters.py writes has none."""
    return [
        (OLD_TAGS.get(each.tag, each.tag), event.step, each.simple_value)
        for each in event.summary.value
        if each.HasField("simple_value")
    ]


def read(path: Path) -> list[Point]:
    """Return every point of a file. Raise ValueError where it is not whole."""
    data, place, found = path.read_bytes(), 0, []
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 8], "little")
        if end + 4 > len(data):
            raise ValueError(f"{path} ends within a record")
        try:
            found += points(Event.FromString(data[place + 12 : end]))
        except DecodeError as error:
            raise ValueError(f"{path} is damaged: {error}")
        place = end + 4
    return found
