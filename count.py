"""What a network costs, before anyone trains it.

    python count.py cifar10 --conv Conv --wrn_width 10 --wrn_depth 28
    python count.py cifar10 --conv Shuffle_4 --table
    python count.py cifar100 --conv SepHashed_0.1 --json
    python count.py cifar10 --prune TopK_0.05
    python count.py cifar10 --compare Conv,SepHashed_0.1 --latency
    python count.py digits.topk                            # of a run, as its checkpoint has it

Costs are per image and in two conventions: as published tables count, and exactly (counting/shapes.py). A head that
only training uses is not counted. As a library: `counting.costs.count(model, side)`.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # with PYTHONSAFEPATH Python does not

import json
from contextlib import nullcontext
from functools import partial

from cli import command, options
from cli.request import Request
from system.configuration import Configuration


def resolve(arguments: list[str] | None = None) -> Configuration:
    """Return the request of a command line; with --print_config print it and exit."""
    request = options.counting(arguments)
    return request.unless_printed() if isinstance(request, Request) else request


if __name__ == "__main__":
    command.check(resolve)  # --help and a wrong request are answered before torch is imported

from torch import nn

from counting.budget import resolve as resolve_budget
from counting.costs import warn_of_uncounted
from counting.latency import latencies
from counting.report import compare, comparison_table, layer_table, resolved_summary, text
from input.datasets import side_of
from layers.init import materialise
from layers.user import of_module
from models.build import build
from system import memory
from system.errors import RequestError


def main(arguments: list[str] | None = None) -> int:
    """Print what the requested network costs, or what several convs cost (--compare). Return the exit status."""
    request = resolve(arguments)
    with request.located() if isinstance(request, Request) else nullcontext():
        return _counted(request)


def _counted(request: Configuration) -> int:
    """Print the costs. Return the exit status."""
    if request.get("compare"):
        rows = compare(request, request.compare, request.batch)
        for conv, row in zip(request.compare, rows):
            try:
                row.update(_left({**request, "conv": conv}) if "error" not in row else {})
            except RequestError as error:
                row["error"] = str(error)
        if request.latency:
            counted = [row for row in rows if "error" not in row]
            configs = [{**request, "conv": conv} for conv, row in zip(request.compare, rows) if "error" not in row]
            networks = [_network(config, request.batch) for config in configs]
            for row, times in zip(counted, _times(request, networks, request.latency)):
                row.update(times)
        print(json.dumps(rows) if request.json else comparison_table(rows))
        return 0
    of_run = "run" in request
    costs = _of_run(request) if of_run else resolved_summary(request, request.batch) | _left(request)
    if request.latency:
        network, config = _network_of_run(request.run) if of_run else (_network(request, request.batch), request)
        costs |= _times(config, [network], request.latency)[0]
    warn_of_uncounted(costs)
    layers = costs["layers"] if request.json and request.table else costs.pop("layers")
    if request.json:
        print(json.dumps(costs))
        return 0
    print(text(costs))
    if request.table:
        print("\n" + layer_table(layers, request.batch))
    return 0


def _left(config: dict) -> dict:
    """Return what --prune leaves of the network: active_fraction, active_parameters and sparse_bytes; {} without it."""
    if not config["prune"]:
        return {}
    from sparsity.density import planned

    return planned(config).metrics


def _network(config: dict, batch: int) -> nn.Module:
    """Return the network of a configuration, after its budget is resolved, with its initial weights."""
    config, _ = resolve_budget(config, batch)
    with of_module(config):
        return materialise(build(config), config["seed"])


def _network_of_run(name: str) -> tuple[nn.Module, dict]:
    """Return the network of a run as its checkpoint has it, and its configuration."""
    from record.checkpoint import load_run
    from weights.restore import restore

    saved = load_run(name, "run")
    return restore(name, saved), saved["config"]


def _times(config: dict, networks: list[nn.Module], sizes: list[int]) -> list[dict]:
    """Return how long inference takes with each network, in fp32 on the first GPU, else on the CPU."""
    from training.device import choose_device, precision_of, to_device

    memory.keep_freed()  # as main.py does, so that a run's network takes as long here as there
    alone = Configuration({"device": None, "GPU": None, "precision": "fp32"})
    device = choose_device(alone)
    ready = partial(to_device, device=device)
    with of_module(config):
        return latencies(networks, side_of(config), sizes, ready, precision_of(alone, device))


def _of_run(request: Configuration) -> dict:
    """Return the costs of a run's network."""
    from sparsity.run_costs import costs_of_run  # which reads checkpoints; no other request does

    return costs_of_run(request.run, request.batch)


if __name__ == "__main__":
    sys.exit(command.run(main, reader_may_leave=True))
