"""The datasets: what is known of each, where it may lie, and how its images are read. Imports no torch.

    source = find("digits", Path("data"))         # RequestError where the dataset is not there
    images = source.read(4)                       # images.train: (1500, 32, 32, 3) uint8

A dataset is one entry of DATASETS. All of them end as whole arrays of bytes in memory; data.py makes batches of them.
"""

import gzip
import hashlib
import math
import os
import re
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np

from errors import MachineFault, RequestError, first_line

SPLITS = ("train", "test")
CACHE_FORMAT = 1
Entry = tuple[str, str, str, bytes]  # split, class, file name, encoded image


@dataclass(frozen=True)
class Images:
    """Both splits of a dataset: images (N, side, side, 3) uint8 and labels (N,) int64, which count the classes from 0."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class Source:
    """A place where a dataset was found. `read(workers)` is the expensive part; it raises MachineFault on damage."""

    where: str
    read: Callable[[int], Images]


@dataclass(frozen=True)
class Dataset:
    """Facts of a dataset. `mean` and `std` are per channel, of pixels in 0..1; None stands for the training set's own.
    `std_of` are deviations that a network was published with, where they differ."""

    classes: int
    side: int
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    flip: bool
    train_images: int
    places: Callable[["Dataset", Path, bool], list[tuple[str, Source | None]]]  # all that are looked at, best first
    torchvision: str | None = None  # the class that can download it
    other_way: str = ""  # another command that gets it
    std_of: dict[str, tuple[float, ...]] = field(default_factory=dict)


def find(name: str, data_dir: Path, download: bool = False) -> Source:
    """The first place that holds the dataset; with `download`, torchvision's if there is none. Reads nothing yet."""
    dataset = DATASETS[name]
    places = dataset.places(dataset, data_dir, download)
    for _, source in places:
        if source is not None:
            return source
    if download and dataset.torchvision is not None:
        return Source(f"{data_dir} (downloaded)", lambda workers: _torchvision(dataset, data_dir, download=True))
    looked = ", ".join(place for place, _ in places)
    get = f"--download fetches it{dataset.other_way}" if dataset.torchvision else dataset.other_way
    raise RequestError(f"no {name}: looked for {looked}; {get}, --data_dir says where it lies")


def _digits(dataset: Dataset, data_dir: Path, download: bool) -> list[tuple[str, Source | None]]:
    """The 8×8 digits that scikit-learn ships, enlarged to 32×32; the last 297 are for testing."""

    def read(workers: int) -> Images:
        from PIL import Image
        from sklearn.datasets import load_digits

        bunch = load_digits()
        grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
        large = np.stack([Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR) for image in grey])
        images, labels = np.repeat(large[..., None], 3, axis=-1), bunch.target.astype(np.int64)
        return Images(images[:-297], labels[:-297], images[-297:], labels[-297:])

    return [("scikit-learn", Source("scikit-learn's digits", read))]


def _cifar(name: str, archive: str) -> Callable[[Dataset, Path, bool], list[tuple[str, Source | None]]]:
    """torchvision's layout, else a folder of images, else a tar of such a folder."""

    def places(dataset: Dataset, data_dir: Path, download: bool) -> list[tuple[str, Source | None]]:
        unpacked, folder = data_dir / archive, data_dir / name
        tars = [
            path
            for path in sorted(data_dir.glob(f"{name}.tar*"))
            if re.fullmatch(r".*\.tar(\.(gz|xz|bz2))?", path.name)
        ]
        return [
            (str(unpacked), Source(str(unpacked), lambda w: _torchvision(dataset, data_dir, download)) if unpacked.is_dir() else None),
            (f"{folder}/train/<class>/", Source(str(folder), lambda w: _folder(dataset, folder, w)) if (folder / "train").is_dir() else None),
            (f"{folder}.tar[.xz|.gz|.bz2]", Source(str(tars[0]), lambda w: _tar(dataset, tars[0], w)) if tars else None),
        ]  # fmt: skip

    return places


