"""Labels of photographs in one folder, from a list: Tiny ImageNet's annotations, ILSVRC's solutions and ground truth.

    label = of_list(Path("LOC_val_solution.csv"), train.labelling)       # reads and checks the list
    labels, labelling = label(["ILSVRC2012_val_00000001.JPEG", ...])  # RequestError where one is not in the list

A line is `name wnid`, `name<TAB>wnid…` or `name,wnid…` (a name with or without its suffix), in any order; or a number
or a wnid alone, one for each image in the order of their names. Torchvision's meta.bin holds such wnids. Numbers count
the 1000 classes from 0 in the order of their wnids; those of the devkit of ILSVRC 2012 count from 1 in another order,
which its meta.mat holds. Imports no torch.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distributed.launch import rank
from input.image_files import shown
from input.photos.labels import COUNT, TRUE, Labels, is_number, of_imagenet, wnids
from system.errors import RequestError, did_you_mean, first_line

LARGEST = 1 << 26  # bytes of a list
HEADERS = (
    "imageid",
    "image",
    "image_id",
    "filename",
    "file",
    "name",
    "id",
)  # what the first line of a table may begin with
Labeller = Callable[[Sequence[str]], tuple[np.ndarray, Labels]]


class Line(NamedTuple):
    """A line of a list: its number, the name of an image (None: the next one) and its class, by name or number."""

    number: int
    image: str | None
    label: str


def of_list(path: Path, train: Labels | None, complete: bool = True) -> Labeller:
    """Return a function from names of images to labels (N,) int64, −1 where the list has none, and their meaning.

    Args: train: the labels of the training classes; None: those of the list itself; complete: whether the list has to
    name every image. Raises RequestError where a line cannot be read, or names a class that is not trained on.
    """
    where = shown(str(path))
    lines = parse(path)
    if len({line.image is None for line in lines}) > 1:
        odd = next(line for line in lines if (line.image is None) != (lines[0].image is None))
        raise _refuse(where, odd, "it is not of the kind of the first line")
    if lines[0].image is None:
        numbers = {line.label.isdigit() for line in lines}
        if len(numbers) > 1:
            odd = next(line for line in lines if line.label.isdigit() != lines[0].label.isdigit())
            raise _refuse(where, odd, "it is not of the kind of the first line")
        lines, complete = (_by_wnid(path, lines) if numbers == {True} else lines), True
    labelling = train or _own(lines)
    labels = [_label(where, line, labelling) for line in lines]

    def label(names: Sequence[str]) -> tuple[np.ndarray, Labels]:
        if complete and len(lines) != len(names):
            raise RequestError(f"{where} labels {len(lines):,} images, but there are {len(names):,}")
        if lines[0].image is None and len({name.rpartition("/")[0] for name in names}) > 1:
            raise RequestError(
                f"{where} holds numbers alone, but the images lie in several folders: give lines of `name wnid`"
            )
        found = np.full(len(names), -1, np.int64)
        places = _places(names) if lines[0].image is not None else None
        for order, (line, number) in enumerate(zip(lines, labels)):
            place = order if places is None else _find(places, line.image)
            if place is None or place < 0:
                why = "several images have this name" if place is not None else "there is no such image"
                raise _refuse(where, line, f"{line.image!r}: {why}")
            if found[place] >= 0:
                raise _refuse(where, line, f"{line.image!r} was labelled before")
            found[place] = number
        return found, labelling

    return label


def _refuse(where: str, line: Line, why: str) -> RequestError:
    return RequestError(f"{where}, line {line.number}: {why}")


def parse(path: Path) -> list[Line]:
    """Return the lines of a list. Raise RequestError where one cannot be read."""
    try:
        if not path.is_file():
            raise RequestError(f"the list of labels {str(path)!r} is {'no file' if path.exists() else 'not there'}")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise error if isinstance(error, RequestError) else RequestError(f"{path} cannot be read: {first_line(error)}")
    if data[:2] == b"PK":
        return _of_torchvision(path)
    if len(data) > LARGEST or b"\0" in data:
        raise RequestError(f"{shown(str(path))} is no list of labels")
    lines = []
    for number, text in enumerate(data.decode("utf-8-sig", "surrogateescape").split("\n"), 1):
        text = text.strip()
        if text and not (number == 1 and text.replace('"', "").partition(",")[0].lower() in HEADERS):
            lines.append(_parse(shown(str(path)), number, text))
    if not lines:
        raise RequestError(f"{shown(str(path))} has no lines: it has to label images")
    return lines


def _of_torchvision(path: Path) -> list[Line]:
    """Return the lines of meta.bin, which torchvision makes of the devkit: the wnid of every image."""
    import torch

    try:
        _, labels = torch.load(path, weights_only=True)
        return [Line(number, None, str(wnid)) for number, wnid in enumerate(labels, 1) if wnid in wnids()]
    except Exception as error:  # whatever a damaged file makes torch raise
        raise RequestError(
            f"{shown(str(path))} is neither a list of labels nor torchvision's meta.bin: {first_line(error)}"
        )


def _parse(where: str, number: int, text: str) -> Line:
    text = text.replace('"', "")
    if (text.isascii() and text.isdigit()) or text in wnids():
        return Line(number, None, text)
    for mark in ("\t", ","):
        name, found, rest = text.partition(mark)
        if found and name.strip() and rest.split():
            return Line(number, name.strip(), rest.split()[0])
    name, _, label = text.rpartition(" ")
    if not name.strip():
        raise _refuse(where, Line(number, None, text), f"{text[:40]!r} is neither `name wnid` nor a number or a wnid")
    return Line(number, name.strip(), label)


def _by_wnid(path: Path, lines: list[Line]) -> list[Line]:
    """Replace numbers alone by the wnids that they stand for."""
    where, numbers, meta = shown(str(path)), [int(line.label) for line in lines], _meta(path)
    known = list(wnids())
    if 0 in numbers:
        meanings, how = dict(enumerate(known)), "counted from 0 in the order of the wnids"
    elif meta is not None:
        meanings, how = _devkit(meta), f"the devkit's, as {shown(str(meta))} has them"
    else:
        raise RequestError(
            f"{where} holds numbers without a 0: those of ILSVRC's devkit count from 1 in an order of its own, which its meta.mat "
            "tells: put that beside the list, or give lines of `name wnid`"
        )
    for line, number in zip(lines, numbers):
        if number not in meanings:
            raise _refuse(where, line, f"{number} is none of the {COUNT} classes, {how}")
    if rank() == 0:
        print(f"{where}: {len(lines):,} labels, {how}", file=sys.stderr)
    return [line._replace(label=meanings[number]) for line, number in zip(lines, numbers)]


def _meta(path: Path) -> Path | None:
    """Return the devkit's table of classes, beside a list or in data/ of the devkit; None where it is not there."""
    folders = (path.parent, path.parent / "data", path.parent.parent, path.parent.parent / "data")
    return next((folder / "meta.mat" for folder in folders if (folder / "meta.mat").is_file()), None)


