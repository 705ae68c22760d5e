"""`main.py … --evaluate`: the errors of a trained network, of whatever source. Writes nothing.

evaluate_trained(request, device, ranks)         # prints them, returns the exit status
"""

from pkgutil import resolve_name

import torch

from data import find, labels_of, load_data
from distributed import launch
from distributed.process_group import Ranks
from input import datasets
from input.batches import Feed
from input.source import Source
from models.registry import describe
from record.identity import name_of
from system.configuration import Configuration
from system.errors import RequestError
from training.device import precision_of, to_device
from training.loop import evaluate
from training.report import Report, advice, conv_and_gate
from weights.classes import check_classes, check_labels
from weights.origin import Origin, check_takes, origin


def evaluate_trained(request: Configuration, device: torch.device, ranks: Ranks) -> int:
    """Print the errors of what -t (in student mode -s) names. Return the exit status."""
    name, report = name_of(request), Report(ranks)
    with ranks.all_or_none():
        find(request)  # before weights are read, or even fetched
        trained = origin(name, request, "run", teaches=True)
        if request.gate_skip and not hasattr(trained.network, "gates"):
            raise RequestError(
                f"--gate_skip: {name!r} has no gates (a run with --gate NAME has), so nothing is left out"
            )
    metrics, about = tested(request, trained, name, device, ranks)
    report.say(
        trained.mapping or f"{name}: {describe(trained.config)} with {conv_and_gate(trained.config, whole=True)}"
    )
    if trained.unfinished:
        report.warn(f"{name} has only finished {trained.unfinished}")
    report.say(about)
    report.say(f"Error@1 {metrics['top1_error']:.2f} Error@5 {metrics['top5_error']:.2f}")
    if gates := metrics.get("of_network"):
        report.say(
            f"open {100 * gates['gate_density']:.4g}% of the gated channels, {gates['mult_adds_gated']:,.0f} mult-adds an image"
        )
    if skipped := metrics.get("skipped"):
        report.say(str(skipped))
    return 0


def tested(
    request: Configuration, trained: Origin, name: str, device: torch.device, ranks: Ranks
) -> tuple[dict[str, float], str]:
    """Return what `evaluate` says of a trained network, and on which images, in words. The network is on the device then.

    With --gate_skip `skipped` is what gates/latency.py says of it.

    Args: request: one with --evaluate, that says where the data are; name: of the run, for messages.
    """
    request, source, data = test_images(request, trained, name, device, ranks)
    precision = precision_of(request, device)
    with advice(request, device, ranks):
        metrics = evaluate(to_device(trained.network, device), data, data.test, precision, ranks=ranks)
        if request.gate_skip:
            metrics["skipped"] = resolve_name("gates.latency:skipped")(trained.network, data, precision, ranks)
    images = f"{len(data.test) - metrics.get('left_out', 0):,} of {len(data.test):,} test images"
    about = f"{request.dataset} from {source.where}: {images}, {data.side}×{data.side}"
    if other := other_test_images(name, trained.config, data.facts):
        about += f"\n{other}"
    return metrics, about


def test_images(
    request: Configuration, trained: Origin, name: str, device: torch.device, ranks: Ranks
) -> tuple[Configuration, Source, Feed]:
    """Return the request for a trained network, where its images lie, and the images. Raise RequestError where it does not take them."""
    with ranks.all_or_none():
        request = as_trained(request, trained)
        source = find(request)
        side = request.image_size or datasets.side_of(trained.config)
        check_takes(trained.network, side, f"the run {name!r}", request)
    data = load_data(request, source, device, ranks)
    with ranks.all_or_none():
        check_classes(name, "run", trained.config, request | data.facts)
    with launch.printed_once():
        check_labels(name, "run", trained.config, labels_of(data), bool(trained.mapping))
    return request, source, data


def as_trained(request: Configuration, trained: Origin) -> Configuration:
    """Return the request for a trained network: it is given images of the size and the scale that it was trained on."""
    own, config = request.data_folder is not None, trained.config
    network, size, resize = config["network"], request.image_size, request.data_resize
    if own and not resize:
        size, resize = datasets.side_of(config), True
    if not own:
        size = size or config.get("image_size") or datasets.DATASETS[request.dataset].presets.get("image_size")
    dataset = datasets.of(config)
    return request | {
        "network": network,
        "image_size": size,
        "data_resize": resize,
        "data_mean": config.get("data_mean") or dataset.mean,
        "data_std": config.get("data_std") or dataset.std_of.get(network, dataset.std),
    }


def other_test_images(name: str, trained: dict, now: dict) -> str:
    """Say where a run is tested on other images than in its training; empty where it is not, or nobody knows."""
    there, here = (each.get("data_test_digest") for each in (trained, now))
    if not there or there == here:
        return ""
    was = f"{trained['data_test']:,} of {trained['dataset']}"
    return f"these are other test images than {name} was tested on in training ({was})"
