"""The datasets: what is known of each, where it may lie, and how its images are read. Imports no torch.

    source = find("digits", Path("data"))         # RequestError where the dataset is not there
    images = source.read(4)                       # images.train: (1500, 32, 32, 3) uint8
    of(config).classes                            # of the dataset of a run's configuration

A dataset is one entry of DATASETS, or a folder of one's own (folders.py). They end as whole arrays of bytes in memory, of which data.py makes batches, or, imagenet,
as an index of files, of which photos/ does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from input import archives
from input.arrays import Form, Images, read_folder, read_idx, read_tar, read_torchvision
from input.folders import is_own, look
from input.folders import read as read_own
from input.image_files import shown
from input.photos.index import Photographs, PhotoIndex
from input.photos.labels import of_imagenet
from input.photos.patterns import FORM, find_shards, is_pattern
from system import files as system_files
from system.configuration import Configuration
from system.errors import MachineFault, RequestError, first_line

ANNOTATIONS = "val_annotations.txt"  # of Tiny ImageNet, beside val/images/


@dataclass(frozen=True)
class Source:
    """A place where a dataset was found, and what reads it with (workers, keep)."""

    where: str
    reader: Callable[[int, bool], Images | Photographs]

    def read(self, workers: int, keep: bool = True) -> Images | Photographs:
        """The expensive part; `keep` allows it to write a cache of what it decoded, or of what it found. MachineFault on
        damage, RequestError where a folder of photographs is not laid out as it has to be."""
        return self.reader(workers, keep)


@dataclass(frozen=True)
class Dataset:
    """Facts of a dataset. `mean` and `std` are per channel, of pixels in 0..1; None stands for the training set's own.
    `std_of` are deviations that a network was published with, where they differ. `train_images` and `test_images` are how
    many it is known to have, 0 where nobody knows."""

    classes: int
    side: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    flip: bool
    train_images: int
    places: Callable[["Dataset", Path, bool], list[tuple[str, Source | None]]]  # all that are looked at, best first
    torchvision: str | None = None  # the class that can download it
    other_way: str = ""  # another command that gets it
    std_of: dict[str, tuple[float, ...]] = field(default_factory=dict)
    title: str = ""
    test_images: int = 0
    presets: dict[str, object] = field(default_factory=dict)  # of training flags, instead of the network's


def of(config: dict) -> Dataset:
    """Facts of the dataset of a configuration, resolved or recorded. Of a folder of one's own it tells them itself, so that a
    network can be restored without the folder."""
    if not is_own(config["dataset"]):
        return DATASETS[config["dataset"]]
    return Dataset(config["data_classes"], config["image_size"], None, None, True, 0, lambda *_: [])


def is_known(config: dict) -> bool:
    """Whether a recorded configuration names a dataset, with all that `of` needs."""
    name = config.get("dataset")
    if not (isinstance(name, str) and is_own(name)):
        return name in DATASETS
    return all(isinstance(config.get(key), int) for key in ("data_classes", "image_size"))


def folder_of(request) -> Path:
    """Where a command line says that datasets lie: --data_dir, else $DATA_DIR, else data."""
    return Path(request.data_dir or system_files.variable("DATA_DIR") or "data")


def side_of(config: dict) -> int:
    """Rows and columns of the images that a resolved configuration's network is given."""
    return config.get("image_size") or of(config).side


def other_classes(there: dict, here: dict, read: bool = True) -> str:
    """Why a network trained on the data of one configuration does not classify those of another, in words. Empty where the
    classes are the same, or, before the data have been `read`, may be."""
    same = there["dataset"] == here["dataset"]
    names = [config.get("data_names") for config in (there, here)]
    counts = [of(config).classes for config in (there, here)]
    if same and there["dataset"] == "imagenet":  # lineage.check_labels compares what labels mean
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
    """The first place that holds the dataset; with `download`, torchvision's if there is none. Reads nothing yet.

    imagenet_loc: of imagenet, the folder or the pattern of shards; default: the folder imagenet in `data_dir`. `only_test`: a
    folder need not have train/, if it is known which of all classes those of val/ are. `val_labels`: a list of their labels.
    """
    dataset = DATASETS[name]
    if name == "imagenet" and (imagenet_loc is not None or (data_dir / "imagenet").is_dir()):
        return _photographs(str(data_dir / "imagenet") if imagenet_loc is None else imagenet_loc, only_test, val_labels)
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
    """The folder of one's own that a request names."""
    own = look(request.data_folder, of_any_side=True)  # options.py has looked at the side; a test takes its network's

    def read(workers: int, keep: bool) -> Images:
        return read_own(own, request.image_size, request.data_resize, workers, keep)

    return Source(f"{shown(str(own.path))} ({own.test}/ for testing)", read)


