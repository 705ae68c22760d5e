"""Where the photographs of imagenet lie: a folder with train/ and val/, or tar shards.

    source = photographs("/data/imagenet")                                   # RequestError where it is neither
    source = photographs("/data/imagenet-{train,val}-{0000..0127}.tar")
    source.read(4).train.labels                                              # (1281167,) int64

Imports no torch.
"""

from functools import partial
from pathlib import Path

from input.photos.index import Photographs, PhotoIndex
from input.photos.labels import COUNT, of_imagenet
from input.photos.lists import of_list, parse
from input.photos.patterns import FORM, find_shards, is_pattern
from input.photos.scan import folders_in
from input.photos.shards import read_shards
from input.photos.tree import read_flat, read_tree
from input.source import Source
from system.errors import MachineFault, RequestError, first_line

ANNOTATIONS = "val_annotations.txt"  # of Tiny ImageNet, beside val/images/


def photographs(place: str, only_test: bool = False, val_labels: str | None = None) -> Source:
    """Return the source for a folder or a pattern of shards, without reading images.

    Args: only_test: whether train/ may be missing; val_labels: the path of a list of the labels of val/.
    Raises RequestError where `place` is neither, or has another layout.
    """
    if is_pattern(place):
        if val_labels is not None:
            raise RequestError(f"--val_labels {val_labels} goes with a folder of images, shards hold their labels")
        shards = {split: find_shards(place, split) for split in ("train", "val")}
        counts = " and ".join(f"{len(paths):,} {split}" for split, paths in shards.items())
        return Source(f"{place} ({counts} shards)", lambda workers, keep: _read_shards(shards, keep))
    folder = Path(place).expanduser()
    try:
        _check_layout(place, folder, only_test)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise error if isinstance(error, RequestError) else RequestError(
            f"--imagenet_loc {place!r} cannot be looked into: {first_line(error)}"
        )  # fmt: skip
    return Source(place, lambda workers, keep: _read_trees(folder, keep, val_labels))


def _check_layout(place: str, folder: Path, only_test: bool) -> None:
    """Raise RequestError where a folder is missing, or has no val/, or no train/ although it is needed."""
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


def _read_trees(folder: Path, keep: bool, val_labels: str | None) -> Photographs:
    """Return the indices of train/ and val/; where there is no train/, val/ takes its place."""
    if not (folder / "train").is_dir():
        alone = _read_val(folder / "val", None, keep, val_labels)
        if alone.labelled == "alphabet" and len(alone.classes) != COUNT:
            there = f"val/ has {len(alone.classes)} classes"
            raise RequestError(
                f"{folder} has no train/, and {there}, {alone.labelling.odd!r} for one: nothing says which of the {COUNT} they are"
            )
        return Photographs(alone, alone)
    _check_val(folder / "val", val_labels)
    train = read_tree(folder / "train", None, keep, of_imagenet)
    return Photographs(train, _read_val(folder / "val", train, keep, val_labels))


def _check_val(val: Path, val_labels: str | None) -> None:
    """Raise RequestError where the images of val/ cannot be labelled.

    This comes before train/ is scanned, which takes minutes, so it sees only what the list and the folders of val/
    show.
    """
    try:
        if val_labels is not None:
            parse(Path(val_labels))
        elif not folders_in(val)[0] and not (val / ANNOTATIONS).is_file():
            read_tree(val, None, keep=False)  # raises, and says what lies there instead
    except OSError as error:
        raise MachineFault(f"{error.filename or val} cannot be read: {first_line(error)}")


def _read_val(val: Path, train: PhotoIndex | None, keep: bool, val_labels: str | None) -> PhotoIndex:
    """Return the index of val/: class folders, or loose images with a list, of --val_labels or Tiny ImageNet's own."""
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
    read = partial(read_shards, keep=keep, label=of_imagenet)
    train = read(shards["train"])
    return Photographs(train, read(shards["val"], train.classes))
