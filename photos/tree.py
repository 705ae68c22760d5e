"""An index of a folder of images, `<folder>/<class>/*.JPEG`: 1.28 million files are scanned once.

    train = read_tree(Path("imagenet/train"))
    val = read_tree(Path("imagenet/val"), classes=train.classes)
    train.labels[0], train.name(0), len(train.read(0))

Classes are the folders' names in alphabetical order, images follow by class and name; hidden files and other suffixes are passed
over. What was found is kept (cache.py) and compared with the class folders' times of change: only folders that changed are
scanned again.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import cache
from errors import MachineFault, RequestError, first_line
from photos.index import MOST_CLASSES, SUFFIXES, Packed, trusted

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
ARRAYS = ("format", "times", "counts", "folders", "folder_ends", "names", "name_ends")
LARGEST = 1 << 28  # bytes of an encoded photograph


class Tree:
    """A PhotoIndex of files: `names` within their class folders, `counts` of each of the `folders`."""

    def __init__(self, root: Path, folders: Sequence[str], counts: np.ndarray, names: Packed, classes: Sequence[str]):
        self.root, self.classes, self.names = root, classes, names
        number = {label: index for index, label in enumerate(classes)}
        self.labels = np.repeat(np.array([number[folder] for folder in folders], np.int64), counts)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, number: int) -> str:
        return f"{self.root}/{self.classes[self.labels[number]]}/{self.names[number]}"

    def read(self, number: int) -> bytes:
        with open(self.name(number), "rb") as file:
            contents = file.read(LARGEST + 1)
        if len(contents) > LARGEST:
            raise OSError(f"more than {LARGEST:,} bytes are no photograph")
        return contents

    def order(self, seed: int, epoch: int) -> "Tensor":
        from hashing import key, permutation

        return permutation(len(self), key(seed, epoch, "order"))


def read_tree(root: Path, classes: Sequence[str] | None = None, keep: bool = True) -> Tree:
    """The index of the images below `root`. Labels count `classes` (default: its own folders); `keep` allows to write what
    was found. RequestError where the folder is not laid out so, MachineFault where it cannot be read."""
    try:
        kept_in = cache.place(root, "index")
        before = _stored(kept_in)
        folders, times, parts, scanned = _scan(root, before)
    except OSError as error:
        raise MachineFault(f"{error.filename or root} cannot be read: {first_line(error)}")
    counts = np.array([len(part) for part in parts], np.int64)
    _check(root, folders, counts, classes)
    names = Packed.joined(parts)
    if keep and (scanned or before.keys() != set(folders)):
        kept = Packed.of(folders)
        arrays = (np.array(FORMAT), np.array(times, np.int64), counts, kept.blob, kept.ends, names.blob, names.ends)
        cache.keep(kept_in, dict(zip(ARRAYS, arrays)), "index")
    return Tree(root, folders, counts, names, folders if classes is None else classes)


def _stored(kept_in: Path) -> dict[str, tuple[int, Packed]]:
    """By class folder: its time of change when it was scanned, and the names in it."""
    arrays = cache.load(kept_in, ARRAYS)
    if arrays is None or int(arrays["format"]) != FORMAT:
        return {}
    folders, names = Packed(arrays["folders"], arrays["folder_ends"]), Packed(arrays["names"], arrays["name_ends"])
    ends = np.cumsum(arrays["counts"]).tolist()
    return {
        folders[index]: (time, names.part(end - count, end))
        for index, (time, count, end) in enumerate(zip(arrays["times"].tolist(), arrays["counts"].tolist(), ends))
    }


def _scan(
    root: Path, before: dict[str, tuple[int, Packed]]
) -> tuple[list[str], list[int], list[Packed], int]:  # fmt: skip
    """The class folders, the times of their last change, the images' names in each, and how many had to be scanned."""
    with os.scandir(root) as entries:
        folders = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    times, parts, scanned = [], [], 0
    for folder in folders:
        path = root / folder
        changed = trusted(path.stat().st_mtime_ns)  # before it is scanned: what comes later changes it again
        times.append(changed)
        time, names = before.get(folder, (None, None))
        if time != changed or changed == -1:
            if not scanned:
                print(f"indexing {root}", file=sys.stderr)
            scanned += 1
            names = Packed.of(_images(path))
        parts.append(names)
    return folders, times, parts, scanned


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and entry.name.rpartition(".")[2].lower() in SUFFIXES
            and not entry.is_dir()  # whatever else is no file is told of when it is read
        )


def _check(root: Path, folders: list[str], counts: np.ndarray, classes: Sequence[str] | None) -> None:
    """RequestError where the folders are not those of a dataset."""
    if not counts.sum():
        loose = len(_images(root)) if not folders else 0
        unsorted = f"; {loose:,} images lie in it unsorted, each has to be in the folder of its class" * bool(loose)
        raise RequestError(f"{root}/ holds no images in class folders, as in {root}/n01440764/x.JPEG{unsorted}")
    if len(folders) > MOST_CLASSES:
        raise RequestError(f"{root}/ has {len(folders):,} class folders, at most {MOST_CLASSES:,} are allowed")
    if classes is None:
        if not counts.all():
            raise RequestError(f"{root}/{folders[int(counts.argmin())]}/ holds no images")
        return
    if odd := sorted(set(folders) - set(classes)):
        raise RequestError(f"{root}/ has the class {odd[0]!r}, which is none of the {len(classes)} to train on")
