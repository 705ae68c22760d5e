"""Heat maps of the gates of runs, from their checkpoints and their test images.

    for name, figure in heat_maps(["digits.fbs"]): ...

Raise RequestError where there is no such run, or it has no gates; nothing has been written then.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure

from distributed.process_group import ALONE
from gates.by_class import opened
from input import datasets
from record.checkpoint import load_run
from schedules.comparable import counted, images
from schedules.figures.gates import heat_map
from schedules.trained import stored
from system.errors import RequestError
from training.device import precision_of, to_device
from training.evaluation import test_images


def heat_maps(names: Sequence[str]) -> list[tuple[str, Figure]]:
    """Return each run with the figure of which channels a class opens."""
    configs = {name: load_run(name, "run")["config"] for name in names}
    for name, config in configs.items():
        if config.get("gate") is None:
            raise RequestError(f"--gates: the run {name!r} has no gates (a run with --gate NAME has)")
    return [(name, _heat_map(name, config)) for name, config in configs.items()]


def _heat_map(name: str, config: dict) -> Figure:
    request, device, trained = stored(name, config)
    request, _, data = test_images(request, trained, name, device, ALONE)
    classes = datasets.of(config).classes
    shares = opened(to_device(trained.network, device), data, precision_of(request, device), classes)
    of_each = (data.facts.get("data_names") or "").split("/")
    trained_on = f"{images(config)[0]:,} training and " if images(config)[0] else ""
    words = f"{config['gate']} on {config['dataset']}, {counted(config['epochs'], 'epoch')}, seed {config['seed']}, "
    words += f"{trained_on}{len(data.test):,} test images"
    return heat_map(
        name, words, {layer: each.numpy() for layer, each in shares.items()}, of_each if len(of_each) == classes else []
    )