def _downloaded(name: str, data_dir: Path, keep: bool) -> Images:
    if not keep:
        raise RequestError(f"{name} is not there yet, and is not downloaded for a dry run")
    read_torchvision(DATASETS[name].torchvision, data_dir, download=True)
    return find(name, data_dir).read(1)


def _digits(dataset: Dataset, data_dir: Path, download: bool) -> list[tuple[str, Source | None]]:
    """The 8×8 digits that scikit-learn ships, enlarged to 32×32; the last 297 are for testing."""

    def read(workers: int, keep: bool) -> Images:
        from PIL import Image
        from sklearn.datasets import load_digits

        bunch = load_digits()
        grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
        large = np.stack([Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR) for image in grey])
        images, labels = np.repeat(large[..., None], 3, axis=-1), bunch.target.astype(np.int64)
        return Images(images[:-297], labels[:-297], images[-297:], labels[-297:], (), tuple("0123456789"))

    return [("scikit-learn", Source("scikit-learn's digits", read))]


def _cifar(
    name: str, archive: str, targets: str | None = None
) -> Callable[[Dataset, Path, bool], list[tuple[str, Source | None]]]:  # fmt: skip
    """torchvision's layout (with its labels called `targets`), else a folder of images, else an archive of such a folder."""

    def places(dataset: Dataset, data_dir: Path, download: bool) -> list[tuple[str, Source | None]]:
        unpacked, folder, form = data_dir / archive, data_dir / name, Form(dataset.classes, dataset.side)
        packed = archives.find(data_dir, name)
        return [
            (str(unpacked), Source(str(unpacked), lambda w, keep: read_torchvision(dataset.torchvision, data_dir, False, targets)) if unpacked.is_dir() else None),
            (f"{folder}/train/<class>/", Source(str(folder), lambda w, keep: read_folder(folder, form, w)) if (folder / "train").is_dir() else None),
            (f"{folder}.tar[.xz|.gz|.bz2|.zst] or .zip", Source(str(packed[0]), lambda w, keep: read_tar(packed[0], form, w, keep)) if packed else None),
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

        def read(workers: int, keep: bool) -> Images:
            train, train_labels, test, test_labels = (read_idx(path) for path in files)
            for images, labels, path in ((train, train_labels, files[0]), (test, test_labels, files[2])):
                fits = images.shape[1:] == (28, 28) and labels.shape == images.shape[:1] and len(labels)
                if not fits or labels.max() > 9:
                    raise MachineFault(
                        f"{path}: {images.shape} images with {labels.shape} labels, not 28×28 of 10 classes"
                    )
            coloured = [np.repeat(np.pad(x, ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=-1) for x in (train, test)]
            return Images(coloured[0], train_labels.astype(np.int64), coloured[1], test_labels.astype(np.int64))

        return Source(str(folder), read)

    folders = [data_dir / "FashionMNIST" / "raw", data_dir / "fashionmnist", Path("/usr/share/datasets/fashion-mnist")]
    return [(str(folder), source(folder)) for folder in folders]


def _imagenet(dataset: Dataset, data_dir: Path, download: bool) -> list[tuple[str, Source | None]]:
    return [(f"{data_dir / 'imagenet'}/train/<wnid>/", None)]  # find has looked there


def _photographs(place: str, only_test: bool = False, val_labels: str | None = None) -> Source:
    """A folder with train/ and val/, or shards. RequestError where it is neither."""
    if is_pattern(place):
        if val_labels is not None:
            raise RequestError(f"--val_labels {val_labels} goes with a folder of images, shards hold their labels")
        shards = {split: find_shards(place, split) for split in ("train", "val")}
        counts = " and ".join(f"{len(paths):,} {split}" for split, paths in shards.items())
        return Source(f"{place} ({counts} shards)", lambda workers, keep: _read_shards(shards, keep))
    folder = Path(place).expanduser()
    try:
        if not folder.is_dir():
            what = "is a file" if folder.is_file() else "is not there"
            needed = f"it has to be a folder with train/ and val/, or a pattern of shards such as {FORM}"
            raise RequestError(f"--imagenet_loc {place!r} {what}: {needed}; image-net.org gives the images")
        for split in ("train", "val"):
            if not (folder / split).is_dir() and not (only_test and split == "train"):
                has = ", ".join(sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))[:5])
                raise RequestError(
                    f"imagenet in {place} has no folder {split}/ (there are: {has or 'no files'}); the layout is "
                    f"{split}/<wnid>/x.JPEG, image-net.org gives the images"
                )
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise error if isinstance(error, RequestError) else RequestError(
            f"--imagenet_loc {place!r} cannot be looked into: {first_line(error)}"
        )  # fmt: skip
    return Source(place, lambda workers, keep: _read_trees(folder, keep, val_labels))


