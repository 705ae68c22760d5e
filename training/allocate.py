"""`--allocate`: before a run begins, give each layer a number of its own, by what its errors cost the network of --init_from.

request = allocate(request, device, ranks)       # its conv is a mixed name now; without --allocate it is as it was

What was found is a part of the run: a resumed run takes it from its record, and so does whoever is taught by it.
"""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import torch
from torch import Tensor

from counting.sides import check_side
from data import find, load_data
from distributed.process_group import Ranks
from input import cache
from record.found import find as find_run
from record.identity import name_of
from system.configuration import Configuration
from system.errors import RequestError
from training.device import strict, to_device
from training.report import Report, aside
from weights import allocation
from weights.origin import check_takes, init_fault, origin

IMAGES = 512  # training images, augmented as for training, by which sensitivities are measured


def allocate(request: Configuration, device: torch.device, ranks: Ranks) -> Configuration:
    """Return a request with the numbers that --allocate finds, which rank 0 prints; as it is where it does not ask for that.

    Raise RequestError or MachineFault, on all ranks, where anything of it cannot be.
    """
    if not request.allocate:
        return request
    conv, told = ranks.broadcast(ranks.on_first(lambda: _found(request, device)))
    with aside(request):
        Report(ranks).say(told)
    return request | {"conv": conv, "allocate": request.conv}


def _found(request: Configuration, device: torch.device) -> tuple[str, str]:
    """Return the mixed name, and what a person is told of it."""
    before = find_run(name_of(request)).config or {}
    if (
        all(before.get(key) == request[key] for key in ("budget", "init_from"))
        and before.get("allocate") == request.conv
    ):
        return before["conv"], f"allocated when the run was begun: {before['conv']}"
    check_side(request)
    start, source = origin(request.init_from, request, "run"), find(request)
    if fault := init_fault(request, start.config):
        raise RequestError(f"--init_from {request.init_from}: {fault}")
    trained = to_device(start.network, device)
    with cache.deferred():
        data = load_data(request, source, device)
        check_takes(trained, data.side, f"the run {request.init_from!r}", request)
        with strict(), closing(_images(data)) as batches:
            found = allocation.allocate(request, trained, batches)
    return str(found.conv), allocation.report(found)


def _images(data) -> Iterator[Tensor]:
    """Yield the images of the first training batches."""
    for batch in islice(data.train(0), -(-IMAGES // data.batch_size)):
        yield batch.x
