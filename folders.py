"""A dataset of one's own, `folder:PATH`: train/<class>/… and test/<class>/… (or val/<class>/…) of small images.

    own = look("~/leaves", image_size=None)            # its classes and the side of its images; opens one image
    own.name, own.names, own.side                      # ("folder:leaves", ["ash", "oak"], 48)
    images = read(own, 48, resize=False, workers=4, keep=True)

Images lie at any depth within the folder of their class, whose name is the class; hidden files are passed over. They are decoded
once, into a cache beside the folder, which is stamped with the names, sizes and times of change of all files. Imports no torch.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import cache
from errors import MachineFault, RequestError, did_you_mean, first_line
from photos.index import MOST_CLASSES, trusted
from reading import FORMATS, MODES, Images

if TYPE_CHECKING:
    from PIL.Image import Image

PREFIX = "folder:"
LARGEST_SIDE = 96  # pixels: all images are kept in memory
LARGEST_FILE = 1 << 26  # bytes of an encoded image
FORMAT = 1
ARRAYS = ("stamp", "train", "train_labels", "test", "test_labels", "mean", "std", "digests")
JUNK = ("thumbs.db", "desktop.ini")  # that a system leaves in folders of images
LAYOUT = "the layout is train/<class>/x.png and test/<class>/x.png (or val/)"


def is_own(dataset: str) -> bool:
    """Whether a dataset's name is that of a folder."""
    return dataset.startswith(PREFIX)


class Own(NamedTuple):
    """What a look at a folder tells: its path, the split that tests ("test" or "val"), the names of its classes, and the
    side of its first image, or what it is to be resized to."""

    path: Path
    test: str
    names: list[str]
    side: int

    @property
    def name(self) -> str:
        """What people and figures call it."""
        return PREFIX + _printable(self.path.name or str(self.path))


@dataclass(frozen=True)
class OwnImages(Images):
    """With the mean and the deviation of the training images, per channel, of pixels in 0..1."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class File(NamedTuple):
    """An image: its split, its class, its name within that, its size in bytes and time of change."""

    split: str
    label: str
    name: str
    size: int
    changed: int


def _printable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def look(text: str, image_size: int | None = None) -> Own:
    """The folder that a person named. RequestError where it is none, or not laid out as it has to be."""
    where = f"{PREFIX}{text}"
    try:
        path = Path(os.path.abspath(Path(text).expanduser()))
        if not path.is_dir():
            raise RequestError(f"{where} {_instead(path)}; {LAYOUT}")
        test = next((split for split in ("test", "val") if (path / split).is_dir()), None)
        if test is None or not (path / "train").is_dir():
            there = ", ".join(sorted(_printable(each.name) for each in path.iterdir() if each.name[:1] != ".")[:5])
            missing = "train/" if test or not (path / "train").is_dir() else "test/ (or val/)"
            raise RequestError(f"{where} has no folder {missing} (there are: {there or 'no files'}); {LAYOUT}")
        names = _classes(where, path, test)
        first = next(_names(path / "train" / names[0]))
        with (path / "train" / names[0] / first).open("rb") as file:
            contents = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a NUL in the name; RuntimeError: no such home
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{where} cannot be read: {first_line(error)}")
    shown = f"{where}: train/{names[0]}/{first}"
    side = image_size or _native(shown, _open(shown, contents).size, path)
    return Own(path, test, names, side)


def _instead(path: Path) -> str:
    """Why there is no folder of this path."""
    if path.exists():
        return "is a file: unpack it, and name the folder"
    beside = [each.name for each in path.parent.iterdir() if each.is_dir()] if path.parent.is_dir() else []
    return f"is not there{did_you_mean(path.name, beside)}"


def _classes(where: str, path: Path, test: str) -> list[str]:
    """The names of the class folders with images, which both splits have to have."""
    found = {}
    for split in ("train", test):
        with os.scandir(path / split) as entries:
            folders = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
        found[split] = [name for name in folders if next(_names(path / split / name), None) is not None]
        if not found[split]:
            loose = any(_is_image(each.name) for each in (path / split).iterdir() if each.is_file())
            unsorted = "; images lie in it unsorted, each has to be in the folder of its class" * loose
            raise RequestError(f"{where}: {split}/ has no images in folders of classes{unsorted}; {LAYOUT}")
    train, tested = found.values()
    if odd := min({*train} ^ {*tested}, default=None):
        there, missing = ("train", test) if odd in train else (test, "train")
        raise RequestError(f"{where}: the class {odd!r} has images in {there}/, but none in {missing}/")
    if not 2 <= len(train) <= MOST_CLASSES:
        count = f"{len(train):,} classes" if len(train) > 1 else f"one class, {train[0]!r}"
        raise RequestError(f"{where}: train/ has {count}: 2 to {MOST_CLASSES:,} are allowed")
    return train


def _names(folder: Path) -> Iterator[str]:
    """The images at any depth within a class folder, in a fixed order."""
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(filter(_is_image, files)):
            yield os.path.relpath(os.path.join(place, name), folder)


def _raise(error: OSError) -> None:
    raise error


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in JUNK


def _files(own: Own) -> list[File]:
    """Every image of both splits, by class and name."""
    files = []
    for split in ("train", own.test):
        for label in own.names:
            for name in sorted(_names(own.path / split / label)):
                path = own.path / split / label / name
                status = path.stat()  # OSError for a link that leads nowhere or in a circle
                if not path.is_file():
                    raise MachineFault(f"{path} cannot be used: it is no file")
                if status.st_size > LARGEST_FILE:
                    raise MachineFault(f"{path} cannot be used: {status.st_size:,} bytes are no small image")
                files.append(File(split, label, name, status.st_size, trusted(status.st_mtime_ns)))
    return files


def read(own: Own, side: int, resize: bool, workers: int, keep: bool) -> OwnImages:
    """All images, square with `side` pixels. Those of another size are refused, or with `resize` scaled until their shorter
    side fits, and cut to their middle. RequestError where one does not fit, MachineFault where one cannot be read."""
    try:
        kept_in, files = cache.place(own.path, f"decoded-{side}"), _files(own)
    except OSError as error:
        raise MachineFault(f"{error.filename or own.path} cannot be read: {first_line(error)}")
    stamp = hashlib.sha256(repr((FORMAT, resize, files)).encode("utf-8", "backslashreplace")).hexdigest()
    stored = cache.load(kept_in, ARRAYS)
    if stored is None or str(stored["stamp"]) != stamp:
        lasting = all(file.changed != -1 for file in files)
        print(f"decoding {_printable(str(own.path))}" + ", once" * (keep and lasting), file=sys.stderr)
        stored = _decoded(own, files, side, resize, workers) | {"stamp": np.array(stamp)}
        if keep and lasting:
            cache.keep(kept_in, stored, "decoded images")
    mean, std = (tuple(stored[name].tolist()) for name in ("mean", "std"))
    arrays = [stored[name] for name in ARRAYS[1:5]]
    return OwnImages(*arrays, tuple(own.names), *map(str, stored["digests"]), mean, std)


def _decoded(own: Own, files: list[File], side: int, resize: bool, workers: int) -> dict[str, np.ndarray]:
    images = np.empty((len(files), side, side, 3), np.uint8)
    digests: list[bytes] = [b""] * len(files)

    def decode(numbers: range) -> None:
        for number in numbers:
            split, label, name, *_ = files[number]
            shown = f"{_printable(str(own.path))}: {_printable(f'{split}/{label}/{name}')}"
            try:
                contents = (own.path / split / label / name).read_bytes()
            except OSError as error:
                raise MachineFault(f"{shown} cannot be read: {first_line(error)}")
            digests[number] = hashlib.sha256(contents).digest()
            image = _open(shown, contents)
            if image.size != (side, side) and not resize:
                raise _other_size(shown, image.size, side, own.path)
            images[number] = _square(shown, image, side)

    pool = ThreadPoolExecutor(workers)
    try:
        list(pool.map(decode, [range(start, min(start + 256, len(files))) for start in range(0, len(files), 256)]))
    finally:
        pool.shutdown(cancel_futures=True)  # a signal does not wait for the rest
    number = {label: index for index, label in enumerate(own.names)}
    labels = np.array([number[file.label] for file in files], np.int64)
    train = np.array([file.split == "train" for file in files])
    mean, std = measure(images[train])
    return {
        "train": images[train], "train_labels": labels[train], "test": images[~train], "test_labels": labels[~train],
        "mean": mean, "std": std,
        "digests": np.array([_digest(digests, labels, chosen) for chosen in (train, ~train)]),
    }  # fmt: skip


def _digest(digests: list[bytes], labels: np.ndarray, chosen: np.ndarray) -> str:
    """Of a split: its files' bytes and labels, in order."""
    numbers = np.flatnonzero(chosen)
    files = b"".join(digests[number] for number in numbers)
    return hashlib.sha256(files + labels[numbers].astype("<i8").tobytes()).hexdigest()


