"""A dataset of one's own, `folder:PATH`: train/<class>/… and test/<class>/… (or val/, valid/) of small images.

    own = look("~/leaves", image_size=None)            # its classes and the side of its images; opens one image
    own.name, own.names, own.side                      # ("folder:leaves", ["ash", "oak"], 48)
    images = read(own, 48, resize=False, workers=4, keep=True)

A class has the name of its folder; its images lie at any depth below that. They are decoded once, into a cache beside
the folder, which holds the names, sizes and times of change of all files as its stamp. Imports no torch.
"""

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from input import cache
from input.arrays import MODES, TEST, TRAIN, Images, class_labels, notes_of, splits_in
from input.datasets import LARGEST_SIDE, PREFIX
from input.image_files import FORMATS, contents, fault, is_image, shown
from input.photos.index import MOST_CLASSES, trusted
from input.photos.scan import Found, first_image, folders_in, scan
from system.errors import MachineFault, RequestError, did_you_mean, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST_FILE = 1 << 26  # bytes of an encoded image
FORMAT = 1
ARRAYS = ("stamp", "train", "train_labels", "test", "test_labels", "mean", "std", "digests", "notes")
LAYOUT = "the layout is train/<class>/x.png and test/<class>/x.png (or val/)"


class Own(NamedTuple):
    """What `look` finds in a folder.

    `test`: the split to test on, one of TEST. `names`: of the classes, in the order of their labels. `side`: rows of
    its first image, or what images are resized to; 0: not asked for.
    """

    path: Path
    test: str
    names: list[str]
    side: int

    @property
    def name(self) -> str:
        """Its name for people and figures."""
        return PREFIX + shown(self.path.name or str(self.path))


