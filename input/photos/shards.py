"""An index of tar shards as webdataset writes them: every image is read by its place in its shard.

    train = read_shards(find_shards("/data/imagenet-{train,val}-{000..}.tar", "train"))
    train.read(7)                    # one pread
    train.order(seed=0, epoch=3)     # few shards at a time are read

An image is KEY.jpg (or another kind) with its label as text in KEY.cls; without a .cls its class is a folder in its
name, `n01440764/x.JPEG`. KEY is the path up to its last dot; an image without a .cls of its own has that of its sample,
which is the path up to the first dot. The place of each image is kept (input/cache.py) and compared with the shards'
sizes and times of change, so an epoch can begin anywhere, in any number of processes. Imports no torch.
"""

import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from input import cache
from input.image_files import Passed, is_image, shown
from input.photos.index import MOST_CLASSES, Packed, digest, trusted
from input.photos.labels import CLS, Labels, alphabetical, wnids
from input.photos.members import Members, read_members
from system.errors import MachineFault, RequestError, first_line

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
ARRAYS = (
    "format", "stamps", "passed", "counts", "folder_counts", "offsets", "sizes", "labels", "paths", "paths_ends", "firsts",
    "firsts_ends", "keys", "keys_ends", "folders", "folders_ends",
)  # fmt: skip
WINDOW_SHARDS, WINDOW_IMAGES = 8, 10_000  # images are shuffled among at least so many shards and images
OPEN_SHARDS = 64  # at a time in a process: enough for a window, less than systems allow


class Shards:
    """A PhotoIndex of images in tars: the number `shard` of each, its byte `offset` and `size` there."""

    def __init__(self, paths: Sequence[Path], parts: Sequence[Members], labels: np.ndarray, labelling: Labels):
        self.paths, self.labels, self.labelling = [str(path) for path in paths], labels, labelling
        self.classes, self.passed = list(labelling.number), Passed()
        for path, part in zip(paths, parts):
            if part.passed.count:
                first = f"{path.name}: {part.passed.first}"
                self.passed = self.passed.joined(Passed(part.passed.count, first, _why(part.passed.first)))
        self.shard = np.repeat(np.arange(len(paths)), [len(part.offsets) for part in parts])
        self.offset, self.size = (np.concatenate([getattr(p, of) for p in parts]) for of in ("offsets", "sizes"))
        self.keys = Packed.joined(part.keys for part in parts)
        self.files: OrderedDict[int, int] = OrderedDict()

    @property
    def labelled(self) -> str:
        """How the images are labelled, as in Labels."""
        return self.labelling.how

    def __getstate__(self) -> dict:
        return vars(self) | {"files": OrderedDict()}  # a descriptor is a process's own

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, number: int) -> str:
        """Return the shard and the key of an image."""
        return f"{self.paths[self.shard[number]]}: {self.keys[number]}"

    def read(self, number: int) -> bytes:
        """Return the encoded image. Raise OSError where it cannot be read."""
        shard = int(self.shard[number])
        if shard not in self.files:
            if len(self.files) == OPEN_SHARDS:
                os.close(self.files.popitem(last=False)[1])
            self.files[shard] = os.open(self.paths[shard], os.O_RDONLY | os.O_CLOEXEC)
        self.files.move_to_end(shard)
        size = int(self.size[number])
        contents = os.pread(self.files[shard], size, int(self.offset[number]))
        if len(contents) != size:
            raise OSError(f"the shard ends after {len(contents):,} of {size:,} bytes")
        return contents

    def order(self, seed: int, epoch: int) -> "Tensor":
        """Return an epoch's order: shards are shuffled and taken in windows, images are shuffled within each window."""
        import torch

        from system.hashing import key, permutation

        images = np.bincount(self.shard, minlength=len(self.paths))
        window, number, shards, mixed = torch.zeros(len(self.paths), dtype=torch.int64), 0, 0, 0
        left_shards, left = len(images), int(images.sum())
        for shard in permutation(len(self.paths), key(seed, epoch, "shards")).tolist():
            enough = shards >= WINDOW_SHARDS and mixed >= WINDOW_IMAGES
            if enough and left_shards >= WINDOW_SHARDS and left >= WINDOW_IMAGES:  # else the last one takes them too
                number, shards, mixed = number + 1, 0, 0
            window[shard] = number
            shards, mixed = shards + 1, mixed + int(images[shard])
            left_shards, left = left_shards - 1, left - int(images[shard])
        shuffled = permutation(len(self), key(seed, epoch, "order"))
        return shuffled[window[torch.from_numpy(self.shard)[shuffled]].argsort(stable=True)]

    def fingerprint(self) -> str:
        """Return a SHA-256 of the images' names in their shards, sizes, labels and classes, wherever the shards lie."""
        return digest([self.keys], [self.shard, self.size, self.labels], self.classes)


