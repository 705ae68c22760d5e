"""An index of tar shards as webdataset writes them: every image is read by its place in its shard.

    train = read_shards(find_shards("/data/imagenet-{train,val}-{000..}.tar", "train"))
    train.read(7)                    # one pread
    train.order(seed=0, epoch=3)     # few shards at a time are read

A sample is KEY.jpg (or another image) with its label as text in KEY.cls; without a .cls its class is the folder in the key,
`n01440764/x.JPEG`. webdataset expands the pattern and groups the members to samples; where each image lies is kept (cache.py)
and compared with the shards' sizes and times of change, so an epoch can begin anywhere, in any number of processes.
"""

import os
import sys
import tarfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import cache
from errors import MachineFault, RequestError, first_line
from photos.index import MOST_CLASSES, SUFFIXES, Packed, trusted

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
ARRAYS = (
    "format", "stamps", "counts", "class_counts", "offsets", "sizes", "labels", "paths", "paths_ends", "keys", "keys_ends",
    "classes", "classes_ends",
)  # fmt: skip
WINDOW_SHARDS, WINDOW_IMAGES = 8, 10_000  # images are mixed among so many shards and images at least
OPEN_SHARDS = 64  # file descriptors of a process: what a window needs, and no more than a system allows
LONGEST_LABEL = 32  # bytes of a .cls


class Members(NamedTuple):
    """The images of one shard: keys, byte offsets and sizes, labels. A label below 0 stands for a folder: −1 for the first
    of `classes`, −2 for the second."""

    keys: Packed
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    classes: Packed


class Shards:
    """A PhotoIndex of images in tars: the number `shard` of each, its byte `offset` and `size` there."""

    def __init__(self, paths: Sequence[Path], parts: Sequence[Members], labels: np.ndarray, classes: Sequence[str]):
        self.paths, self.labels, self.classes = [str(path) for path in paths], labels, classes
        self.shard = np.repeat(np.arange(len(paths)), [len(part.offsets) for part in parts])
        self.offset, self.size = (np.concatenate([getattr(p, of) for p in parts]) for of in ("offsets", "sizes"))
        self.keys = Packed.joined(part.keys for part in parts)
        self.files: OrderedDict[int, int] = OrderedDict()

    def __getstate__(self) -> dict:
        return vars(self) | {"files": OrderedDict()}  # a descriptor is a process's own

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, number: int) -> str:
        return f"{self.paths[self.shard[number]]}: {self.keys[number]}"

    def read(self, number: int) -> bytes:
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
        """The shards are shuffled and taken in windows, the images shuffled within each."""
        import torch

        from hashing import key, permutation

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


def read_shards(paths: Sequence[Path], classes: Sequence[str] | None = None, keep: bool = True) -> Shards:
    """The index of all images of the shards. Where they are labelled by folders, labels count `classes` (default: all folders
    in alphabetical order). MachineFault where a shard cannot be used."""
    try:
        kept_in = cache.place(paths[0], "index")
        before, stamps, parts, scanned = _stored(kept_in), [], [], 0
        for path in paths:
            status = path.stat()
            stamps.append((status.st_size, trusted(status.st_mtime_ns)))
            stamp, members = before.get(path.name, (None, None))
            if stamp != stamps[-1] or stamp[1] == -1:
                if not scanned:
                    print(f"indexing {path.parent} from {path.name} on", file=sys.stderr)
                scanned, members = scanned + 1, _members(path, status.st_size)
            parts.append(members)
    except OSError as error:
        raise MachineFault(f"{error.filename or paths[0].parent} cannot be read: {first_line(error)}")
    if keep and (scanned or len(before) != len(paths)):
        cache.keep(kept_in, _arrays(paths, stamps, parts), "index")
    labels, classes = _labels(paths, parts, classes)
    return Shards(paths, parts, labels, classes)


