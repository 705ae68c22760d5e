"""How the files of a dataset become arrays of bytes: IDX files, folders and archives of images, torchvision's archives.

    images = read_tar(Path("cifar10.tar.xz"), Form(classes=10, side=32), workers=4, keep=True)
    images.train                                  # (50000, 32, 32, 3) uint8

Nothing is ever unpacked to disk. What cannot be used is a MachineFault that names it. Imports no torch.
"""

import codecs
import gzip
import math
import pickle
import sys
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from input import archives, cache
from input.image_files import FORMATS, Passed, contents, fault, is_aside, is_image, shown
from input.photos.scan import first_image, folders_in, scan
from system.errors import MachineFault, first_line

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR100

TRAIN, TEST = "train", ("test", "val", "valid", "validation")  # folders; of several to test on, the first is used
CACHE_FORMAT = 2
KEPT = ("stamp", "train", "train_labels", "test", "test_labels", "classes", "notes")  # in a cache
LARGEST_FILE = 1 << 20  # bytes of an encoded image; one of 32×32 has some thousands
MODES = ("RGB", "L", "P", "1", "RGBA", "LA", "PA", "CMYK", "YCbCr", "LAB", "HSV")  # of 8 bits a channel, or fewer
ARRAYS = {  # the functions that a pickle of arrays calls
    ("numpy.core.multiarray", "_reconstruct"), ("numpy.core.numeric", "_frombuffer"), ("numpy", "ndarray"), ("numpy", "dtype"),
}  # fmt: skip
Entry = tuple[str, str, str, bytes]  # split, class, file name, encoded image


@dataclass(frozen=True)
class Images:
    """Both splits of a dataset in memory.

    `train`, `test`: images (N, side, side, 3) uint8. `train_labels`, `test_labels`: (N,) int64, classes counted from 0.
    `notes`: lines for a person about files that were passed over. `classes`: their names by label, where known.
    `train_digest`, `test_digest`: the digest of the splits where it is of other bytes, those of the files (input/facts.py).
    """

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    train_digest: str = ""
    test_digest: str = ""


class Form(NamedTuple):
    """What the images of a dataset have to be: of this many classes, square with `side` rows."""

    classes: int
    side: int