@dataclass(frozen=True)
class OwnImages(Images):
    """Images with the mean and the deviation of those to train on, per channel, of pixels in 0..1."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class File(NamedTuple):
    """An image: its split, its class, its path within that, its size in bytes and its time of change in ns."""

    split: str
    label: str
    name: str
    size: int
    changed: int


def look(text: str, image_size: int | None = None, of_any_side: bool = False) -> Own:
    """Return what lies in the folder that a person named.

    Args: image_size: the side that images are resized to, if they are; of_any_side: whether the caller resizes to a
    side that is not known yet, so that no image is opened and the side is 0. Raises RequestError where there is no such
    folder, or it has another layout.
    """
    where = f"{PREFIX}{shown(text)}"
    try:
        path = Path(os.path.abspath(Path(text).expanduser()))
        if not path.is_dir():
            raise RequestError(f"{where} {_instead(path)}; {LAYOUT}")
        test = next((split for split in splits_in(path)[0] if split in TEST), None)
        if test is None or not (path / TRAIN).is_dir():
            there = ", ".join(sorted(shown(each.name) for each in path.iterdir() if each.name[:1] != ".")[:5])
            missing = f"{TRAIN}/" if not (path / TRAIN).is_dir() else "test/ (or val/)"
            raise RequestError(f"{where} has no folder {missing} (there are: {there or 'no files'}); {LAYOUT}")
        names = _classes(where, path, test)
        first = first_image(path / TRAIN / names[0])
        side = image_size or (0 if of_any_side else _native(path, f"{TRAIN}/{names[0]}/{first}"))
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a NUL in the name; RuntimeError: no such home
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{where} cannot be read: {first_line(error)}")
    return Own(path, test, names, side)


def _instead(path: Path) -> str:
    """Return why there is no folder of this path."""
    if path.exists():
        return "is a file: unpack it, and name the folder"
    beside = [each.name for each in path.parent.iterdir() if each.is_dir()] if path.parent.is_dir() else []
    return f"is not there{did_you_mean(path.name, beside)}"


def _classes(where: str, path: Path, test: str) -> list[str]:
    """Return the names of the class folders with images, by label.

    Raises RequestError where the splits have different ones.
    """
    found = {}
    for split in (TRAIN, test):
        folders, beside = folders_in(path / split)
        found[split] = {name for name in folders if first_image(path / split / name) is not None}
        if not found[split]:
            unsorted = is_image(beside.first.rpartition("/")[2])
            loose = "; images lie in it unsorted, each has to be in the folder of its class" * unsorted
            raise RequestError(f"{where}: {split}/ has no images in folders of classes{loose}; {LAYOUT}")
    if odd := min(found[TRAIN] ^ found[test], default=None):
        there, missing = (TRAIN, test) if odd in found[TRAIN] else (test, TRAIN)
        raise RequestError(f"{where}: the class {shown(odd)!r} has images in {there}/, but none in {missing}/")
    labels = class_labels(found[TRAIN])
    names = sorted(labels, key=labels.get)
    if not 2 <= len(names) <= MOST_CLASSES:
        count = f"{len(names):,} classes" if len(names) > 1 else f"one class, {shown(names[0])!r}"
        raise RequestError(f"{where}: {TRAIN}/ has {count}: 2 to {MOST_CLASSES:,} are allowed")
    return names


def _files(own: Own) -> tuple[list[File], tuple[str, ...]]:
    """Return every image of both splits, by class and name, and lines for a person about files passed over."""
    files, passed = [], {}
    for split in (TRAIN, own.test):
        folders, beside = folders_in(own.path / split)
        found: Found = scan(own.path / split, [name for name in folders if name in own.names])
        passed[split] = beside.joined(found.passed)
        for label, number in found.each():
            name = found.names[number]
            status = os.stat(own.path / split / label / name)  # OSError for a broken link
            files.append(File(split, label, name, status.st_size, trusted(status.st_mtime_ns)))
    there, unused = splits_in(own.path)
    return files, notes_of(str(own.path), there, passed, unused)


def read(own: Own, side: int, resize: bool, workers: int, keep: bool) -> OwnImages:
    """Return all images, square with `side` rows.

    Args: resize: whether images of another size are scaled until their shorter side fits, and cut to their middle; else
    they are refused; keep: whether the cache may be written. Raises RequestError where an image does not fit,
    MachineFault where one cannot be read.
    """
    try:
        kept_in, (files, notes) = cache.place(own.path, f"decoded-{side}"), _files(own)
    except OSError as error:
        raise MachineFault(f"{shown(str(error.filename or own.path))} cannot be read: {first_line(error)}")
    stamp = hashlib.sha256(repr((FORMAT, resize, files)).encode("utf-8", "backslashreplace")).hexdigest()
    stored = cache.load(kept_in, ARRAYS)
    if stored is None or str(stored["stamp"]) != stamp:
        keep = keep and all(file.changed != -1 for file in files)  # else the stamp may miss a later change
        print(f"decoding {shown(str(own.path))}" + ", once" * keep, file=sys.stderr)
        stored = _decoded(own, files, side, resize, workers)
        stored |= {"stamp": np.array(stamp), "notes": np.array(notes, str)}
        if keep:
            cache.keep(kept_in, stored, "decoded images")
    mean, std = (tuple(stored[name].tolist()) for name in ("mean", "std"))
    arrays, notes = [stored[name] for name in ARRAYS[1:5]], tuple(map(str, stored["notes"]))
    return OwnImages(*arrays, notes, tuple(own.names), *map(str, stored["digests"]), mean, std)


def _decoded(own: Own, files: list[File], side: int, resize: bool, workers: int) -> dict[str, np.ndarray]:
    """Return the arrays that the cache holds, but for the stamp and the notes."""
    images = np.empty((len(files), side, side, 3), np.uint8)
    digests: list[bytes] = [b""] * len(files)

    def decode(numbers: range) -> None:
        for number in numbers:
            name = "/".join(files[number][:3])
            encoded = _contents(own.path, name)
            digests[number] = hashlib.sha256(encoded).digest()
            image = _open(own.path, name, encoded)
            if image.size != (side, side) and not resize:
                size, first = f"{image.width}×{image.height}", "/".join(files[0][:3])
                raise RequestError(
                    f"{_shown(own.path, name)} is {size}, {shown(first)} is {side}×{side}: --image_size N resizes all to N×N"
                )
            images[number] = _square(own.path, name, image, side)

    pool = ThreadPoolExecutor(workers)
    try:
        list(pool.map(decode, [range(start, min(start + 256, len(files))) for start in range(0, len(files), 256)]))
    finally:
        pool.shutdown(cancel_futures=True)  # so that a signal does not wait for the rest
    number = {label: index for index, label in enumerate(own.names)}
    labels = np.array([number[file.label] for file in files], np.int64)
    train = np.array([file.split == TRAIN for file in files])
    mean, std = measure(images[train])
    return {
        "train": images[train], "train_labels": labels[train], "test": images[~train], "test_labels": labels[~train],
        "mean": mean, "std": std,
        "digests": np.array([_digest(digests, labels, chosen) for chosen in (train, ~train)]),
    }  # fmt: skip


def _digest(digests: list[bytes], labels: np.ndarray, chosen: np.ndarray) -> str:
    """Return the digest of a split: of its files' bytes and labels, in order."""
    numbers = np.flatnonzero(chosen)
    files = b"".join(digests[number] for number in numbers)
    return hashlib.sha256(files + labels[numbers].astype("<i8").tobytes()).hexdigest()