def _labels(paths: Sequence[Path], parts: list[Members], classes: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    """Every image's label, and the names of the classes where folders name them."""
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
        return labels, []
    names = sorted({part.classes[index] for part in parts for index in range(len(part.classes))})
    if len(names) > MOST_CLASSES:
        raise RequestError(f"{where}: {len(names):,} classes, at most {MOST_CLASSES:,} are allowed")
    classes = names if classes is None else list(classes)
    if odd := sorted(set(names) - set(classes)):
        raise RequestError(f"{where}: the class {odd[0]!r} is none of the {len(classes)} to train on")
    number = {name: index for index, name in enumerate(classes)}
    numbers = [np.array([number[part.classes[i]] for i in range(len(part.classes))], np.int64) for part in parts]
    return np.concatenate([of[-1 - part.labels] for part, of in zip(parts, numbers)]), classes


def _members(path: Path, size: int) -> Members:
    """Reads a shard's headers and labels, not its images."""
    from webdataset.tariterators import group_by_keys

    keys, places, labels, classes = [], [], [], {}
    try:
        with tarfile.open(path, "r:") as tar:
            files = ({**_entry(tar, member, path, size), "__url__": str(path)} for member in tar if not member.isdir())
            for sample in group_by_keys(files, suffixes=SUFFIXES | {"cls"}):
                key, images = sample["__key__"], [sample[suffix] for suffix in sorted(SUFFIXES & sample.keys())]
                if not images:
                    continue
                if len(images) > 1:
                    raise MachineFault(f"{path}: {key!r} has {len(images)} images, one is allowed")
                keys.append(key), places.append(images[0]), labels.append(_label(path, key, sample.get("cls"), classes))
            if tar.offset >= size:  # a whole one ends with blocks of zeros
                raise MachineFault(f"{path} is damaged: its end is missing")
    except (tarfile.TarError, ValueError) as error:  # ValueError: a key that is there twice
        raise MachineFault(f"{path} cannot be read as a plain tar: {first_line(error)}")
    offsets, sizes = np.array(places, np.int64).reshape(-1, 2).T
    return Members(Packed.of(keys), offsets, sizes, np.array(labels, np.int64), Packed.of(classes))


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, size: int) -> dict:
    """A member as webdataset groups it; in place of an image's bytes, where they lie."""
    parts = PurePosixPath(member.name).parts
    problem = (
        "its path is absolute" if parts[:1] == ("/",) else
        "its path leaves the archive" if ".." in parts else
        "it is a link" if member.islnk() or member.issym() else
        "it is no plain file" if not member.isreg() or member.issparse() else
        "the shard ends before it does" if member.offset_data + member.size > size else None
    )  # fmt: skip
    if problem:
        raise MachineFault(f"{path}: {member.name!r} cannot be used: {problem}")
    if member.name.lower().endswith(".cls"):
        return {"fname": member.name, "data": tar.extractfile(member).read(LONGEST_LABEL)}
    return {"fname": member.name, "data": (member.offset_data, member.size)}


def _label(path: Path, key: str, text: bytes | None, classes: dict[str, int]) -> int:
    """A sample's number, or that of its folder among `classes`, as Members counts them."""
    if text is None:
        folder = PurePosixPath(key).parent.name
        if not folder:
            raise MachineFault(f"{path}: {key!r} has no label: neither a .cls nor a folder")
        return classes.setdefault(folder, -1 - len(classes))
    if not text.strip().isdigit() or int(text) >= MOST_CLASSES:
        raise MachineFault(f"{path}: {key}.cls holds {text!r}, not a label from 0 to {MOST_CLASSES - 1}")
    return int(text)


def _arrays(paths: Sequence[Path], stamps: list[tuple[int, int]], parts: list[Members]) -> dict[str, np.ndarray]:
    packed = [Packed.of(path.name for path in paths)]
    packed += [Packed.joined(getattr(part, of) for part in parts) for of in ("keys", "classes")]
    numbers = [np.concatenate([getattr(part, of) for part in parts]) for of in ("offsets", "sizes", "labels")]
    counts = [np.array([len(getattr(part, of)) for part in parts]) for of in ("keys", "classes")]
    strings = [array for of in packed for array in (of.blob, of.ends)]
    return dict(zip(ARRAYS, [np.array(FORMAT), np.array(stamps, np.int64), *counts, *numbers, *strings]))


def _stored(kept_in: Path) -> dict[str, tuple[tuple[int, int], Members]]:
    """By shard: its size and time of change when it was read, and what was in it."""
    arrays = cache.load(kept_in, ARRAYS)
    if arrays is None or int(arrays["format"]) != FORMAT:
        return {}
    paths, keys, classes = (Packed(arrays[name], arrays[f"{name}_ends"]) for name in ("paths", "keys", "classes"))
    found, first, first_class = {}, 0, 0
    for number, stamp in enumerate(arrays["stamps"].tolist()):
        last, last_class = first + int(arrays["counts"][number]), first_class + int(arrays["class_counts"][number])
        columns = (arrays[of][first:last] for of in ("offsets", "sizes", "labels"))
        members = Members(keys.part(first, last), *columns, classes.part(first_class, last_class))
        found[paths[number]] = (tuple(stamp), members)
        first, first_class = last, last_class
    return found
