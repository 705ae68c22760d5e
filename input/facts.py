"""The facts of a run's data: how many images of which classes, and digests of them.

    facts = of_images(images)               # {"data_digest": "7f83…", "data_classes": 10, "data_train": 50000, ...}
    differences(before, now)        # ["3,000 training images then, 1,000 now", "other training images by digest"]

They are keys of a run's configuration. A digest is of the bytes and labels in the dataset's own order, on which every
draw depends; for photographs it is of their names, sizes and labels. Records of earlier versions lack these keys: a
fact that one side lacks is no difference. Imports
neither torch nor NumPy.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from input.arrays import Images
    from input.photos.index import Photographs

COUNTS = {"data_classes": "classes", "data_train": "training images", "data_test": "test images"}
KEYS = ("data_digest", "data_test_digest", *COUNTS, "data_names")
LONGEST_NAMES = 200  # characters of all names of classes together; longer ones are shortened
SHORTENED = re.compile(r"/…/.{0,40} \(SHA-256 [0-9a-f]{16}\)\Z", re.DOTALL)  # the end of those
CHUNK = 4096  # images that are hashed at a time


def of_images(images: "Images") -> dict:
    """Return the facts of arrays in memory. To hash 60,000 images of 32×32 takes an eighth of a second."""
    train = images.train_digest or array_digest(images.train, images.train_labels)
    test = images.test_digest or array_digest(images.test, images.test_labels)
    classes = len(images.classes) or 1 + int(images.train_labels.max())
    return _facts(train, test, classes, images.classes, len(images.train), len(images.test))


def of_photographs(photographs: "Photographs") -> dict:
    """Return the facts of indices of files."""
    train, test = photographs.train, photographs.val
    classes = len(train.classes) or 1 + int(train.labels.max())
    return _facts(train.fingerprint(), test.fingerprint(), classes, train.classes, len(train), len(test))


def _facts(train: str, test: str, classes: int, names: Sequence[str], trains: int, tests: int) -> dict:
    whole = hashlib.sha256(f"{train} {test}".encode()).hexdigest()
    return {
        "data_digest": whole[:16],
        "data_test_digest": test[:16],
        "data_classes": classes,
        "data_names": joined(names),
        "data_train": trains,
        "data_test": tests,
    }


def array_digest(images: "np.ndarray", labels: "np.ndarray") -> str:
    """Return the SHA-256 of a split's shape, bytes and labels, as hexadecimal digits."""
    sha256 = hashlib.sha256(repr(images.shape).encode())
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        sha256.update(chunk if chunk.flags.c_contiguous else chunk.tobytes())
    sha256.update(labels.astype("<i8").tobytes())
    return sha256.hexdigest()


def joined(names: Iterable[str]) -> str:
    """Return the names of classes as one text, `cat/dog`, which is equal for equal names.

    Of many names it holds the first, the last and a digest of all.
    """
    names = [name.encode("utf-8", "backslashreplace").decode() for name in names]
    text = "/".join(names)
    if len(text) <= LONGEST_NAMES:
        return text
    return f"{names[0][:40]}/…/{names[-1][:40]} (SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"


def split(text: str) -> list[str] | None:
    """Return the names of classes of which `joined` made a text; None of one that it has shortened, and of no text."""
    return None if not text or SHORTENED.search(text) else text.split("/")


def differences(before: dict, now: dict, words: tuple[str, str] = ("then", "now")) -> list[str]:
    """Return in words how the data of two configurations differ, in the facts that both have.

    Args: words: what the first and the second configuration are called.
    """

    def apart(key: str) -> bool:
        return all(each.get(key) for each in (before, now)) and before[key] != now[key]

    then, here = words
    different = [
        f"{before[key]:,} {what} {then}, {now[key]:,} {here}"
        for key, what in COUNTS.items()
        if before.get(key) is not None and now.get(key) is not None and before[key] != now[key]
    ]
    if apart("data_names"):
        different.append(f"classes {before['data_names']} {then}, {now['data_names']} {here}")
    if apart("data_digest"):
        which = "images" if apart("data_test_digest") else "training images"
        different.append(f"other {which} by digest")
    return different


def of_run(config: dict) -> dict:
    """Return the facts in a recorded configuration, with the dataset, `train_size` and `val_size`."""
    keys = ("dataset", *KEYS, "train_size", "val_size")
    return {key: config.get(key) for key in keys}


def used(config: dict) -> int | None:
    """Return how many images a run trains on; None where its record does not say."""
    if config.get("data_train") is None:
        return None
    return config.get("train_size") or config["data_train"] - (config.get("val_size") or 0)


def of_other_data(there: dict, here: dict) -> str:
    """Return in words how the data of a trained network differ from those here; empty where no difference is known."""
    return "; ".join(differences(there, here, ("there", "here")))


def classes(config: dict) -> str:
    """Return `3 classes (ash, elm, oak)`: the number, and the names where they are short."""
    names = config.get("data_names") or ""
    shown = f" ({', '.join(names.split('/'))})" if names and len(names) <= 60 else ""
    return f"{config['data_classes']:,} classes{shown}"


def shown(config: dict, title: str, usual: tuple[int, int]) -> str:
    """Return `3,000 of CIFAR-10's 50,000 training images, 10,000 test images`.

    Args: title: the dataset's name for a person; usual: the numbers of training and test images that the dataset is
    known to have, 0 where that is not known.
    """
    parts = []
    for there, count, usually, what in (
        (config["data_train"], used(config), usual[0], "training images"),
        (config["data_test"], config["data_test"], usual[1], "test images"),
    ):
        whole = max(there, usually)
        whose = f"{title}'{'' if title.endswith('s') else 's'}" if usually and there <= usually else "its"
        text = f"{count:,} {what}" if count == whole else f"{count:,} of {whose} {whole:,} {what}"
        parts.append(text if not usually or there <= usually else f"{text} ({title} has {usually:,})")
    if config.get("val_size"):
        parts.insert(1, f"{config['val_size']:,} held out")
    return ", ".join(parts)
