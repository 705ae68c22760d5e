"""The trained networks that a run comes from: the teacher of a student, the network that `--init_from` starts from.

    teacher = build_teacher(request, student)      # RequestError where the two do not go together
    teacher.network, teacher.digest, teacher.unfinished, print(teacher.mapping)
    origin("torchvision:mobilenet_v2", config, "run").network

A source is the name of a run, the path of a run's checkpoint, a file that another tool has saved, or what a library
publishes (sources.py). The digest is that of the weights under our names, so the same weights are the same teacher
wherever they come from.
"""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from counting.costs import output_shapes
from distill import check_taps
from input import datasets
from layers.init import materialise
from models.build import FORM, build
from models.output import is_auxiliary
from models.registry import NETWORKS
from record.checkpoint import digest, is_checkpoint, load_file, load_run
from record.found import Found, progress
from record.paths import checkpoint_path
from system.configuration import Configuration
from system.errors import MachineFault, RequestError, first_line
from system.user_code import are_one, files_of
from weights import approximation, matching, own, pretrained
from weights.classes import check_classes
from weights.restore import restore, with_files
from weights.sources import file_and_key, is_file, is_run


class Origin(NamedTuple):
    """A trained network on the CPU, None where it is no longer needed.

    `digest`: of its weights. `unfinished`: how far its training is; empty where that has finished. `config`: the
    configuration that builds it. `mapping`: of weights from elsewhere, the table of which of their modules became which
    of ours. `test_error`: top-1 in %, where it is a run that has been tested. `epoch`, `step`: how many epochs of its training,
    and steps of the next one, are done; None of a network from elsewhere.
    """

    network: nn.Module | None
    digest: str
    unfinished: str = ""
    config: dict = {}
    mapping: str = ""
    test_error: float | None = None
    epoch: int | None = None
    step: int = 0


def origin(source: str, config: dict, role: str, fetch: bool = True, teaches: bool = False) -> Origin:
    """Return the trained network that a source names, for a run of `config`.

    Args: role: what the source is called in messages, "teacher" or "run"; fetch: whether weights may be downloaded;
    teaches: whether the network has to know the classes of `config`, and gives as many attention maps as `config` asks
    for. Raises RequestError where there is no such source or no network here takes its weights, MachineFault where it
    is damaged.
    """
    saved = stored(source, role)
    if saved is None:
        return _from_elsewhere(source, config, fetch, teaches)
    there = with_files(saved["config"], files_of(config).values())
    if not datasets.is_known(there) or not isinstance(there.get("epochs"), int):
        raise MachineFault(f"the checkpoint of {source!r} has a configuration that no run has")
    if teaches:
        check_classes(source, role, there, config, read=False)
    network = restore(source, {**saved, "config": there}, **_split_of_taps(config, there, teaches))
    unfinished = progress(saved, there) if saved["epoch"] < there["epochs"] else ""
    tested = [row["test_top1_error"] for row in saved["rows"] if "test_top1_error" in row]
    error = tested[-1] if tested else None
    return Origin(network, digest(saved["model"]), unfinished, there, "", error, saved["epoch"], saved["step"])


def facts(source: str, config: dict) -> dict:
    """Return the configuration of the network that a source names; weights are not downloaded for it."""
    saved = stored(source, "run")
    if saved is None:
        return matching.match(source, pretrained.shapes(source, config["dataset"]), config).config
    return saved["config"]


def stored(source: str, role: str) -> dict | None:
    """Return the checkpoint that a source names, by a run's name or by a path; None where it is not one of swapconv.

    A file of safetensors that export.py has written is as good as one. Args: role: what messages call the source.
    """
    if not is_file(source):
        if is_run(source) and not checkpoint_path(source).exists() and Path(source).is_file():
            raise RequestError(
                f"no {role} {source!r}: {checkpoint_path(source)} does not exist; the file here is ./{source}"
            )
        return load_run(source, role) if is_run(source) else None
    if "/" not in source and not Path(file_and_key(source)[0]).exists():
        _refuse_missing(source, role)
    path, key = pretrained.located(source)
    try:
        saved = load_file(Path(path), f"{role} {path!r}") if is_checkpoint(Path(path)) else own.read(path)
        if saved is not None and key is not None:
            raise RequestError(f"{source}: {path} is a checkpoint of swapconv, of which no key chooses: give {path}")
        return saved
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}")


def _refuse_missing(source: str, role: str) -> None:
    """Raise RequestError where the name of a missing file is close to that of a run."""
    path, _ = file_and_key(source)
    if checkpoint_path(path).exists():
        way = f"the run of that name is ./{checkpoint_path(path)}"
    elif (stem := path.rpartition(".")[0]) and checkpoint_path(stem).exists():
        way = f"the run {stem!r} is there"
    else:
        return
    raise RequestError(f"no {role} {source!r}: a name that ends so is a file's, and there is none; {way}")


