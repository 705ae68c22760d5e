"""Where datasets lie, and how their images are read from there.

    source = find("digits", Path("data"))         # RequestError where the dataset is not there
    images = source.read(4)                       # images.train: (1500, 32, 32, 3) uint8

The function that an entry of input.datasets.DATASETS names is given the dataset's name, its entry and the folder of
datasets, and returns all places that it has looked at, the best first. Small images are read whole into memory
(memory.py); imagenet is an index of files that are decoded as they are needed (photos/). Imports no torch.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name

import numpy as np

from input import archives
from input.arrays import Form, Images, read_folder, read_idx, read_tar, read_torchvision
from input.datasets import DATASETS, Dataset
from input.folders import look
from input.folders import read as read_own
from input.image_files import shown
from input.photos.sources import photographs
from input.source import Source
from system.configuration import Configuration
from system.errors import MachineFault, RequestError, first_line

Place = tuple[str, Source | None]  # where a dataset may lie, and its source where it does


def find(
    name: str, data_dir: Path, download: bool = False, imagenet_loc: str | None = None, only_test: bool = False,
    val_labels: str | None = None,
) -> Source:  # fmt: skip
    """Return the first place that holds the dataset; with `download`, torchvision's if there is none. Read nothing yet.

    Args: imagenet_loc: a folder or a pattern of shards (default: the folder imagenet in `data_dir`); only_test: whether
    train/ of imagenet may be missing; val_labels: the path of a list of the labels of val/ of imagenet. Raises
    RequestError where the dataset is not there.
    """
    dataset = DATASETS[name]
    if name == "imagenet" and (imagenet_loc is not None or (data_dir / "imagenet").is_dir()):
        return photographs(str(data_dir / "imagenet") if imagenet_loc is None else imagenet_loc, only_test, val_labels)
    try:
        places = resolve_name(dataset.places)(name, dataset, data_dir)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise RequestError(f"--data_dir {str(data_dir)!r} cannot be looked into: {first_line(error)}")
    for _, source in places:
        if source is not None:
            return source
    if download and dataset.torchvision is not None:
        return Source(f"{data_dir} (downloaded)", lambda workers, keep: _downloaded(name, data_dir, keep))
    looked = ", ".join(place for place, _ in places)
    get = f"--download fetches it{dataset.other_way}" if dataset.torchvision else dataset.other_way
    raise RequestError(f"no {name}: looked for {looked}; {get}, --data_dir says where it lies")


def find_own(request: Configuration) -> Source:
    """Return the source of the folder of one's own that a request names."""
    own = look(request.data_folder, of_any_side=True)  # the request says the side: cli/options.py has looked at it

    def read(workers: int, keep: bool) -> Images:
        return read_own(own, request.image_size, request.data_resize, workers, keep)

    return Source(f"{shown(str(own.path))} ({own.test}/ for testing)", read)


def _downloaded(name: str, data_dir: Path, keep: bool) -> Images:
    """Return the images of a dataset that torchvision downloads into `data_dir`."""
    if not keep:
        raise RequestError(f"{name} is not there yet, and is not downloaded for a dry run")
    read_torchvision(DATASETS[name].torchvision, data_dir, download=True)
    return find(name, data_dir).read(1)


def digits(name: str, dataset: Dataset, data_dir: Path) -> list[Place]:
    """Return the 8×8 digits that scikit-learn ships, enlarged to 32×32; the last 297 are for testing."""

    def read(workers: int, keep: bool) -> Images:
        from PIL import Image

        table = _digits_file()
        grey = np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        labels = table[:, -1].copy()
        large = np.stack([Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR) for image in grey])
        images = np.repeat(large[..., None], 3, axis=-1)
        return Images(images[:-297], labels[:-297], images[-297:], labels[-297:], (), tuple("0123456789"))

    return [("scikit-learn", Source("scikit-learn's digits", read))]


def _digits_file() -> np.ndarray:
    """Return scikit-learn's digits, (n, 65): 8×8 pixels from 0 to 16 and the label.

    They are read without scikit-learn, whose import takes as long as torch's.
    """
    package = find_spec("sklearn")
    if package is None:
        raise MachineFault(
            "the digits come with scikit-learn, which is not installed: python -m pip install scikit-learn"
        )
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    return np.loadtxt(path, delimiter=",", dtype=np.int64)


def cifar(name: str, dataset: Dataset, data_dir: Path) -> list[Place]:
    """Look for torchvision's layout, a folder of images, and an archive of such a folder."""
    unpacked, folder, form = data_dir / dataset.archive, data_dir / name, Form(dataset.classes, dataset.side)
    packed = archives.find(data_dir, name)

    def read_unpacked(workers: int, keep: bool) -> Images:
        return read_torchvision(dataset.torchvision, data_dir, False, dataset.targets)

    def read_images(workers: int, keep: bool) -> Images:
        return read_folder(folder, form, workers)

    def read_packed(workers: int, keep: bool) -> Images:
        return read_tar(packed[0], form, workers, keep)

    return [
        (str(unpacked), Source(str(unpacked), read_unpacked) if unpacked.is_dir() else None),
        (f"{folder}/train/<class>/", Source(str(folder), read_images) if (folder / "train").is_dir() else None),
        (f"{folder}.tar[.xz|.gz|.bz2|.zst] or .zip", Source(str(packed[0]), read_packed) if packed else None),
    ]


def fashionmnist(name: str, dataset: Dataset, data_dir: Path) -> list[Place]:
    """Look for torchvision's layout and the gz files of Debian's dataset-fashion-mnist."""

    def source(folder: Path) -> Source | None:
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        stems = [f"{split}-{kind}" for split in ("train", "t10k") for kind in kinds]
        files = [
            next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None) for stem in stems
        ]
        return None if None in files else Source(str(folder), lambda workers, keep: _read_fashionmnist(files))

    folders = [data_dir / "FashionMNIST" / "raw", data_dir / "fashionmnist", Path("/usr/share/datasets/fashion-mnist")]
    return [(str(folder), source(folder)) for folder in folders]


def _read_fashionmnist(files: Sequence[Path]) -> Images:
    """Return 28×28 grey images, padded with 0 to 32×32 and repeated in 3 channels, from IDX files of both splits."""
    train, train_labels, test, test_labels = (read_idx(path) for path in files)
    for images, labels, path in ((train, train_labels, files[0]), (test, test_labels, files[2])):
        fits = images.shape[1:] == (28, 28) and labels.shape == images.shape[:1] and len(labels)
        if not fits or labels.max() > 9:
            raise MachineFault(f"{path}: {images.shape} images with {labels.shape} labels, not 28×28 of 10 classes")
    coloured = [np.repeat(np.pad(x, ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=-1) for x in (train, test)]
    return Images(coloured[0], train_labels.astype(np.int64), coloured[1], test_labels.astype(np.int64))


def imagenet(name: str, dataset: Dataset, data_dir: Path) -> list[Place]:
    """Say where `find` has looked already."""
    return [(f"{data_dir / 'imagenet'}/train/<wnid>/", None)]
