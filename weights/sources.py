"""Names of runs (`wrn_28_10.acdc.student.Dec11`) and of trained weights from elsewhere.

    >>> is_run("wrn.teacher"), is_file("weights/x.pth"), is_published("timm:wide_resnet50_2")
    (True, True, True)

Imports no torch.
"""

import re

from models.libraries import LIBRARIES
from system.errors import RequestError, did_you_mean

RUN_NAME = re.compile(r"[A-Za-z0-9._+-]{1,100}")


# The ends of names of files of weights, also of those that weights/files.py refuses.
WEIGHTS_FILES = (
    ".pth", ".pt", ".pt7", ".t7", ".th", ".ckpt", ".bin", ".safetensors", ".tar", ".pkl", ".npz", ".h5", ".hdf5", ".onnx",
)  # fmt: skip


WITH_KEY = re.compile(rf"(.+(?:{'|'.join(map(re.escape, WEIGHTS_FILES))})|.*/[^/:]+):([^/:]*)", re.IGNORECASE)


def is_published(source: str) -> bool:
    """Return whether a source names weights that a library publishes."""
    library, colon, _ = source.partition(":")
    return bool(colon) and library in LIBRARIES


def published_network(source: str) -> str:
    """Return the name of the network that published weights are of, without that of the weights.

    >>> published_network("torchvision:resnet50:IMAGENET1K_V2"), published_network("timm:resnet18.a1_in1k")
    ('torchvision:resnet50', 'timm:resnet18')
    """
    library, _, name = source.partition(":")
    return f"{library}:{name.partition('.' if library == 'timm' else ':')[0]}"


def is_file(source: str) -> bool:
    """Return whether a source names a file of weights: it has a slash, or ends as such files do; a key may follow.

    It need not exist. So `x.pt`, `./x` and `x.pt:model_ema` are files.
    """
    return not is_published(source) and ("/" in source or _ends_like_a_file(file_and_key(source)[0]))


def _ends_like_a_file(name: str) -> bool:
    return name.lower().endswith(WEIGHTS_FILES)


def file_and_key(source: str) -> tuple[str, str | None]:
    """Return the path of a file of weights, and the key of a state dict in it after its colon; None without a colon.

    >>> file_and_key("w/x.pth:ema.state_dict")
    ('w/x.pth', 'ema.state_dict')
    """
    found = WITH_KEY.fullmatch(source)
    return (found[1], found[2]) if found else (source, None)


def is_run(source: str) -> bool:
    """Return whether a source is the name of a run."""
    return not (is_published(source) or is_file(source))


def check_source(source: str, flag: str) -> str:
    """Return the source of trained weights if it is a run's name, a file, or what a library publishes.

    Raises RequestError otherwise.
    """
    library, colon, name = source.partition(":")
    if is_file(source) and file_and_key(source)[1] == "":
        raise RequestError(f"{flag} {source!r} names no key after its colon: give FILE:KEY, or the file alone")
    if not is_run(source) and (is_file(source) or name):
        return source
    if colon and library.isidentifier():
        known = ", ".join(f"{each}:NAME" for each in LIBRARIES)
        raise RequestError(f"{flag} {source!r} is neither of {known}{did_you_mean(library, LIBRARIES)}")
    return check_run_name(source, flag)


def check_run_name(name: str, flag: str) -> str:
    """Return the name if a run may have it. Raise RequestError otherwise.

    Names that begin with a dot are this program's own, in runs/ and in checkpoints/.
    """
    if _ends_like_a_file(file_and_key(name)[0]) and RUN_NAME.fullmatch(name.replace(":", ".")):
        raise RequestError(f"{flag} {name!r} would be taken for a file of weights: a run's name does not end so")
    if not RUN_NAME.fullmatch(name) or not re.search("[A-Za-z0-9]", name):
        raise RequestError(
            f"{flag} {name!r}: a run's name is 1 to 100 letters, digits and . _ + - with at least one letter or digit"
        )
    if name.startswith("."):
        raise RequestError(
            f"{flag} {name!r}: a run's name does not begin with a dot (schedules.rename gives an older run another)"
        )
    return name
