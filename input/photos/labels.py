"""What the labels of photographs mean: places among the 1000 classes of ILSVRC 2012, numbers, or alphabetical places.

    of_imagenet(["n01440764", "n02102040"])       # Labels("wnid", {"n01440764": 0, "n02102040": 217})
    of_imagenet(["7", "12"])                      # Labels("number", {"7": 7, "12": 12})
    of_imagenet(["cat", "dog", "n02102040"])      # Labels("alphabet", {...}, odd="cat")

The 1000 are counted from 0 in the order of their WordNet ids (wnids.txt), as torchvision's and timm's networks count
them. So a dataset of some of the classes keeps the numbers that they have among all. Imports no torch.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from system.errors import RequestError

COUNT = 1000
TRUE = ("wnid", "number", "cls")  # kinds whose labels are places among the 1000
MEANINGS = {
    "wnid": "place among the 1000 classes of ILSVRC 2012", "number": "the numbers that class folders are called by",
    "cls": "the numbers in .cls files", "alphabet": "the alphabetical order of the class folders",
}  # fmt: skip


class Labels(NamedTuple):
    """The label of each class by its name, and what it means.

    `how`: "wnid", "number", "alphabet" or "cls" (numbers in the dataset itself). `odd`: where labels are alphabetical,
    a class whose name is neither a wnid nor a number.
    """

    how: str
    number: dict[str, int]
    odd: str = ""

    def record(self) -> dict[str, str | None]:
        """Return what a run's configuration keeps of the labels."""
        names = hashlib.sha256("\0".join(sorted(self.number)).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return {"labelled": self.how, "labelled_classes": names if self.how == "alphabet" else None}


CLS = Labels("cls", {})


def disagreement(trained: dict, labels: Labels) -> str:
    """Return in words why `labels` mean something else than those that a run was trained on; empty where they do not.

    Args: trained: the run's configuration. One that does not say how it was labelled counted the classes
    alphabetically, or took numbers as they were.
    """
    here = labels.record()
    before = trained.get("labelled") or ("cls" if labels.how == "cls" else "alphabet")
    if trained.get("labelled") is None and labels.number == alphabetical(labels.number).number:
        return ""
    if before == labels.how == "alphabet":
        same = trained.get("labelled_classes") == here["labelled_classes"]
        return "" if same else "it was trained on other class folders than are here, whose labels go by the alphabet"
    if "alphabet" not in (before, labels.how):
        return ""
    return f"it was trained with labels by {MEANINGS[before]}, those here go by {MEANINGS[labels.how]}"


@cache
def wnids() -> dict[str, int]:
    """Return the label of each of the 1000 classes by its WordNet id."""
    return {wnid: number for number, wnid in enumerate(Path(__file__).with_name("wnids.txt").read_text().split())}


def is_number(name: str) -> bool:
    """Return whether the name of a class is a label."""
    return name.isascii() and name.isdigit() and int(name) < COUNT


def alphabetical(names: Sequence[str]) -> Labels:
    """Return labels that count the classes in alphabetical order."""
    return Labels("alphabet", {name: number for number, name in enumerate(sorted(names))})


def of_imagenet(names: Sequence[str]) -> Labels:
    """Return labels by WordNet ids or numbers where all classes are named so, else by the alphabet.

    Raises RequestError where two names are the same number.
    """
    known = wnids()
    if names and all(name in known for name in names):
        return Labels("wnid", {name: known[name] for name in sorted(names)})
    if names and all(is_number(name) for name in names):
        numbers = {name: int(name) for name in sorted(names)}
        if len(set(numbers.values())) < len(numbers):
            twice = next(name for name in numbers if sum(int(name) == number for number in numbers.values()) > 1)
            raise RequestError(f"two class folders have the number {int(twice)}, {twice!r} is one of them")
        return Labels("number", numbers)
    some = next((kind for kind in (known.__contains__, is_number) if any(map(kind, names))), lambda name: False)
    return alphabetical(names)._replace(odd=next((name for name in sorted(names) if not some(name)), ""))
