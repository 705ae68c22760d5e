"""The datasets: what is known of each, and which function looks for it and reads it.

    DATASETS["digits"].train_images               # 1500
    of(config).classes                            # of the dataset of a run's configuration

A dataset is one entry of DATASETS, or a folder of one's own (input/folders.py). places.py finds and reads both. Imports
neither torch nor NumPy: the command line is checked by these facts alone.
"""

from dataclasses import dataclass, field
from pathlib import Path

from system import files as system_files
from system.configuration import Configuration

PREFIX = "folder:"  # of the name of a dataset of one's own
LARGEST_SIDE = 96  # pixels of its images: all of them are kept in memory


def is_own(dataset: str) -> bool:
    """Return whether a dataset's name is that of a folder."""
    return dataset.startswith(PREFIX)


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
    places: str = ""  # "module:function", which says where it may lie (places.py)
    torchvision: str | None = None  # the class that can download it
    other_way: str = ""  # another command that gets it
    archive: str = ""  # the folder that torchvision unpacks
    targets: str | None = None  # the labels in its files, where not the usual ones
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
    return Dataset(config["data_classes"], config["image_size"], None, None, True, 0)


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


DATASETS = {
    "cifar10": Dataset(
        10, 32, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), True, 50_000, "input.places:cifar", "CIFAR10",
        archive="cifar-10-batches-py",
        std_of={"DARTS": (0.2470, 0.2435, 0.2616)}, title="CIFAR-10", test_images=10_000,
    ),
    "cifar100": Dataset(
        100, 32, (0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023), True, 50_000, "input.places:cifar", "CIFAR100",
        archive="cifar-100-python",
        title="CIFAR-100", test_images=10_000,
    ),
    "cifar100coarse": Dataset(  # CIFAR-100's images by its 20 superclasses
        20, 32, (0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023), True, 50_000,
        "input.places:cifar", "CIFAR100", ", images of the 100 classes do not tell the 20",
        archive="cifar-100-python", targets="coarse_labels", title="CIFAR-100", test_images=10_000,
    ),
    "fashionmnist": Dataset(
        10, 32, (0.2860,) * 3, (0.3530,) * 3, True, 60_000, "input.places:fashionmnist", "FashionMNIST", ", so does apt-get install dataset-fashion-mnist",
        title="Fashion-MNIST", test_images=10_000,
    ),
    "digits": Dataset(
        10, 32, None, None, False, 1500, "input.places:digits", title="digits", test_images=297,
        presets=dict(batch_size=64, epochs=30, schedule="cosine"),
    ),
    "imagenet": Dataset(
        1000, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), True, 1_281_167, "input.places:imagenet",
        other_way="image-net.org gives it, --imagenet_loc names a folder or shards", title="ImageNet", test_images=50_000,
        presets=dict(cutout=0, image_size=224),
    ),
}  # fmt: skip
