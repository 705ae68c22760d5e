"""What a network costs, before anyone trains it.

    python count.py cifar10 --conv Conv --wrn_width 10 --wrn_depth 28
    python count.py cifar10 --conv Shuffle_4 --table
    python count.py cifar100 --conv SepHashed_0.1 --json
    python count.py cifar10 --prune TopK_0.05
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

from cli import command, options
from cli.request import Request
from system.configuration import Configuration


def resolve(arguments: list[str] | None = None) -> Configuration:
    """Return the request of a command line; with --print_config print it and exit."""
    request = options.counting(arguments)
    return request.unless_printed() if isinstance(request, Request) else request


if __name__ == "__main__":
    command.check(resolve)  # --help and a wrong request are answered before torch is imported

from counting.costs import warn_of_uncounted
from counting.report import compare, comparison_table, layer_table, resolved_summary, text
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
        print(json.dumps(rows) if request.json else comparison_table(rows))
        return 0
    costs = _of_run(request) if "run" in request else resolved_summary(request, request.batch) | _left(request)
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


def _of_run(request: Configuration) -> dict:
    """Return the costs of a run's network."""
    from sparsity.run_costs import costs_of_run  # which reads checkpoints; no other request does

    return costs_of_run(request.run, request.batch)


if __name__ == "__main__":
    sys.exit(command.run(main, reader_may_leave=True))
