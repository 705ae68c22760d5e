"""What lies in one shard: its images with their labels, read from the headers alone.

    members = read_members(Path("imagenet-train-000.tar"), size=1_073_741_824)
    members.keys[0], members.offsets[0], members.sizes[0], members.labels[0]

Imports no torch.
"""

import tarfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from input.archives import Guard, StrictTarInfo, check_end, of_tar
from input.image_files import Passed, is_aside, is_image, suffix
from input.photos.index import MOST_CLASSES, Packed
from system.errors import MachineFault, first_line

LONGEST_LABEL = 32  # bytes of a .cls


class Members(NamedTuple):
    """The images of one shard, read from its headers: keys, byte offsets, sizes, labels, and files passed over.

    A label below 0 stands for a folder: −1 for the first of `folders`, −2 for the second.
    """

    keys: Packed
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    folders: Packed
    passed: Passed


class Image(NamedTuple):
    """A member that is an image: its name, the name without suffix, the byte where it begins, and its size."""

    name: str
    key: str
    offset: int
    size: int


def read_members(path: Path, size: int) -> Members:
    """Return the images in a shard of `size` bytes. Raise MachineFault where it is damaged, or a member is refused."""
    try:
        with tarfile.open(path, "r:", tarinfo=StrictTarInfo) as tar:
            images, labels, others = _sorted_out(tar, path, size)
            check_end(tar)
    except (tarfile.TarError, ValueError) as error:  # ValueError: a header with wrong fields
        raise MachineFault(f"{path} cannot be read as a plain tar: {first_line(error)}")
    images, fields = _apart(images, labels)
    folders: dict[str, int] = {}
    numbers = [_label(path, image.key, labels, folders) for image in images]
    places = np.array([(image.offset, image.size) for image in images], np.int64).reshape(-1, 2)
    return Members(
        Packed.of(image.key for image in images), places[:, 0], places[:, 1], np.array(numbers, np.int64), Packed.of(folders),
        _passed(images, labels, others, fields),
    )  # fmt: skip


def _sorted_out(tar: tarfile.TarFile, path: Path, size: int) -> tuple[list[Image], dict[str, bytes], list[str]]:
    """Return the images, the contents of each .cls by its key, and the names of other files."""
    images: dict[str, Image] = {}
    labels: dict[str, bytes] = {}
    others, guard = [], Guard(path, size=size)
    for entry in tar:
        member = of_tar(tar, entry)
        if member.is_folder or ".." not in member.parts and is_aside(member.parts):
            continue
        guard.check(member)
        name = str(PurePosixPath(*member.parts))
        key = name.rpartition(".")[0]
        if suffix(member.parts[-1]) == "cls":
            labels[key] = tar.extractfile(entry).read(LONGEST_LABEL)
        elif not is_image(member.parts[-1]):
            others.append(name)
        elif key in images:
            raise MachineFault(f"{path}: {key!r} has 2 images, one is allowed")
        else:
            images[key] = Image(name, key, entry.offset_data, entry.size)
    return list(images.values()), labels, others


def sample(name: str) -> str:
    """Return the key of webdataset's sample that a file belongs to: its path up to the first dot of the file's name."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def _apart(images: list[Image], labels: dict[str, bytes]) -> tuple[list[Image], list[str]]:
    """Return the images without those that are another field of a sample, and the names of those.

    Such a field is x.seg.png where x.cls labels x.jpg.
    """
    keys = {image.key for image in images}
    fields = [
        image for image in images
        if image.key not in labels and (of := sample(image.key)) != image.key and of in keys and of in labels
    ]  # fmt: skip
    return [image for image in images if image not in fields] if fields else images, [image.name for image in fields]


def _label(path: Path, key: str, labels: dict[str, bytes], folders: dict[str, int]) -> int:
    """Return an image's label, or the number of its folder among `folders` as Members counts them."""
    of = key if key in labels else sample(key)
    text = labels.get(of)
    if text is None:
        folder = str(PurePosixPath(key).parent)
        if folder == ".":
            raise MachineFault(f"{path}: {key!r} has no label: neither a .cls nor a folder")
        return folders.setdefault(folder, -1 - len(folders))
    if not text.strip().isdigit() or int(text) >= MOST_CLASSES:
        raise MachineFault(f"{path}: {of}.cls holds {text!r}, not a label from 0 to {MOST_CLASSES - 1}")
    return int(text)


def _passed(images: list[Image], labels: dict[str, bytes], others: list[str], fields: list[str]) -> Passed:
    """Return the files that no image belongs to. Of the files of one sample without an image, one counts."""
    used = {image.key if image.key in labels else sample(image.key) for image in images}
    samples = {sample(image.key) for image in images}
    missed = {sample(name): name for name in reversed(others) if sample(name) not in samples}
    lone = {key: f"{key}.cls" for key in labels if key not in used and sample(key) not in missed}
    names = [*missed.values(), *lone.values(), *fields]
    return Passed(len(names), min(names, default=""))
