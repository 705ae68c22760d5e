"""What an index of photographs offers: how many there are, of which class, their bytes, and the order of an epoch.

    photographs = Photographs(read_tree(Path("imagenet/train")), read_tree(Path("imagenet/val")))
    photographs.train.read(7), photographs.train.labels[7], photographs.train.name(7)

There are two kinds: a folder for each class (tree.py) and tar shards (shards.py). Strings by the million are kept as
`Packed`, which worker processes share instead of copying each string. Imports no torch.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from input.image_files import Passed
from input.photos.labels import Labels

if TYPE_CHECKING:
    from torch import Tensor

MOST_CLASSES = 1000
YOUNG = 2_000_000_000  # ns: within that, a change and a later one may have the same time


class PhotoIndex(Protocol):
    """Photographs by number. An index can be pickled, and used in forked processes."""

    labels: np.ndarray  # (N,) int64
    classes: list[str]  # names of the classes, in alphabetical order; empty where numbers alone label the images
    labelling: Labels  # what the labels mean; `labelled` is its kind
    passed: Passed  # files that are no images

    def __len__(self) -> int: ...

    def read(self, number: int) -> bytes:
        """Return the encoded image. Raise OSError where it cannot be read."""

    def name(self, number: int) -> str:
        """Return the path by which a person finds the image."""

    def order(self, seed: int, epoch: int) -> "Tensor":
        """Return a permutation of all numbers (int64), a pure function of (seed, epoch)."""

    def fingerprint(self) -> str:
        """Return a SHA-256 of the names, sizes, labels and classes, which does not depend on where the images lie."""


class Photographs(NamedTuple):
    """A dataset of photographs: those to train on and those to test on."""

    train: PhotoIndex
    val: PhotoIndex


class Packed:
    """Strings as one array of bytes `blob`, with the byte after each string in `ends` (int64)."""

    def __init__(self, blob: np.ndarray, ends: np.ndarray):
        self.blob, self.ends = blob, ends

    @classmethod
    def of(cls, strings: Iterable[str]) -> "Packed":
        """Pack strings."""
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
        ends = np.cumsum([len(string) for string in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    @classmethod
    def joined(cls, parts: Iterable["Packed"]) -> "Packed":
        """Return the strings of several, one after the other."""
        parts = [cls.of([]), *parts]
        starts = np.cumsum([0, *(len(part.blob) for part in parts)])
        blob = np.concatenate([part.blob for part in parts])
        return cls(blob, np.concatenate([part.ends + start for part, start in zip(parts, starts)]))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> str:
        start = int(self.ends[number - 1]) if number else 0
        return self.blob[start : int(self.ends[number])].tobytes().decode("utf-8", "surrogateescape")

    def part(self, first: int, last: int) -> "Packed":
        """Return the strings from number `first` to `last` − 1."""
        start = int(self.ends[first - 1]) if first else 0
        end = int(self.ends[last - 1]) if last else 0
        return Packed(self.blob[start:end], self.ends[first:last] - start)


def trusted(mtime_ns: int) -> int:
    """Return a time of change in ns; −1, which equals none, where a later change could have the same time."""
    return mtime_ns if time.time_ns() - mtime_ns > YOUNG else -1


def digest(strings: Sequence[Packed], numbers: Sequence[np.ndarray], classes: Iterable[str]) -> str:
    """Return the SHA-256 of strings, numbers and classes, each with its length."""
    sha = hashlib.sha256()
    for packed in (*strings, Packed.of(classes)):
        for array in (packed.ends, packed.blob):
            sha.update(len(array).to_bytes(8))
            sha.update(np.ascontiguousarray(array))
    for array in numbers:
        sha.update(len(array).to_bytes(8))
        sha.update(np.ascontiguousarray(array, "<i8"))
    return sha.hexdigest()