def _devkit(meta: Path) -> dict[int, str]:
    """Return the wnid of each ILSVRC2012_ID of a class without classes below it."""
    from scipy.io import loadmat

    try:
        synsets = loadmat(str(meta), simplify_cells=True)["synsets"]
        table = {int(each["ILSVRC2012_ID"]): str(each["WNID"]) for each in synsets if not int(each["num_children"])}
    except Exception as error:  # whatever a damaged file makes scipy raise
        raise RequestError(f"{shown(str(meta))} is no meta.mat of ILSVRC 2012's devkit: {first_line(error)}")
    if set(table) != set(range(1, COUNT + 1)) or set(table.values()) != set(wnids()):
        raise RequestError(f"{shown(str(meta))} does not hold the {COUNT} classes of ILSVRC 2012")
    return table


def _own(lines: list[Line]) -> Labels:
    """Return labels of the classes in the list itself."""
    return of_imagenet(sorted({line.label for line in lines}))


def _label(where: str, line: Line, labelling: Labels) -> int:
    """Return the label of a line. Raise RequestError where its class is not trained on."""
    if line.label in labelling.number:
        return labelling.number[line.label]
    number = int(line.label) if is_number(line.label) else wnids().get(line.label)
    if labelling.how in TRUE and number is not None and number in labelling.number.values():
        return number
    hint = did_you_mean(line.label, labelling.number)
    raise _refuse(where, line, f"{line.label!r} is none of the {len(labelling.number)} classes to train on{hint}")


def _places(names: Sequence[str]) -> dict[str, int]:
    """Return the image of each name, with and without its folder and suffix; −1 where several have it."""
    places: dict[str, int] = {}
    for number, name in enumerate(names):
        file = name.rpartition("/")[2]
        for key in {name, file, file.rpartition(".")[0]}:
            places[key] = number if places.get(key, number) == number else -1
    return places


def _find(places: dict[str, int], name: str) -> int | None:
    return next((places[key] for key in (name, name.rpartition("/")[2]) if key in places), None)
