"""The trained networks that a run comes from: the teacher of a student, the network that `--init_from` starts from.

    teacher = build_teacher(request, student)      # RequestError where the two do not go together
    teacher.network, teacher.digest, teacher.unfinished, print(teacher.mapping)
    origin("torchvision:mobilenet_v2", config, "run").network

A source is the name of a run, the path of a checkpoint of one, a file that another tool has saved, or what a library
publishes (foreign.py, mapping.py). Its digest is that of the weights by our names, so the same weights are the same
teacher wherever they are from.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from torch import nn

from counting.costs import output_shapes
from distill import check_taps
from input import datasets
from input.facts import of_other_data, used
from input.image_files import shown
from input.photos.labels import MEANINGS, Labels, disagreement
from layers.init import materialise
from models.build import build
from models.registry import NETWORKS
from record.checkpoint import digest, is_checkpoint, load_file, load_run
from record.found import Found, progress
from record.paths import checkpoint_path
from system.configuration import Configuration
from system.errors import MachineFault, RequestError, first_line
from weights import approximation, matching, pretrained
from weights.restore import restore
from weights.sources import file_and_key, is_file, is_run


class Origin(NamedTuple):
    """A trained network on the CPU (None where it is no longer needed), a digest of its weights, how far it has got where
    it has not finished, the configuration that builds it, and, of foreign weights, who stands for whom."""

    network: nn.Module | None
    digest: str
    unfinished: str = ""
    config: dict = {}
    mapping: str = ""


def origin(source: str, config: dict, what: str, fetch: bool = True, teaches: bool = False) -> Origin:
    """The trained network that a source names, for a run of `config`; `what` it is to that, for errors.

    One that `teaches` was trained on the same dataset, and is tapped as its student is. Without `fetch`, nothing is
    downloaded. RequestError where there is no such source, or no network here takes its weights.
    """
    saved = _saved(source, what)
    if saved is None:
        return _of_foreign(source, config, fetch, teaches)
    there = saved["config"]
    if not datasets.is_known(there) or not isinstance(there.get("epochs"), int):
        raise MachineFault(f"the checkpoint of {source!r} has a configuration that no run has")
    if teaches:
        check_classes(source, what, there, config, read=False)
    network = restore(source, saved, **_taps(config, there, teaches))
    unfinished = progress(saved, there) if saved["epoch"] < there["epochs"] else ""
    return Origin(network, digest(saved["model"]), unfinished, there)


def check_classes(source: str, what: str, there: dict, config: dict, read: bool = True) -> None:
    """RequestError where a trained network classifies others than the data of `config` have; before these are `read`, as far
    as is known."""
    if other := datasets.other_classes(there, config, read):
        raise RequestError(f"the {what} {source!r} was trained on {other}")


def tell_of_data(source: str, what: str, there: dict, config: dict) -> None:
    """A line where a trained network has seen other data than those of `config`, or its record does not say which."""
    if there.get("data_digest") is None:
        print(f"the record of the {what} {source!r} does not say on which data it was trained")
    elif other := of_other_data(there, config):
        print(f"warning: the {what} {source!r} was trained on other data: {other}", file=sys.stderr)
    elif used(there) != used(config):
        print(f"the {what} {source!r} was trained on {used(there):,} of these images, this run is on {used(config):,}")


def facts(source: str, config: dict) -> dict:
    """The configuration of what a foreign source names, without its weights where they would have to be fetched."""
    saved = _saved(source, "run")
    if saved is None:
        return matching.match(source, pretrained.shapes(source, config["dataset"]), config).config
    return saved["config"]


def _saved(source: str, what: str) -> dict | None:
    """The checkpoint that a source names, by a run's name or by a path; None for what is none of ours."""
    if not is_file(source):
        if is_run(source) and not checkpoint_path(source).exists() and Path(source).is_file():
            raise RequestError(
                f"no {what} {source!r}: {checkpoint_path(source)} does not exist; the file here is ./{source}"
            )
        return load_run(source, what) if is_run(source) else None
    if "/" not in source and not Path(file_and_key(source)[0]).exists():
        _refuse_missing(source, what)
    path, key = pretrained.located(source)
    try:
        if not is_checkpoint(Path(path)):
            return None
        if key is not None:
            raise RequestError(f"{source}: {path} is a checkpoint of swapconv, of which no key chooses: give {path}")
        return load_file(Path(path), f"{what} {path!r}")
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}")