def measure(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation per channel of pixels in 0..1, from exact counts; a deviation of 0 becomes 1."""
    values = np.arange(256) / 255
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, len(images), 4096):
        for channel in range(3):
            counts[channel] += np.bincount(images[start : start + 4096, ..., channel].ravel(), minlength=256)
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1))
    return mean, np.where(std > 0, std, 1.0)


def _open(shown: str, contents: bytes) -> "Image":
    """An image whose header has been read. RequestError where it is none of a kind that can be used."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(BytesIO(contents), formats=FORMATS)
    except UnidentifiedImageError:
        raise RequestError(f"{shown} cannot be used: it is no image: remove it, or hide it by a dot before its name")
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise MachineFault(f"{shown} cannot be used: {first_line(error)}")
    if image.mode not in MODES:
        raise RequestError(f"{shown} cannot be used: its mode is {image.mode}, with more than 8 bits a channel")
    return image


def _square(shown: str, image: "Image", side: int) -> np.ndarray:
    from PIL import Image

    try:
        image = image.convert("RGB")
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise MachineFault(f"{shown} cannot be used: {first_line(error)}")
    if image.size != (side, side):
        width, height = image.size
        cut = min(width, height)
        left, top = (width - cut) / 2, (height - cut) / 2
        image = image.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + cut, top + cut))
    return np.asarray(image)


def _native(shown: str, size: tuple[int, int], path: Path) -> int:
    """The side of an image that is taken as it is."""
    if size[0] != size[1]:
        raise RequestError(f"{shown} is {_by(size)}, not square: --image_size N cuts and resizes all images to N×N")
    if size[0] > LARGEST_SIDE:
        raise RequestError(
            f"{shown} is {_by(size)}, larger than {LARGEST_SIDE}×{LARGEST_SIDE}: --image_size N resizes all images to N×N, or "
            f"take them as photographs: imagenet --imagenet_loc {_printable(str(path))}"
        )
    return size[0]


def _other_size(shown: str, size: tuple[int, int], side: int, path: Path) -> RequestError:
    return RequestError(f"{shown} is {_by(size)}, others {side}×{side}: --image_size N resizes all images to N×N")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