def read_idx(path: Path) -> np.ndarray:
    """Return the array in an IDX file of bytes (LeCun's MNIST format).

    The file holds 0 0 8 and the number of dimensions, their big-endian sizes, then the data. Raises MachineFault where
    it is damaged.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            if magic[:3] != b"\0\0\x08" or magic[3:] not in (b"\1", b"\3"):
                raise MachineFault(f"{path} is not an IDX file of bytes")
            shape = tuple(int.from_bytes(file.read(4), "big") for _ in range(magic[3]))
            size = math.prod(shape)
            data = file.read(min(size, 1 << 28) + 1)  # no more than the header says, however far it would unpack
    except (OSError, EOFError, zlib.error) as error:
        raise MachineFault(f"{path} cannot be read: {first_line(error)}")
    if len(data) != size:
        raise MachineFault(f"{path} is damaged: it should hold {' × '.join(map(str, shape))} bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_torchvision(name: str, data_dir: Path, download: bool, targets: str | None = None) -> Images:
    """Return what torchvision's class `name` reads from its own layout, after its own check of the files.

    Args: targets: the name of other labels that the same files hold, as the "coarse_labels" of CIFAR-100. Raises
    MachineFault where the files are damaged or cannot be downloaded.
    """
    import torchvision

    try:
        splits = [
            getattr(torchvision.datasets, name)(str(data_dir), train=is_train, download=download)
            for is_train in (True, False)
        ]
        labels = [each.targets if targets is None else _other_targets(each, targets) for each in splits]
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise MachineFault(
            f"{data_dir}: torchvision cannot {'download' if download else 'read'} it: {first_line(error)}"
        )
    names = tuple(splits[0].classes) if targets is None else ()
    return Images(splits[0].data, np.array(labels[0]), splits[1].data, np.array(labels[1]), (), names)


class _Plain(pickle.Unpickler):
    """An unpickler of nothing but arrays and plain types: no other function is ever called."""

    def find_class(self, module: str, name: str) -> object:
        """Return what a pickle calls by this name. Raise UnpicklingError where that is more than arrays need."""
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) == ("_codecs", "encode"):
            return codecs.encode
        if (module, name) not in ARRAYS:
            raise pickle.UnpicklingError(f"it holds more than arrays: {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _other_targets(dataset: "CIFAR100", targets: str) -> list[int]:
    """Return other labels of the same images, in the same order, from the files that torchvision has checked."""
    labels: list[int] = []
    for file, _ in dataset.train_list if dataset.train else dataset.test_list:
        with (Path(dataset.root) / dataset.base_folder / file).open("rb") as stream:
            there = _Plain(stream, encoding="latin1").load()
        if not isinstance(there, dict) or not isinstance(there.get(targets), list):
            raise OSError(f"{dataset.base_folder}/{file} has no {targets}")
        labels += there[targets]
    if len(labels) != len(dataset.data):
        raise OSError(f"{dataset.base_folder} has {len(labels):,} {targets} of {len(dataset.data):,} images")
    return labels


def read_folder(folder: Path, form: Form, workers: int) -> Images:
    """Return the images of train/<class>/ and test/<class>/ (or val/, valid/).

    Raises MachineFault where they do not fit.
    """
    entries, passed = [], {}
    try:
        there, unused = splits_in(folder)
        for split in _taken(there):
            classes, passed[split] = folders_in(folder / split)
            found = scan(folder / split, classes)
            passed[split] = passed[split].joined(found.passed)
            names = (f"{label}/{found.names[number]}" for label, number in found.each())
            entries += [(split, *name.split("/", 1), _read(folder / split / name)) for name in names]
    except OSError as error:
        raise MachineFault(f"{shown(str(error.filename or folder))} cannot be read: {first_line(error)}")
    return _decode(entries, notes_of(str(folder), there, passed, unused), str(folder), form, workers)


def splits_in(folder: Path) -> tuple[list[str], list[str]]:
    """Return the splits that lie in a folder, and those that are there but not used.

    A split to test on is not used where it has no images in folders of the training classes (a test set without labels)
    and another one has. Raises OSError where a folder cannot be read.
    """
    there = [split for split in (TRAIN, *TEST) if (folder / split).is_dir()]
    classes = set(folders_in(folder / TRAIN)[0]) if TRAIN in there else set()
    useless = [
        split for split in there
        if split != TRAIN
        and not any(first_image(folder / split / each) for each in folders_in(folder / split)[0] if each in classes)
    ]  # fmt: skip
    if len(useless) == len(set(there) - {TRAIN}):  # no better one is there: the caller reports what is wrong
        return there, []
    return [split for split in there if split not in useless], useless


def _read(path: Path) -> bytes:
    try:
        return contents(path, LARGEST_FILE, "small image")
    except OSError as error:
        if error.errno is not None:
            raise
        raise MachineFault(f"{shown(str(path))} cannot be used: {error}")


def _taken(there: Iterable[str]) -> tuple[str, ...]:
    """Return the splits that are used of those that are there."""
    tests = [split for split in TEST if split in there]
    return (TRAIN, *tests[:1])


def notes_of(
    where: str, there: Sequence[str], passed: dict[str, Passed], unused: Sequence[str] = ()
) -> tuple[str, ...]:  # fmt: skip
    """Return lines for a person: which files of a split were passed over, which of several test splits is used."""
    taken, lines = _taken(there), [passed.get(split, Passed()).line(f"{where}/{split}") for split in (TRAIN, *TEST)]
    if others := [f"{split}/" for split in there if split not in taken]:
        lines.append(f"{where} has {taken[1]}/ and {' and '.join(others)}: {taken[1]}/ is what is tested on")
    for split in unused:
        lines.append(
            f"{where}/{split}/ has no images in folders of the training classes: {taken[1]}/ is what is tested on"
        )
    return tuple(filter(None, lines))


def read_tar(path: Path, form: Form, workers: int, keep: bool) -> Images:
    """Return the images of an archive (archives.py), decoded once, later loaded from a cache if `keep` allows that.

    Raises MachineFault where the archive is damaged, or has other images than `form` says.
    """
    stored = cache.load(kept_in := cache.place(path, "decoded"), KEPT)
    stamp = f"{CACHE_FORMAT} {path.stat().st_size} {path.stat().st_mtime_ns}"
    if stored is not None and str(stored.pop("stamp")) == stamp:
        return Images(**stored | {name: tuple(map(str, stored[name])) for name in ("classes", "notes")})
    print(f"decoding {path}" + ", once" * keep, file=sys.stderr)
    entries, notes = _entries(path)
    images = _decode(entries, notes, str(path), form, workers)
    if keep:
        arrays = {name: np.asarray(getattr(images, name)) for name in KEPT[1:5]}
        words = {name: np.array(getattr(images, name), str) for name in KEPT[5:]}
        cache.keep(kept_in, {"stamp": np.array(stamp), **arrays, **words}, "decoded images")
    return images


def _entries(path: Path) -> tuple[list[Entry], tuple[str, ...]]:
    """Return the encoded images of the splits that are used, and lines for a person about the rest."""
    entries: dict[str, list[Entry]] = {}
    passed: dict[str, Passed] = {}
    guard = archives.Guard(path, LARGEST_FILE, archives.MOST_BYTES)
    for member in archives.members(path):
        split, label, name = place = _place(member.parts)
        if member.is_folder or not split or is_aside(member.parts):
            continue
        if not (label and is_image(member.parts[-1])):
            passed[split] = passed.get(split, Passed()).add("/".join(filter(None, (label, name))))
            continue
        guard.check(member, place)
        entries.setdefault(split, []).append((*place, member.read()))
    there = [split for split in (TRAIN, *TEST) if split in entries]
    taken = _taken(there)
    return [each for split in taken for each in sorted(entries.get(split, ()))], notes_of(str(path), there, passed)


def _place(parts: Sequence[str]) -> tuple[str, str, str]:
    """Return the split, the class and the name within the class of a path in an archive.

    The splits may lie in folders. The class is empty where the path has none, and the split too where it lies in no
    split.
    """
    for number, part in enumerate(parts[:-1]):
        if part in (TRAIN, *TEST):
            label, *rest = parts[number + 1 :]
            return (part, label, "/".join(rest)) if rest else (part, "", label)
    return "", "", ""


def class_labels(names: Iterable[str]) -> dict[str, int]:
    """Return the label of each class: its number where all are named 0, 1, …, else its place in the alphabet."""
    names = sorted(names)
    numbers = [int(name) if name.isascii() and name.isdigit() else -1 for name in names]
    return dict(zip(names, numbers if sorted(numbers) == list(range(len(names))) else range(len(names))))


def _decode(entries: list[Entry], notes: tuple[str, ...], where: str, form: Form, workers: int) -> Images:
    """Return arrays of both splits, images ordered by class and file name."""
    from PIL import Image

    test = next((entry[0] for entry in entries if entry[0] != TRAIN), "")
    train_classes, test_classes = ({entry[1] for entry in entries if entry[0] == split} for split in (TRAIN, test))
    if train_classes and not test:
        raise MachineFault(
            f"{where}: there are images in {TRAIN}/, but none to test on, which are in {'/, '.join(TEST[:3])}/"
        )
    if odd := min(train_classes ^ test_classes, default=None):
        there, missing = (TRAIN, test) if odd in train_classes else (test, TRAIN)
        raise MachineFault(f"{where}: the class {odd!r} has images in {there}/, but none in {missing}/")
    if len(train_classes) != form.classes:
        noted = f" ({notes[0]})" if notes and not train_classes else ""
        raise MachineFault(f"{where}: there are {len(train_classes)} classes with images, not {form.classes}{noted}")

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
            raise MachineFault(f"{shown(f'{where}: {split}/{label}/{name}')} cannot be used: {fault(error)}")

    number, entries = class_labels(train_classes), sorted(entries, key=lambda entry: (entry[0] != TRAIN, *entry[1:3]))
    chunks = [entries[start : start + 512] for start in range(0, len(entries), 512)]
    pool = ThreadPoolExecutor(workers)
    try:
        decoded = np.concatenate(list(pool.map(lambda chunk: np.stack([decode(entry) for entry in chunk]), chunks)))
    finally:
        pool.shutdown(cancel_futures=True)  # so that a signal does not wait for the rest
    labels = np.array([number[entry[1]] for entry in entries])
    train, names = np.array([entry[0] == TRAIN for entry in entries]), tuple(sorted(train_classes, key=number.get))
    return Images(decoded[train], labels[train], decoded[~train], labels[~train], notes, names)