def _refuse_missing(source: str, what: str) -> None:
    """RequestError where a run may be meant by a name that ends like a file."""
    path, _ = file_and_key(source)
    if checkpoint_path(path).exists():
        way = f"the run of that name is ./{checkpoint_path(path)}"
    elif (stem := path.rpartition(".")[0]) and checkpoint_path(stem).exists():
        way = f"the run {stem!r} is there"
    else:
        return
    raise RequestError(f"no {what} {source!r}: a name that ends so is a file's, and there is none; {way}")


def _taps(config: dict, there: dict, teaches: bool) -> dict:
    alike = teaches and there.get("network") == config["network"]
    return {flag: config[flag] for flag in NETWORKS[config["network"]].tap_flags} if alike else {}


def _of_foreign(source: str, config: dict, fetch: bool, teaches: bool) -> Origin:
    found = matching.match(source, pretrained.read(source, config["dataset"], fetch), config)
    network = materialise(build({**found.config, **_taps(config, found.config, teaches)}), config["seed"])
    network.load_state_dict(found.state, strict=False)  # what may be missing stays as it is initially
    headless = not any(name.startswith("auxiliary.") for name in found.state)
    state = network.state_dict().items()
    weights = {name: tensor for name, tensor in state if not (headless and name.startswith("auxiliary."))}
    if infinite := next((name for name, tensor in weights.items() if not tensor.isfinite().all()), None):
        raise RequestError(f"{source}: the weights that become {infinite} are not finite")
    return Origin(network, digest(weights), "", found.config, found.table)


def build_teacher(request: Configuration, student: nn.Module) -> Origin:
    """The teacher as its checkpoint says, tapped as the student is.

    RequestError where it was trained on other classes or its attention maps do not match the student's.
    """
    teacher = origin(request.teacher_checkpoint, request, "teacher", teaches=True)
    side = datasets.side_of(request)
    check_side(teacher.network, side, f"the teacher {request.teacher_checkpoint!r}", request)
    if request.beta:
        try:
            check_taps(*(output_shapes(each, side).taps for each in (student, teacher.network)))
        except ValueError as error:
            split = "".join(f"--{flag} says how many there are, " for flag in NETWORKS[request.network].tap_flags)
            raise RequestError(f"{error}; {split}--beta 0 goes without")
    return teacher


def check_side(network: nn.Module, side: int, what: str, config: dict) -> None:
    """RequestError where a trained network cannot take images of the side that a folder's have."""
    if not datasets.is_own(config["dataset"]):
        return
    try:
        output_shapes(network, side)
    except (RuntimeError, ValueError) as error:
        raise RequestError(f"{what} does not take images of {side}×{side}: {first_line(error)}")


def start_of(config: dict, network: nn.Module, found: Found) -> Origin:
    """The trained network that `network` starts from, None where the run has long started, and a digest of its weights.
    RequestError where the two do not match."""
    name = config["init_from"]
    if found.state is not None and found.config.get("init_from") == name:
        return Origin(None, found.config["init_digest"])
    start = origin(name, config, "run")
    counts = [datasets.of(each).classes for each in (config, start.config)]
    if counts[0] != counts[1]:
        raise RequestError(f"--init_from {name}: {config['dataset']} has {counts[0]} classes, that network {counts[1]}")
    for flag in ("network", *sorted(NETWORKS[config["network"]].size_flags)):
        if config[flag] != start.config.get(flag):
            raise RequestError(f"--init_from {name}: {flag} is {config[flag]} here, {start.config.get(flag)} there")
    try:
        approximation.check(network, start.network)
    except ValueError as error:
        raise RequestError(f"--init_from {name}: {error}")
    return start


def check_labels(source: str, what: str, trained: dict, labels: Labels | None, is_foreign: bool = False) -> None:
    """RequestError where `labels` (None: of no photographs) do not mean to a network trained with the configuration `trained`
    what they mean here; `what` it is to this command. Networks from elsewhere know the 1000 classes alone."""
    if labels is None:
        return
    if is_foreign and labels.how == "alphabet":
        raise RequestError(
            f"the {what} {source!r} counts the 1000 classes of ILSVRC 2012, but which of them the {len(labels.number):,} class folders "
            f"are is not known ({shown(labels.odd)!r} is none): call them by wnid, as n01440764, or by number from 0 to 999"
        )
    if not is_foreign and (why := disagreement(trained, labels)):
        raise RequestError(
            f"the {what} {source!r} cannot be used on these images: {why}; call the class folders as they were, or train it anew"
        )
    pair = {trained.get("labelled"), labels.how}
    if not is_foreign and "cls" in pair and len(pair - {None}) > 1:
        print(
            f"warning: the {what} {source!r} was trained with labels by {MEANINGS[trained['labelled']]}, those here go by "
            f"{MEANINGS[labels.how]}: taken to be the same", file=sys.stderr,
        )  # fmt: skip
