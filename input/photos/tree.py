"""An index of a folder of images, `<folder>/<class>/*.JPEG`: 1.28 million files are scanned once.

    train = read_tree(Path("imagenet/train"))
    val = read_tree(Path("imagenet/val"), classes=train.classes)
    train.labels[0], train.name(0), len(train.read(0)), train.passed

Images are ordered by class and by name within it; those in folders within a class folder belong to the class too. The
index is kept (input/cache.py) with the folders' times of change: only folders that changed are scanned again. So a file
that is written over in its place keeps the size that it had. Imports no torch.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from input.image_files import Passed, contents, is_image
from input.photos.index import MOST_CLASSES, Packed, digest
from input.photos.labels import Labels, alphabetical
from input.photos.scan import Found, folders_in, scan
from system.errors import MachineFault, RequestError, first_line

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 1 << 28  # bytes of an encoded photograph


class Tree:
    """A PhotoIndex of the files that were found; `labels` of each, where its class folder does not tell it."""

    def __init__(
        self, root: Path, found: Found, classes: Sequence[str], labelling: Labels, labels: np.ndarray | None = None
    ):
        self.root, self.folders, self.names, self.sizes = root, found.folders, found.names, found.sizes
        self.ends, self.passed = found.counts.cumsum(), found.passed
        self.classes, self.labelling = list(classes), labelling
        if labels is None:
            labels = np.repeat(np.array([labelling.number[each] for each in found.folders], np.int64), found.counts)
        self.labels = labels

    @property
    def labelled(self) -> str:
        """How the images are labelled, as in Labels."""
        return self.labelling.how

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, number: int) -> str:
        """Return the path of an image."""
        folder = self.folders[int(np.searchsorted(self.ends, number, "right"))]
        return f"{self.root}/{folder}/{self.names[number]}"

    def read(self, number: int) -> bytes:
        """Return the encoded image. Raise OSError where it cannot be read."""
        return contents(self.name(number), LARGEST, "photograph")

    def order(self, seed: int, epoch: int) -> "Tensor":
        """Return an epoch's order: a permutation of all numbers."""
        from system.hashing import key, permutation

        return permutation(len(self), key(seed, epoch, "order"))

    def fingerprint(self) -> str:
        """Return a SHA-256 of the images' names below the root, sizes, labels and classes, wherever they lie."""
        return digest([self.names, Packed.of(self.folders)], [self.ends, self.sizes, self.labels], self.classes)


def read_tree(
    root: Path, classes: Sequence[str] | None = None, keep: bool = True, label: Callable[[Sequence[str]], Labels] = alphabetical
) -> Tree:  # fmt: skip
    """Return the index of the images in class folders of `root`.

    Args: classes: the allowed classes, None: its own folders; keep: whether the index may be written to a cache; label:
    what makes labels of the classes. Raises RequestError where the folder has another layout, MachineFault where it
    cannot be read.
    """
    try:
        folders, beside = folders_in(root)
        _check(root, folders, classes)
        found = scan(root, folders, root, keep)
        loose = [] if folders else _loose(root)
    except OSError as error:
        raise MachineFault(f"{error.filename or root} cannot be read: {first_line(error)}")
    if not len(found.names):
        unsorted = f"; {len(loose):,} images lie in it unsorted, each has to be in the folder of its class" * bool(
            loose
        )
        unsorted += ", or --val_labels has to list their classes" * (bool(loose) and root.name == "val")
        raise RequestError(f"{root}/ holds no images in class folders, as in {root}/n01440764/x.JPEG{unsorted}")
    if classes is None and not found.counts.all():
        raise RequestError(f"{root}/{folders[int(found.counts.argmin())]}/ holds no images{_instead(found.passed)}")
    classes = folders if classes is None else classes
    return Tree(root, found._replace(passed=beside.joined(found.passed)), classes, label(classes))


def read_flat(
    root: Path, label: Callable[[Sequence[str]], tuple[np.ndarray, Labels]], keep: bool = True
) -> Tree:  # fmt: skip
    """Return the index of the images that lie below `root` in no class folders, ordered by name.

    Args: label: what gives the labels (N,) of images of these names, below 0 for one without a label, which is passed
    over. Raises RequestError where there are no images, MachineFault where the folder cannot be read.
    """
    try:
        found = scan(root.parent, [root.name], root, keep)
    except OSError as error:
        raise MachineFault(f"{error.filename or root} cannot be read: {first_line(error)}")
    names = [found.names[number] for number in range(len(found.names))]
    if not names:
        raise RequestError(f"{root}/ holds no images{_instead(found.passed)}")
    labels, labelling = label(names)
    passed, kept = found.passed, np.flatnonzero(labels >= 0)
    if len(kept) < len(names):
        passed = Passed(len(names) - len(kept), names[int(np.argmin(labels))], "it has no label").joined(passed)
        names = [names[number] for number in kept]
        found = found._replace(
            counts=np.array([len(kept)], np.int64), names=Packed.of(names), sizes=found.sizes[kept], passed=passed
        )
    return Tree(root.parent, found, list(labelling.number), labelling, labels[kept])


def _loose(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if is_image(entry.name) and not entry.is_dir()]


def _instead(passed: Passed) -> str:
    return f" ({passed.first} is none)" if passed.count else ""


def _check(root: Path, folders: list[str], classes: Sequence[str] | None) -> None:
    """Raise RequestError where the folders are not those of a dataset."""
    if len(folders) > MOST_CLASSES:
        raise RequestError(f"{root}/ has {len(folders):,} class folders, at most {MOST_CLASSES:,} are allowed")
    if classes is not None and (odd := sorted(set(folders) - set(classes))):
        raise RequestError(f"{root}/ has the class {odd[0]!r}, which is none of the {len(classes)} to train on")