def read_shards(
    paths: Sequence[Path], classes: Sequence[str] | None = None, keep: bool = True,
    label: Callable[[Sequence[str]], Labels] = alphabetical,
) -> Shards:  # fmt: skip
    """Return the index of all images of the shards.

    Args: classes: the classes to train on, None: those that folders name; keep: whether the index may be written to a
    cache; label: what makes labels of the names of folders. Raises MachineFault where a shard is damaged, RequestError
    where images have no label, or another class.
    """
    try:
        kept_in = cache.place(paths[0], "index")
        before, stamps, parts, scanned = _stored(kept_in), [], [], 0
        for path in paths:
            status = path.stat()
            stamps.append((status.st_size, trusted(status.st_mtime_ns)))
            stamp, members = before.get(path.name, (None, None))
            if stamp != stamps[-1] or stamp[1] == -1:
                if not scanned:
                    print(f"indexing {shown(str(path.parent))} from {shown(path.name)} on", file=sys.stderr)
                scanned, members = scanned + 1, read_members(path, status.st_size)
            parts.append(members)
    except OSError as error:
        raise MachineFault(f"{error.filename or paths[0].parent} cannot be read: {first_line(error)}")
    if keep and (scanned or len(before) != len(paths)):
        cache.keep(kept_in, _arrays(paths, stamps, parts), "index")
    return Shards(paths, parts, *_labels(paths, parts, classes, label))


def _labels(
    paths: Sequence[Path], parts: list[Members], classes: Sequence[str] | None, label: Callable[[Sequence[str]], Labels]
) -> tuple[np.ndarray, Labels]:  # fmt: skip
    """Return every image's label (N,) int64, and what it means."""
    where, labels = f"{paths[0].parent}, {paths[0].name} and so on", np.concatenate([part.labels for part in parts])
    if not len(labels):
        raise RequestError(f"{where}: no images, which are KEY.jpg and the like")
    by_folder = labels < 0
    if by_folder.any() and not (by_folder.all() and classes != []):
        raise RequestError(f"{where}: some samples have a .cls, others are labelled by folders: all have to be alike")
    if not by_folder.any():
        if classes:
            raise RequestError(
                f"{where}: a .cls labels the images, but folders those to train on: they have to be alike"
            )
        return labels, CLS
    class_of = classes_of({part.folders[index] for part in parts for index in range(len(part.folders))}, classes)
    names = sorted(set(class_of.values()))
    if len(names) > MOST_CLASSES:
        raise RequestError(f"{where}: {len(names):,} classes, at most {MOST_CLASSES:,} are allowed")
    if classes is not None and (odd := sorted(set(names) - set(classes))):
        raise RequestError(f"{where}: the class {odd[0]!r} is none of the {len(classes)} to train on")
    labelling = label(names if classes is None else classes)
    of_each = [
        np.array([labelling.number[class_of[part.folders[index]]] for index in range(len(part.folders))], np.int64)
        for part in parts
    ]
    return np.concatenate([of[-1 - part.labels] for part, of in zip(parts, of_each)]), labelling


def classes_of(folders: set[str], classes: Sequence[str] | None) -> dict[str, str]:
    """Return the class of the images in each folder, a part of its path: `n01440764` of `train/n01440764/images`.

    That is the part which is one of `classes`, or a WordNet id, else the first part after those that all folders begin
    with.
    """
    split = {folder: folder.split("/") for folder in sorted(folders)}
    for known in (classes, wnids()):
        found = {
            folder: next((part for part in parts if part in (known or ())), None) for folder, parts in split.items()
        }
        if None not in found.values():
            return found
    first, shortest = next(iter(split.values())), min(map(len, split.values()))
    common = next((n for n in range(shortest) if any(parts[n] != first[n] for parts in split.values())), shortest)
    return {folder: parts[min(common, shortest - 1)] for folder, parts in split.items()}


def _why(name: str) -> str:
    """Return why a member is passed over."""
    if is_image(name):
        return "the label of its sample is that of another image"
    return "no image goes with it" if name.lower().endswith(".cls") else ""


def _arrays(paths: Sequence[Path], stamps: list[tuple[int, int]], parts: list[Members]) -> dict[str, np.ndarray]:
    packed = [Packed.of(path.name for path in paths), Packed.of(part.passed.first for part in parts)]
    packed += [Packed.joined(getattr(part, of) for part in parts) for of in ("keys", "folders")]
    numbers = [np.concatenate([getattr(part, of) for part in parts]) for of in ("offsets", "sizes", "labels")]
    counts = [np.array([len(getattr(part, of)) for part in parts]) for of in ("keys", "folders")]
    strings = [array for of in packed for array in (of.blob, of.ends)]
    passed = np.array([part.passed.count for part in parts], np.int64)
    return dict(zip(ARRAYS, [np.array(FORMAT), np.array(stamps, np.int64), passed, *counts, *numbers, *strings]))


def _stored(kept_in: Path) -> dict[str, tuple[tuple[int, int], Members]]:
    """Return by shard its size and time of change when it was read, and what was in it."""
    arrays = cache.load(kept_in, ARRAYS)
    if arrays is None or int(arrays["format"]) != FORMAT:
        return {}
    paths, firsts, keys, folders = (
        Packed(arrays[name], arrays[f"{name}_ends"]) for name in ("paths", "firsts", "keys", "folders")
    )
    found, first, first_folder = {}, 0, 0
    for number, stamp in enumerate(arrays["stamps"].tolist()):
        last, last_folder = first + int(arrays["counts"][number]), first_folder + int(arrays["folder_counts"][number])
        columns = (arrays[of][first:last] for of in ("offsets", "sizes", "labels"))
        passed = Passed(int(arrays["passed"][number]), firsts[number])
        members = Members(keys.part(first, last), *columns, folders.part(first_folder, last_folder), passed)
        found[paths[number]] = (tuple(stamp), members)
        first, first_folder = last, last_folder
    return found
