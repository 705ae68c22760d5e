"""How the files of a dataset become arrays of bytes: IDX files, folders and tars of images, torchvision's archives.

    images = read_tar(Path("cifar10.tar.xz"), Form(classes=10, side=32), workers=4, keep=True)
    images.train                                  # (50000, 32, 32, 3) uint8

Nothing is ever unpacked to disk. What cannot be used is a MachineFault that names it. Imports no torch.
"""

import gzip
import math
import stat
import sys
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

import cache
from errors import MachineFault, first_line

SPLITS = ("train", "test")
KEPT = ("stamp", "train", "train_labels", "test", "test_labels", "classes")  # in a cache
CACHE_FORMAT = 1
LARGEST_FILE = 1 << 20  # bytes of an encoded image; one of 32×32 has some thousands
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # Pillow knows others, some of which run programs
MODES = ("RGB", "L", "P", "1", "RGBA", "LA", "PA", "CMYK", "YCbCr", "LAB", "HSV")  # of 8 bits a channel, or fewer
Entry = tuple[str, str, str, bytes]  # split, class, file name, encoded image


@dataclass(frozen=True)
class Images:
    """Both splits of a dataset: images (N, side, side, 3) uint8 and labels (N,) int64, which count the classes from 0; the
    names of the classes where they are known."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...] = ()
    train_digest: str = ""  # where another than that of these bytes is known: facts.py
    test_digest: str = ""


class Form(NamedTuple):
    """What a dataset's images have to be: so many classes, square with so many pixels a side."""

    classes: int
    side: int


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of bytes (LeCun's MNIST format): 0 0 8 and the number of dimensions, their big-endian sizes, the data."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            if magic[:3] != b"\0\0\x08" or magic[3:] not in (b"\1", b"\3"):
                raise MachineFault(f"{path} is not an IDX file of bytes")
            shape = tuple(int.from_bytes(file.read(4), "big") for _ in range(magic[3]))
            size = math.prod(shape)
            data = file.read(min(size, 1 << 28) + 1)  # no more than it says, however far it would unpack
    except (OSError, EOFError, zlib.error) as error:
        raise MachineFault(f"{path} cannot be read: {first_line(error)}")
    if len(data) != size:
        raise MachineFault(f"{path} is damaged: it should hold {' × '.join(map(str, shape))} bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_torchvision(name: str, data_dir: Path, download: bool) -> Images:
    """What torchvision's class `name` reads from its own layout, after its own check of the files."""
    import torchvision

    try:
        train, test = (
            getattr(torchvision.datasets, name)(str(data_dir), train=is_train, download=download)
            for is_train in (True, False)
        )
    except (OSError, RuntimeError, EOFError) as error:
        raise MachineFault(f"{data_dir}: torchvision cannot {'download' if download else 'read'} it: {error}")
    return Images(train.data, np.array(train.targets), test.data, np.array(test.targets), tuple(train.classes))


def read_folder(folder: Path, form: Form, workers: int) -> Images:
    """The images of train/<class>/ and test/<class>/, hidden files aside."""
    try:
        return _decode(sorted(_files(folder)), str(folder), form, workers)
    except OSError as error:
        raise MachineFault(f"{error.filename or folder} cannot be read: {first_line(error)}")


def _files(folder: Path) -> Iterator[Entry]:
    for split in SPLITS:
        for path in (folder / split).glob("*/*"):
            if path.name.startswith(".") or path.parent.name.startswith(".") or path.is_dir():
                continue
            status = path.stat()  # OSError for a link that leads nowhere or in a circle
            if not stat.S_ISREG(status.st_mode):
                raise MachineFault(f"{path} cannot be used: it is no file")
            if status.st_size > LARGEST_FILE:
                raise MachineFault(f"{path} cannot be used: {status.st_size:,} bytes are no small image")
            yield split, path.parent.name, path.name, path.read_bytes()


def read_tar(path: Path, form: Form, workers: int, keep: bool) -> Images:
    """The images of a tar, read in place and in one pass; decoded once, into a cache that later runs load, if `keep`."""
    stored = cache.load(kept_in := cache.place(path, "decoded"), KEPT)
    stamp = f"{CACHE_FORMAT} {path.stat().st_size} {path.stat().st_mtime_ns}"
    if stored is not None and str(stored.pop("stamp")) == stamp:
        return Images(**stored | {"classes": tuple(map(str, stored["classes"]))})
    print(f"decoding {path}" + ", once" * keep, file=sys.stderr)
    try:
        with tarfile.open(path, "r|*") as tar:
            entries = sorted(_members(tar, path))
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise MachineFault(f"{path} cannot be read: {first_line(error)}")
    images = _decode(entries, str(path), form, workers)
    if keep:
        arrays = {name: np.asarray(getattr(images, name)) for name in KEPT[1:]}
        cache.keep(kept_in, {"stamp": np.array(stamp), **arrays}, "decoded images")
    return images


def _members(tar: tarfile.TarFile, path: Path) -> Iterator[Entry]:
    seen: set[tuple[str, ...]] = set()
    for member in tar:
        parts = PurePosixPath(member.name).parts
        if member.isdir() or len(parts) < 3 or parts[-3] not in SPLITS or any(p.startswith(".") for p in parts[-2:]):
            continue
        problem = (
            "its path is absolute" if parts[0] == "/" else
            "its path leaves the archive" if ".." in parts else
            "it is a link" if member.islnk() or member.issym() else
            "it is no file" if not member.isfile() else
            f"{member.size:,} bytes are no small image" if member.size > LARGEST_FILE else
            "it is there twice" if parts[-3:] in seen else None
        )  # fmt: skip
        if problem:
            raise MachineFault(f"{path}: {member.name!r} cannot be used: {problem}")
        seen.add(parts[-3:])
        yield (*parts[-3:], tar.extractfile(member).read())


def _decode(entries: list[Entry], where: str, form: Form, workers: int) -> Images:
    """Arrays of both splits, classes in alphabetical order, images by class and file name."""
    from PIL import Image

    train_classes, test_classes = ({entry[1] for entry in entries if entry[0] == split} for split in SPLITS)
    if odd := min(train_classes ^ test_classes, default=None):
        there, missing = SPLITS if odd in train_classes else SPLITS[::-1]
        raise MachineFault(f"{where}: the class {odd!r} has images in {there}/, but none in {missing}/")
    if len(train_classes) != form.classes:
        raise MachineFault(f"{where}: there are {len(train_classes)} classes with images, not {form.classes}")

    def decode(entry: Entry) -> np.ndarray:
        split, label, name, data = entry
        try:
            image = Image.open(BytesIO(data), formats=FORMATS)
            if image.size != (form.side, form.side):
                raise ValueError(f"it is {image.width}×{image.height}, not {form.side}×{form.side}")
            if image.mode not in MODES:
                raise ValueError(f"its mode is {image.mode}, with more than 8 bits a channel")
            return np.asarray(image.convert("RGB"))
        except Exception as error:  # whatever a damaged file makes Pillow raise
            raise MachineFault(f"{where}: {split}/{label}/{name} cannot be used: {first_line(error)}")

    chunks = [entries[start : start + 512] for start in range(0, len(entries), 512)]
    pool = ThreadPoolExecutor(workers)
    try:
        decoded = np.concatenate(list(pool.map(lambda chunk: np.stack([decode(entry) for entry in chunk]), chunks)))
    finally:
        pool.shutdown(cancel_futures=True)  # a signal does not wait for the rest
    number = {label: index for index, label in enumerate(sorted(train_classes))}
    labels = np.array([number[entry[1]] for entry in entries])
    train = np.array([entry[0] == "train" for entry in entries])
    return Images(decoded[train], labels[train], decoded[~train], labels[~train], tuple(sorted(train_classes)))
