"""The datasets: what is known of each, where it may lie, and how its images are read.

    source = find("digits", Path("data"))         # RequestError where the dataset is not there
    images = source.read(4)                       # images.train: (1500, 32, 32, 3) uint8
    of(config).classes                            # of the dataset of a run's configuration

A dataset is one entry of DATASETS, or a folder of one's own (input/folders.py). Small images are read whole into memory
(memory.py); imagenet is an index of files that are decoded as they are needed (photos/). Imports no torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from input import archives
from input.arrays import Form, Images, read_folder, read_idx, read_tar, read_torchvision
from input.folders import is_own, look
from input.folders import read as read_own
from input.image_files import shown
from input.photos.sources import photographs
from input.source import Source
from system import files as system_files
from system.configuration import Configuration
from system.errors import MachineFault, RequestError, first_line

Place = tuple[str, Source | None]  # where a dataset may lie, and its source where it does


@dataclass(frozen=True)
class Dataset:
    """The facts of a dataset.

    `side`: rows and columns of an image. `mean`, `std`: per channel, of pixels in 0..1; None: those of the training
    images. `std_of`: by network, other deviations that it was published with. `train_images`, `test_images`: how many
    images it is known to have; 0: unknown.
    """

    classes: int
    side: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    flip: bool
    train_images: int
    places: Callable[["Dataset", Path, bool], list[Place]]  # all that are looked at, the best first
    torchvision: str | None = None  # the class that can download it
    other_way: str = ""  # another command that gets it
    std_of: dict[str, tuple[float, ...]] = field(default_factory=dict)
    title: str = ""
    test_images: int = 0
    presets: dict[str, object] = field(default_factory=dict)  # of training flags, instead of the network's


def of(config: dict) -> Dataset:
    """Return the facts of the dataset of a configuration, resolved or recorded.

    Those of a folder of one's own are in the configuration, so that a network can be restored without the folder.
    """
    if not is_own(config["dataset"]):
        return DATASETS[config["dataset"]]
    return Dataset(config["data_classes"], config["image_size"], None, None, True, 0, lambda *_: [])


def is_known(config: dict) -> bool:
    """Return whether a recorded configuration names a dataset and holds all that `of` needs."""
    name = config.get("dataset")
    if not (isinstance(name, str) and is_own(name)):
        return name in DATASETS
    return all(isinstance(config.get(key), int) for key in ("data_classes", "image_size"))


def folder_of(request: Configuration) -> Path:
    """Return the folder of the datasets: --data_dir, else $DATA_DIR, else data."""
    return Path(request.data_dir or system_files.variable("DATA_DIR") or "data")


def side_of(config: dict) -> int:
    """Return the rows (and columns) of the images that the network of a resolved configuration is given."""
    return config.get("image_size") or of(config).side


def other_classes(there: dict, here: dict, read: bool = True) -> str:
    """Return in words why a network trained on `there` does not classify the data of `here`; empty where it does.

    Where the data have not been `read`, names of classes may be unknown: then classes that may be the same are no
    reason.
    """
    same = there["dataset"] == here["dataset"]
    names = [config.get("data_names") for config in (there, here)]
    counts = [of(config).classes for config in (there, here)]
    if same and there["dataset"] == "imagenet":  # weights.classes.check_labels compares the meaning of the labels
        differ = False
    elif all(names):
        differ = names[0] != names[1] or counts[0] != counts[1]
    elif same:
        differ = counts[0] != counts[1]
    else:
        own = is_own(there["dataset"]) or is_own(here["dataset"])
        differ = read or not own or counts[0] != counts[1]
    if not differ:
        return ""
    listed = [
        f"{config['dataset']} ({count} classes{f': {name}' if all(names) and counts[0] == counts[1] else ''})"
        for config, count, name in zip((there, here), counts, names)
    ]
    return f"{listed[0]}, not {listed[1]}"


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
        places = dataset.places(dataset, data_dir, download)
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


def _digits(dataset: Dataset, data_dir: Path, download: bool) -> list[Place]:
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


def _cifar(name: str, archive: str, targets: str | None = None) -> Callable[[Dataset, Path, bool], list[Place]]:
    """Return a function that looks for torchvision's layout, a folder of images, and an archive of such a folder.

    Args: archive: the folder that torchvision unpacks; targets: the name of the labels in its files, where not the
    usual one.
    """

    def places(dataset: Dataset, data_dir: Path, download: bool) -> list[Place]:
        unpacked, folder, form = data_dir / archive, data_dir / name, Form(dataset.classes, dataset.side)
        packed = archives.find(data_dir, name)

        def read_unpacked(workers: int, keep: bool) -> Images:
            return read_torchvision(dataset.torchvision, data_dir, False, targets)

        def read_images(workers: int, keep: bool) -> Images:
            return read_folder(folder, form, workers)

        def read_packed(workers: int, keep: bool) -> Images:
            return read_tar(packed[0], form, workers, keep)

        return [
            (str(unpacked), Source(str(unpacked), read_unpacked) if unpacked.is_dir() else None),
            (f"{folder}/train/<class>/", Source(str(folder), read_images) if (folder / "train").is_dir() else None),
            (f"{folder}.tar[.xz|.gz|.bz2|.zst] or .zip", Source(str(packed[0]), read_packed) if packed else None),
        ]

    return places


def _fashionmnist(dataset: Dataset, data_dir: Path, download: bool) -> list[Place]:
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


def _imagenet(dataset: Dataset, data_dir: Path, download: bool) -> list[Place]:
    return [(f"{data_dir / 'imagenet'}/train/<wnid>/", None)]  # `find` has looked there


DATASETS = {
    "cifar10": Dataset(
        10, 32, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), True, 50_000, _cifar("cifar10", "cifar-10-batches-py"), "CIFAR10",
        std_of={"DARTS": (0.2470, 0.2435, 0.2616)}, title="CIFAR-10", test_images=10_000,
    ),
    "cifar100": Dataset(
        100, 32, (0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023), True, 50_000, _cifar("cifar100", "cifar-100-python"), "CIFAR100",
        title="CIFAR-100", test_images=10_000,
    ),
    "cifar100coarse": Dataset(  # CIFAR-100's images by its 20 superclasses
        20, 32, (0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023), True, 50_000,
        _cifar("cifar100coarse", "cifar-100-python", "coarse_labels"), "CIFAR100",
        ", images of the 100 classes do not tell the 20",
        title="CIFAR-100", test_images=10_000,
    ),
    "fashionmnist": Dataset(
        10, 32, (0.2860,) * 3, (0.3530,) * 3, True, 60_000, _fashionmnist, "FashionMNIST", ", so does apt-get install dataset-fashion-mnist",
        title="Fashion-MNIST", test_images=10_000,
    ),
    "digits": Dataset(
        10, 32, None, None, False, 1500, _digits, title="digits", test_images=297,
        presets=dict(batch_size=64, epochs=30, schedule="cosine"),
    ),
    "imagenet": Dataset(
        1000, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), True, 1_281_167, _imagenet,
        other_way="image-net.org gives it, --imagenet_loc names a folder or shards", title="ImageNet", test_images=50_000,
        presets=dict(cutout=0),
    ),
}  # fmt: skip
