"""Whether a trained network goes with the data of a run: the same classes, the same meaning of labels, the same images.

    check_classes("t", "teacher", teacher.config, config)       # RequestError where it classifies other classes
    check_labels("t", "teacher", teacher.config, labels)        # RequestError where a label means another class
    print_data_difference("t", "teacher", teacher.config, config)

In all of them `source` is what the command line names, and `role`, what that is to the run: "teacher" or "run". Imports
no torch.
"""

import sys

from input import datasets
from input.facts import of_other_data, used
from input.image_files import shown
from input.photos.labels import MEANINGS, Labels, disagreement
from system.errors import RequestError


def check_classes(source: str, role: str, there: dict, config: dict, read: bool = True) -> None:
    """Raise RequestError where a network of the configuration `there` classifies other classes than those of `config`.

    Args: read: whether `config` holds the facts of the data; before they are read, names of classes may be unknown.
    """
    if other := datasets.other_classes(there, config, read):
        raise RequestError(f"the {role} {source!r} was trained on {other}")


def print_data_difference(source: str, role: str, there: dict, config: dict) -> None:
    """Print a line where a network was trained on other images than those of `config`, or on unknown ones."""
    if there.get("data_digest") is None:
        print(f"the record of the {role} {source!r} does not say on which data it was trained")
    elif other := of_other_data(there, config):
        print(f"warning: the {role} {source!r} was trained on other data: {other}", file=sys.stderr)
    elif used(there) != used(config):
        print(f"the {role} {source!r} was trained on {used(there):,} of these images, this run is on {used(config):,}")


def check_labels(source: str, role: str, trained: dict, labels: Labels | None, is_foreign: bool = False) -> None:
    """Raise RequestError where `labels` mean other classes than they did when a network was trained.

    Args: trained: the network's configuration; labels: those of photographs, None: of other data, whose labels always
    mean the same; is_foreign: whether the network is from elsewhere, and so knows the 1000 classes of ILSVRC 2012
    alone.
    """
    if labels is None:
        return
    if is_foreign and labels.how == "alphabet":
        raise RequestError(
            f"the {role} {source!r} counts the 1000 classes of ILSVRC 2012, but which of them the {len(labels.number):,} class folders "
            f"are is not known ({shown(labels.odd)!r} is none): call them by wnid, as n01440764, or by number from 0 to 999"
        )
    if not is_foreign and (why := disagreement(trained, labels)):
        raise RequestError(
            f"the {role} {source!r} cannot be used on these images: {why}; call the class folders as they were, or train it anew"
        )
    pair = {trained.get("labelled"), labels.how}
    if not is_foreign and "cls" in pair and len(pair - {None}) > 1:
        print(
            f"warning: the {role} {source!r} was trained with labels by {MEANINGS[trained['labelled']]}, those here go by "
            f"{MEANINGS[labels.how]}: taken to be the same", file=sys.stderr,
        )  # fmt: skip
