"""Trained weights from elsewhere: those that torchvision and timm publish, and files that other tools have saved.

    state = read("torchvision:mobilenet_v2", "imagenet")          # with their own names, which matching.py translates
    state = read("weights/wrn_16_2.pth", "cifar10")
    state = read("weights/ema.ckpt:model_ema", "cifar10")         # one of several state dicts in a file

Torchvision's weights are the entry IMAGENET1K_V1 (the published recipe's) unless another is named, as in
`torchvision:wide_resnet50_2:IMAGENET1K_V2`; timm's are chosen by its own names, `timm:wide_resnet50_2.tv_in1k`. Each
library downloads them into its own cache, or finds them there. Reading a file (weights/files.py, weights/state_dict.py) runs nothing.
"""

import hashlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch

from input.datasets import DATASETS
from models import library as models_library
from system.errors import MachineFault, RequestError, did_you_mean, first_line
from weights import files, state_dict
from weights.sources import file_and_key, is_file, published_network
from weights.state_dict import State

DATASET = "imagenet"  # what all published weights here were trained on
RECIPE = "IMAGENET1K_V1"


def read(source: str, dataset: str, fetch: bool = True) -> State:
    """Return the weights on the CPU.

    Raises RequestError where there are no such weights, or none for the dataset; MachineFault where they cannot be
    downloaded, or would have to be although `fetch` is false.
    """
    if is_file(source):
        return of_file(source)
    library, name = _published(source, dataset)
    return (_of_torchvision if library == "torchvision" else _of_timm)(source, name, fetch)


def shapes(source: str, dataset: str) -> State:
    """Return the weights; on the meta device, without values, where they would have to be downloaded."""
    if is_file(source):
        return of_file(source)
    library, name = _published(source, dataset)
    if library == "torchvision":
        side = _entry(source, name)[1].transforms.keywords[
            "crop_size"
        ]  # by which position embeddings have their length
    else:
        side = _timm(source, name).get_pretrained_cfg(name).input_size[-1]
    with torch.device("meta"):
        return models_library.build(DATASETS[DATASET].classes, published_network(source), side).state_dict()


def _published(source: str, dataset: str) -> tuple[str, str]:
    """Return the library and the name of published weights. Raise RequestError where the dataset is another one."""
    if dataset != DATASET:
        raise RequestError(f"{source} classifies {DATASET}, not {dataset}")
    library, _, name = source.partition(":")
    return library, name


def published_entry(source: str):
    """Return torchvision's entry of the weights that a source names. Raise RequestError where there is none."""
    return _entry(source, _published(source, DATASET)[1])[1]


def _entry(source: str, name: str):
    """Return a network of torchvision and an entry of its weights."""
    from torchvision.models import get_model_weights

    network, colon, entry = name.partition(":")
    models_library.check_is_there(f"torchvision:{network}", source)
    entries = get_model_weights(network).__members__
    entry = entry if colon else RECIPE
    if entry not in entries:
        known = ", ".join(entries) or "none"
        raise RequestError(
            f"{source}: {network} has no weights {entry!r}{did_you_mean(entry, entries)} (known: {known})"
        )
    return network, entries[entry]


def _of_torchvision(source: str, name: str, fetch: bool) -> State:
    _, weights = _entry(source, name)
    path = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    if path.exists():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(promised := path.stem.rpartition("-")[2]):
            print(
                f"warning: {path} is not what torchvision publishes: its SHA-256 does not begin {promised}",
                file=sys.stderr,
            )
        return of_file(str(path))
    way = f"put a copy of {path.name} into {path.parent}, or give the path of one instead of {source}"
    if not fetch:
        raise MachineFault(f"{source} is not there yet: {way}")
    with _fetching(source, f": {way}"):
        return weights.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, weights_only=True, map_location="cpu"
        )


def _timm(source: str, name: str):
    """Return the package.

    Raises RequestError where it is not installed, or has no such weights.
    """
    try:
        import timm
    except ImportError:
        raise RequestError(f"{source} needs timm: pip install timm")
    network, _, tag = name.partition(".")
    models_library.check_is_there(f"timm:{network}", source)
    tags = {each.partition(".")[2] for each in timm.list_models(f"{network}.*", pretrained=True)}
    if not tags:
        raise RequestError(f"{source}: timm publishes no weights of {network}")
    if tag and tag not in tags:
        known = ", ".join(sorted(tags))
        raise RequestError(f"{source}: {network} has no weights {tag!r}{did_you_mean(tag, tags)} (known: {known})")
    cfg, dataset = timm.get_pretrained_cfg(name), DATASETS[DATASET]
    if (tuple(cfg.mean), tuple(cfg.std)) != (dataset.mean, dataset.std):
        raise RequestError(
            f"{source} was trained on images with mean {cfg.mean} and deviation {cfg.std}, those of {DATASET} here have "
            f"{dataset.mean} and {dataset.std}"
        )
    return timm


def _of_timm(source: str, name: str, fetch: bool) -> State:
    timm = _timm(source, name)
    if not fetch:
        raise MachineFault(f"{source} may have to be fetched")
    with _fetching(source, "; the path of a file of such weights works too"):
        return timm.create_model(name, pretrained=True).state_dict()


@contextmanager
def _fetching(source: str, way: str) -> Iterator[None]:
    """Turn whatever a library raises while it downloads into a MachineFault; print its output on stderr."""
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings(action="ignore"):
            yield
    except Exception as error:
        raise MachineFault(f"{source} cannot be fetched ({first_line(error)}){way}")


def of_file(source: str) -> State:
    """Return the state dict in a file, from within whatever wraps it. Raise RequestError where there is none."""
    path, key = located(source)
    return state_dict.pick(path, files.load(path), key)


def located(source: str) -> tuple[str, str | None]:
    """Return the file that a source names, and the key after its colon.

    Raises RequestError where there is no regular file: a pipe or a device might never end.
    """
    path, key = (source, None) if _is_there(source) else file_and_key(source)
    try:
        Path(path).stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise RequestError(f"{path!r} cannot be read: {first_line(error)}{_nearest(path)}")
    if not Path(path).is_file():
        raise RequestError(f"{path} cannot be read: it is no file")
    return path, key


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _nearest(path: str) -> str:
    """Return a hint at the file of the folder whose name is nearest to a missing one."""
    try:
        there = [each.name for each in Path(path).parent.iterdir() if each.is_file()]
    except (OSError, ValueError):
        return ""
    return did_you_mean(Path(path).name, there, lambda name: str(Path(path).parent / name))