def measure(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation per channel of pixels in 0..1, from exact counts; a deviation of 0 becomes 1."""
    values, counts = np.arange(256) / 255, np.zeros((3, 256), np.int64)
    for start in range(0, len(images), 4096):
        for channel in range(3):
            counts[channel] += np.bincount(images[start : start + 4096, ..., channel].ravel(), minlength=256)
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1))
    return mean, np.where(std > 0, std, 1.0)


def _shown(path: Path, name: str) -> str:
    return f"{shown(str(path))}: {shown(name)}"


def _contents(path: Path, name: str) -> bytes:
    try:
        return contents(path / name, LARGEST_FILE, "small image")
    except OSError as error:
        raise MachineFault(f"{_shown(path, name)} cannot be read: {first_line(error)}")


def _open(path: Path, name: str, encoded: bytes) -> "Image":
    """Return an image whose header has been read. Raise RequestError where it is of a kind that cannot be used."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise RequestError(f"{_shown(path, name)} cannot be used: {fault(error)}: remove it")
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise MachineFault(f"{_shown(path, name)} cannot be used: {fault(error)}")
    if image.mode not in MODES:
        raise RequestError(
            f"{_shown(path, name)} cannot be used: its mode is {image.mode}, with more than 8 bits a channel"
        )
    return image


def _square(path: Path, name: str, image: "Image", side: int) -> np.ndarray:
    """Return pixels (side, side, 3) uint8: scaled until the shorter side fits, and cut to the middle."""
    from PIL import Image

    try:
        image = image.convert("RGB")
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise MachineFault(f"{_shown(path, name)} cannot be used: {fault(error)}")
    if image.size != (side, side):
        width, height = image.size
        cut = min(width, height)
        left, top = (width - cut) // 2, (height - cut) // 2
        image = image.crop((left, top, left + cut, top + cut)).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _native(path: Path, name: str) -> int:
    """Return the side of an image that is not resized. Raise RequestError where it is too large, or not square."""
    width, height = _open(path, name, _contents(path, name)).size
    size = f"{_shown(path, name)} is {width}×{height}"
    if max(width, height) > LARGEST_SIDE:
        raise RequestError(
            f"{size}, larger than {LARGEST_SIDE}×{LARGEST_SIDE}: --image_size N resizes all images to N×N, or take them as "
            f"photographs, imagenet --imagenet_loc {shown(str(path))}"
        )
    if width != height:
        raise RequestError(f"{size}, not square: --image_size N cuts and resizes all images to N×N")
    return width
