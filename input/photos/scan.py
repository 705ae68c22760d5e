"""The image files below folders, found once: names and sizes, kept by the folders' times of change.

    found = scan(Path("imagenet/train"), ["n01440764", "n01443537"], kept_as=Path("imagenet/train"), keep=True)
    found.counts[0], found.names[0], found.sizes[0], found.passed

A folder within a folder is scanned too, links are followed. Hidden files and junk (image_files.py) are ignored, other
files that are no images are counted. Imports no torch.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from input import cache
from input.image_files import Passed, is_image, is_junk, is_junk_folder, shown
from input.photos.index import Packed, trusted

FORMAT = 2
ARRAYS = (
    "format", "times", "counts", "passed", "sizes", "folders", "folders_ends", "names", "names_ends", "firsts", "firsts_ends",
)  # fmt: skip


class Found(NamedTuple):
    """The images of some folders: `counts` of each, names below it and sizes in bytes (N,), one folder after the other.

    `passed`: the files of all folders that were passed over.
    """

    folders: list[str]
    counts: np.ndarray
    names: Packed
    sizes: np.ndarray
    passed: Passed

    def each(self) -> Iterator[tuple[str, int]]:
        """Return the folder and the number of every image."""
        folders = (folder for folder, count in zip(self.folders, self.counts.tolist()) for _ in range(count))
        return zip(folders, range(len(self.names)))


class Folder(NamedTuple):
    """What lay in one folder: images, and other files.

    `changed`: the time of its last change in ns; −1: so recent that it cannot be relied on.
    """

    changed: int
    names: Packed
    sizes: np.ndarray
    passed: Passed


def folders_in(root: Path) -> tuple[list[str], Passed]:
    """Return the folders directly below, sorted, without hidden ones and junk, and the files beside them."""
    folders, passed = [], []
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir() and not is_junk_folder(entry.name):
                folders.append(entry.name)
            elif not (entry.is_dir() or is_junk(entry.name)):
                passed.append(entry.name)
    return sorted(folders), Passed(len(passed), min(passed, default=""))


def first_image(folder: Path) -> str | None:
    """Return the path of an image at any depth within a folder, from there; None where there is none."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        if images := [name for name in files if is_image(name)]:
            return os.path.relpath(os.path.join(place, min(images)), folder)
    found = scan(folder.parent, [folder.name])  # through links too
    return found.names[0] if len(found.names) else None


def scan(root: Path, folders: Sequence[str], kept_as: Path | None = None, keep: bool = False) -> Found:
    """Return the images below these folders of `root`.

    Args: kept_as: beside what the index of files is kept, None: nowhere; keep: whether it may be written. Raises
    OSError where a folder cannot be read.
    """
    kept_in = kept_as and cache.place(kept_as, "index")
    before, now = _stored(kept_in) if kept_in else {}, {}
    counts, names, passed = [], [], Passed()
    for path, there in _walk(root, folders, before, kept_as):
        now[path] = there
        folder, _, inner = path.partition("/")
        if not inner:
            counts.append(0)
        counts[-1] += len(there.names)
        names.append(
            there.names if not inner else Packed.of(f"{inner}/{there.names[n]}" for n in range(len(there.names)))
        )
        if there.passed.count:
            passed = passed.add(f"{path}/{there.passed.first}", there.passed.count)
    if keep and now and (now.keys() != before.keys() or any(there is not before[path] for path, there in now.items())):
        cache.keep(kept_in, _arrays(now), "index")
    sizes = np.concatenate([np.empty(0, np.int64), *(there.sizes for there in now.values())])
    return Found(list(folders), np.array(counts, np.int64), Packed.joined(names), sizes, passed)


def _walk(
    root: Path, folders: Sequence[str], before: Mapping[str, Folder], title: Path | None
) -> Iterator[tuple[str, Folder]]:  # fmt: skip
    """Yield every folder by its path below the root, each before those within it."""
    inner: dict[str, list[str]] = {}
    for path in before:
        inner.setdefault(path.rpartition("/")[0], []).append(path)
    status = os.stat(root)
    todo, announced = [(path, ((status.st_dev, status.st_ino),)) for path in reversed(folders)], title is None
    while todo:
        path, above = todo.pop()
        status = os.stat(root / path)  # before the scan, so that a later change shows
        identity = status.st_dev, status.st_ino
        if identity in above:
            continue  # a link to a folder that it lies in
        changed, there, within = trusted(status.st_mtime_ns), before.get(path), inner.get(path, [])
        if there is None or there.changed != changed or changed == -1:
            if not announced:
                print(f"indexing {shown(str(title))}", file=sys.stderr)
            announced = True
            there, within = _listed(root / path, changed)
            within = [f"{path}/{each}" for each in within]
        yield path, there
        todo += [(each, (*above, identity)) for each in sorted(within, reverse=True)]


def _listed(folder: Path, changed: int) -> tuple[Folder, list[str]]:
    """Return what lies in a folder, and the names of the folders in it."""
    images, passed, within = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                within += [entry.name] * (not is_junk_folder(entry.name))
            elif is_image(entry.name):  # one that is no regular file is reported when it is read
                images.append((entry.name, _size(entry)))
            elif not is_junk(entry.name):
                passed.append(entry.name)
    images.sort()
    sizes = np.array([size for _, size in images], np.int64)
    return Folder(
        changed, Packed.of(name for name, _ in images), sizes, Passed(len(passed), min(passed, default=""))
    ), within


def _size(entry: os.DirEntry) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a broken link
        return -1


def _arrays(folders: Mapping[str, Folder]) -> dict[str, np.ndarray]:
    all_of = list(folders.values())
    packed = [
        Packed.of(folders), Packed.joined(each.names for each in all_of), Packed.of(each.passed.first for each in all_of)
    ]  # fmt: skip
    numbers = [
        [each.changed for each in all_of],
        [len(each.names) for each in all_of],
        [each.passed.count for each in all_of],
    ]
    sizes, strings = np.concatenate([each.sizes for each in all_of]), [a for of in packed for a in (of.blob, of.ends)]
    return dict(zip(ARRAYS, [np.array(FORMAT), *(np.array(each, np.int64) for each in numbers), sizes, *strings]))


def _stored(kept_in: Path) -> dict[str, Folder]:
    """Return the folders that were kept, by their paths below the root."""
    arrays = cache.load(kept_in, ARRAYS)
    if arrays is None or int(arrays["format"]) != FORMAT:
        return {}
    paths, names, firsts = (Packed(arrays[name], arrays[f"{name}_ends"]) for name in ("folders", "names", "firsts"))
    ends, found = np.cumsum(arrays["counts"]).tolist(), {}
    for number, (changed, count, passed, end) in enumerate(
        zip(*(arrays[name].tolist() for name in ("times", "counts", "passed")), ends)
    ):
        part, sizes = names.part(end - count, end), arrays["sizes"][end - count : end]
        found[paths[number]] = Folder(changed, part, sizes, Passed(passed, firsts[number]))
    return found
