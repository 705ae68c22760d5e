"""How many images may be held out and trained on. Imports no torch.

check_sizes(count=1500, val_size=200, train_size=None)       # RequestError where there are not so many
"""

from system.errors import RequestError


def check_sizes(count: int, val_size: int, train_size: int | None, dataset: str | None = None) -> None:
    """Raise RequestError where `count` training images are too few for --val_size and --train_size (None: all others).

    `dataset` names a dataset whose images have not been read yet, for the message.
    """
    if val_size >= count:
        few = f"{dataset} has {count:,} images to train on, at most {count - 1}"
        read = f"there are {count:,} training images, some must remain"
        raise RequestError(f"--val_size {val_size}: {few if dataset else read}")
    if train_size is not None and train_size > count - val_size:
        has = f"{dataset} has {count:,} images to train on" if dataset else f"there are {count:,} training images"
        held_out = f", of which --val_size holds out {val_size:,}" if val_size else ""
        raise RequestError(f"--train_size {train_size}: {has}{held_out}: at most {count - val_size}")


def is_tested(done: int, epochs: int, every: int) -> bool:
    """Return whether a network is tested when `done` of the epochs are done: after each `every`-th, and after the last.

    Where `every` is 0 it is never tested.
    """
    return every > 0 and (done % every == 0 or done == epochs)