def _read_trees(folder: Path, keep: bool, val_labels: str | None) -> Photographs:
    from input.photos.tree import read_tree

    if not (folder / "train").is_dir():
        alone, classes = _read_val(folder / "val", None, keep, val_labels), DATASETS["imagenet"].classes
        if alone.labelled == "alphabet" and len(alone.classes) != classes:
            there = f"val/ has {len(alone.classes)} classes"
            raise RequestError(
                f"{folder} has no train/, and {there}, {alone.labelling.odd!r} for one: which of {classes} they are, nothing tells"
            )
        return Photographs(alone, alone)
    _check_val(folder / "val", val_labels)
    train = read_tree(folder / "train", None, keep, of_imagenet)
    return Photographs(train, _read_val(folder / "val", train, keep, val_labels))


def _check_val(val: Path, val_labels: str | None) -> None:
    """RequestError where the images of val/ cannot be labelled, as far as that is seen before train/ has been scanned."""
    from input.photos.lists import parse
    from input.photos.scan import folders_in
    from input.photos.tree import read_tree

    try:
        if val_labels is not None:
            parse(Path(val_labels))
        elif not folders_in(val)[0] and not (val / ANNOTATIONS).is_file():
            read_tree(val, None, keep=False)  # which says what is there instead
    except OSError as error:
        raise MachineFault(f"{error.filename or val} cannot be read: {first_line(error)}")


def _read_val(val: Path, train: PhotoIndex | None, keep: bool, val_labels: str | None) -> PhotoIndex:
    """Class folders, or images in no class folders whose labels are in a list: a person's, or Tiny ImageNet's own."""
    from input.photos.lists import of_list
    from input.photos.scan import folders_in
    from input.photos.tree import read_flat, read_tree

    classes, labelling = (None, None) if train is None else (train.classes, train.labelling)
    try:
        folders = set(folders_in(val)[0]) - {"images"}
    except OSError as error:
        raise MachineFault(f"{error.filename or val} cannot be read: {first_line(error)}")
    if val_labels is not None:
        if folders:
            raise RequestError(
                f"--val_labels {val_labels}: {val}/ has folders, {min(folders)}/ for one, which label its images"
            )
        return read_flat(val, of_list(Path(val_labels), labelling), keep)
    if not folders and (val / ANNOTATIONS).is_file():
        return read_flat(val, of_list(val / ANNOTATIONS, labelling, complete=False), keep)
    return read_tree(val, classes, keep, of_imagenet)


def _read_shards(shards: dict[str, list[Path]], keep: bool) -> Photographs:
    from input.photos.shards import read_shards

    train = read_shards(shards["train"], None, keep, of_imagenet)
    return Photographs(train, read_shards(shards["val"], train.classes, keep, of_imagenet))


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