def _fashionmnist(dataset: Dataset, data_dir: Path, download: bool) -> list[tuple[str, Source | None]]:
    """torchvision's layout or the gz files of Debian's dataset-fashion-mnist: 28×28 grey, padded with 0 to 32×32."""

    def source(folder: Path) -> Source | None:
        stems = [
            f"{split}-{kind}" for split in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        ]
        files = [
            next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None) for stem in stems
        ]
        if None in files:
            return None

        def read(workers: int) -> Images:
            train, train_labels, test, test_labels = (_idx(path) for path in files)
            for images, labels, path in ((train, train_labels, files[0]), (test, test_labels, files[2])):
                if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or labels.max(initial=0) > 9:
                    raise MachineFault(
                        f"{path}: {images.shape} images with {labels.shape} labels, not 28×28 of 10 classes"
                    )
            coloured = [np.repeat(np.pad(x, ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=-1) for x in (train, test)]
            return Images(coloured[0], train_labels.astype(np.int64), coloured[1], test_labels.astype(np.int64))

        return Source(str(folder), read)

    folders = [data_dir / "FashionMNIST" / "raw", data_dir / "fashionmnist", Path("/usr/share/datasets/fashion-mnist")]
    return [(str(folder), source(folder)) for folder in folders]


def _idx(path: Path) -> np.ndarray:
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
        raise MachineFault(f"{path} cannot be read: {error}")
    if len(data) != size:
        raise MachineFault(f"{path} is damaged: it should hold {' × '.join(map(str, shape))} bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _torchvision(dataset: Dataset, data_dir: Path, download: bool = False) -> Images:
    """What torchvision's class of the dataset reads from its own layout, after its own check of the files."""
    import torchvision

    try:
        train, test = (
            getattr(torchvision.datasets, dataset.torchvision)(str(data_dir), train=is_train, download=download)
            for is_train in (True, False)
        )
    except (OSError, RuntimeError, EOFError) as error:
        raise MachineFault(f"{data_dir}: torchvision cannot {'download' if download else 'read'} it: {error}")
    if dataset.torchvision == "FashionMNIST":
        return find("fashionmnist", data_dir).read(1)
    return Images(train.data, np.array(train.targets), test.data, np.array(test.targets))


def _folder(dataset: Dataset, folder: Path, workers: int) -> Images:
    entries = (
        (split, path.parent.name, path.name, path.read_bytes())
        for split in SPLITS
        for path in sorted((folder / split).glob("*/*"))
        if path.is_file()
    )
    try:
        return _decode(dataset, entries, str(folder), workers)
    except OSError as error:
        raise MachineFault(f"{folder} cannot be read: {error}")


def _tar(dataset: Dataset, path: Path, workers: int) -> Images:
    """The images of a tar, read in place and in one pass; decoded once, into a cache that later runs load."""
    cache, stamp = _cache_of(path), f"{CACHE_FORMAT} {path.stat().st_size} {path.stat().st_mtime_ns}"
    if (images := _load_cache(cache, stamp)) is not None:
        return images
    print(f"decoding {path}, once", file=sys.stderr)
    try:
        with tarfile.open(path, "r|*") as tar:
            entries = []
            for member in tar:
                parts = member.name.split("/")
                if member.isfile() and len(parts) >= 3 and parts[-3] in SPLITS:
                    entries.append((*parts[-3:], tar.extractfile(member).read()))
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise MachineFault(f"{path} cannot be read: {error}")
    images = _decode(dataset, entries, str(path), workers)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        _save_cache(cache, stamp, images)
    except OSError as error:
        print(f"warning: the decoded images cannot be kept in {cache}: {error}", file=sys.stderr)
    return images


def _decode(dataset: Dataset, entries: Iterable[Entry], where: str, workers: int) -> Images:
    """Arrays of both splits, classes in alphabetical order, images by class and file name."""
    from PIL import Image

    entries = sorted(entries)
    classes = {split: sorted({entry[1] for entry in entries if entry[0] == split}) for split in SPLITS}
    for split in SPLITS:
        if len(classes[split]) != dataset.classes:
            raise MachineFault(
                f"{where}: {split}/ holds {len(classes[split])} classes with images, not {dataset.classes}"
            )
    if classes["train"] != classes["test"]:
        odd = sorted(set(classes["train"]) ^ set(classes["test"]))
        raise MachineFault(f"{where}: train/ and test/ do not hold the same classes: {odd[0]!r} is only in one of them")

    def decode(entry: Entry) -> np.ndarray:
        split, label, name, data = entry
        try:
            image = Image.open(BytesIO(data))
            if image.size != (dataset.side, dataset.side):
                raise ValueError(f"it is {image.width}×{image.height}, not {dataset.side}×{dataset.side}")
            return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MachineFault(f"{where}: {split}/{label}/{name} cannot be used: {error}")

    chunks = [entries[start : start + 512] for start in range(0, len(entries), 512)]
    with ThreadPoolExecutor(workers) as pool:
        decoded = np.concatenate(list(pool.map(lambda chunk: np.stack([decode(entry) for entry in chunk]), chunks)))
    number = {label: index for index, label in enumerate(classes["train"])}
    labels = np.array([number[entry[1]] for entry in entries])
    train = np.array([entry[0] == "train" for entry in entries])
    return Images(decoded[train], labels[train], decoded[~train], labels[~train])


def _imagenet(dataset: Dataset, data_dir: Path, download: bool) -> list[tuple[str, Source | None]]:
    raise RequestError("imagenet: its networks can be counted, training on it is not there yet")


def _cache_of(path: Path) -> Path:
    """Beside the tar, or in the user's cache folder where that folder is read-only (to root too)."""
    folder = path.resolve().parent
    if folder.stat().st_mode & 0o222 and os.access(folder, os.W_OK):
        return folder / f"{path.name}.decoded.npz"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (
        home / "swapconv" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}-{path.name}.decoded.npz"
    )


def _load_cache(cache: Path, stamp: str) -> Images | None:
    if not cache.exists():
        return None
    try:
        with zipfile.ZipFile(cache) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        with np.load(cache, allow_pickle=False) as stored:
            if str(stored["stamp"]) != stamp:
                return None
            return Images(*(stored[name] for name in Images.__dataclass_fields__))
    except Exception as error:  # whatever a damaged file makes zipfile or numpy raise: to make it anew is always right
        print(f"warning: {cache} is damaged and is made anew: {first_line(error)}", file=sys.stderr)
        return None


def _save_cache(cache: Path, stamp: str, images: Images) -> None:
    """Written beside and renamed, so that another run never sees half a cache."""
    partial = cache.with_name(f"{cache.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, stamp=np.array(stamp), **vars(images))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(cache)
    finally:
        partial.unlink(missing_ok=True)


DATASETS = {
    "cifar10": Dataset(
        10, 32, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), True, 50_000, _cifar("cifar10", "cifar-10-batches-py"), "CIFAR10",
        std_of={"DARTS": (0.2470, 0.2435, 0.2616)},
    ),
    "cifar100": Dataset(
        100, 32, (0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023), True, 50_000, _cifar("cifar100", "cifar-100-python"), "CIFAR100"
    ),
    "fashionmnist": Dataset(
        10, 32, (0.2860,) * 3, (0.3530,) * 3, True, 60_000, _fashionmnist, "FashionMNIST", ", so does apt-get install dataset-fashion-mnist"
    ),
    "digits": Dataset(10, 32, None, None, False, 1500, _digits),
    "imagenet": Dataset(1000, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), True, 1_281_167, _imagenet),
}  # fmt: skip