def _split_of_taps(config: dict, there: dict, teaches: bool) -> dict:
    """Return the change of a teacher's configuration after which it gives as many attention maps as its student."""
    alike = teaches and are_one(there.get("network"), config["network"])
    return {flag: config[flag] for flag in NETWORKS[config["network"]].tap_flags} if alike else {}


def _from_elsewhere(source: str, config: dict, fetch: bool, teaches: bool) -> Origin:
    """Return the network of weights that another tool has saved or a library publishes."""
    found = matching.match(source, pretrained.read(source, config["dataset"], fetch), config)
    network = materialise(build({**found.config, **_split_of_taps(config, found.config, teaches)}), config["seed"])
    network.load_state_dict(found.state, strict=False)  # what is missing keeps its initial values
    headless = not any(is_auxiliary(network, name) for name in found.state)
    state = network.state_dict().items()
    weights = {name: tensor for name, tensor in state if not (headless and is_auxiliary(network, name))}
    if infinite := next((name for name, tensor in weights.items() if not tensor.isfinite().all()), None):
        raise RequestError(f"{source}: the weights that become {infinite} are not finite")
    return Origin(network, digest(weights), "", found.config, found.table)


def build_teacher(request: Configuration, student: nn.Module) -> Origin:
    """Return the teacher that a request names.

    Raises RequestError where it was trained on other classes, or its attention maps do not match the student's.
    """
    teacher = origin(request.teacher_checkpoint, request, "teacher", teaches=True)
    side = datasets.side_of(request)
    check_takes(teacher.network, side, f"the teacher {request.teacher_checkpoint!r}", request)
    if request.beta:
        try:
            check_taps(*(output_shapes(each, side).taps for each in (student, teacher.network)))
        except ValueError as error:
            split = "".join(f"--{flag} chooses the student's, " for flag in NETWORKS[request.network].tap_flags)
            raise RequestError(f"{error}; {split}--beta 0 goes without")
    return teacher


def check_takes(network: nn.Module, side: int, name: str, config: dict) -> None:
    """Raise RequestError where a network does not take images of a folder, which have `side` rows and columns."""
    if not datasets.is_own(config["dataset"]):
        return
    try:
        output_shapes(network, side)
    except (RuntimeError, ValueError) as error:
        raise RequestError(f"{name} does not take images of {side}×{side}: {first_line(error)}")


def init_fault(config: dict, start: dict) -> str:
    """Return why a run of `config` cannot start from a network of the configuration `start`; empty where it can.

    Both need the same number of classes and the same network with the same flags of its size.
    """
    here, there = (datasets.of(each).classes for each in (config, start))
    if here != there:
        return f"{config['dataset']} has {here} classes, that network {there}"
    for flag in ("network", *sorted(NETWORKS[config["network"]].size_flags)):
        if config[flag] != start.get(flag) and not (flag == "network" and are_one(config[flag], start.get(flag))):
            return f"{flag} is {config[flag]} here, {start.get(flag)} there"
    network = NETWORKS[config["network"]]
    if network.arguments_of_side(config) != network.arguments_of_side(start):
        return f"{network.name} has another form for images of {config['dataset']} than for those of {start['dataset']}"
    return ""


def as_narrow(request: Configuration, found: Found) -> Configuration:
    """Return the request for a network of the form of the one that --init_from names, where that is no plain one.

    It is as narrow as a shrunk one; an ordinary one has biases where a dense export has them. A run that has been started
    already keeps its form. Raise RequestError where the request is for another network.
    """
    name = request.init_from
    if not name:
        return request
    is_begun = found.state is not None and found.config.get("init_from") == name
    start = found.config if is_begun else (stored(name, "run") or {"config": {}})["config"]
    form = {key: start[key] for key in FORM if start.get(key)}
    if request.conv != start.get("conv"):
        form.pop("biased", None)
    if form and not is_begun and (fault := init_fault(request, start)):
        raise RequestError(f"--init_from {name}: {fault}")
    return request | form


def start_of(config: dict, network: nn.Module, found: Found) -> Origin:
    """Return the trained network that `network` starts from, only its digest where the run has been started already.

    Raises RequestError where the two do not match.
    """
    name = config["init_from"]
    if found.state is not None and found.config.get("init_from") == name:
        return Origin(None, found.config["init_digest"])
    start = origin(name, config, "run")
    if fault := init_fault(config, start.config):
        raise RequestError(f"--init_from {name}: {fault}")
    try:
        approximation.check(network, start.network)
    except ValueError as error:
        raise RequestError(f"--init_from {name}: {error}")
    return start
