"""`--allocate`: before a run begins, give each layer a number of its own, by what its errors cost the network of --init_from.

request = allocate(request, device, ranks)       # its conv is a mixed name now; without --allocate it is as it was

What was found is a part of the run: a resumed run takes it from its record, and so does whoever is taught by it.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice

import torch
from torch import Tensor

from counting.sides import check_side
from data import find, labels_of, load_data
from distributed.process_group import Ranks
from input import cache
from models.build import reference
from record.found import find as find_run
from record.found import refuse
from record.identity import asked, name_of
from system.configuration import Configuration
from system.errors import RequestError
from training.device import strict, to_device
from training.prepare import check_meaning, check_norms, check_parts, facts_of, identified
from training.report import Report, aside
from weights import allocation
from weights.classes import check_classes
from weights.origin import as_narrow, build_teacher, check_takes, init_fault, origin

IMAGES = 512  # training images, augmented as for training, by which sensitivities are measured


def allocate(request: Configuration, device: torch.device, ranks: Ranks) -> Configuration:
    """Return a request with the numbers that --allocate finds, which rank 0 prints; as it is where it does not ask for that.

    Raise RequestError or MachineFault, on all ranks, where anything of it cannot be. What can be wrong with the run beside
    its numbers is found before they are sought.
    """
    if not request.allocate:
        return request
    conv, told = ranks.broadcast(ranks.on_first(lambda: _found(request, device, ranks)))
    with aside(request):
        Report(ranks).say(told)
    return request | {"conv": conv, "allocate": request.conv}


def _found(request: Configuration, device: torch.device, ranks: Ranks) -> tuple[str, str]:
    """Return the mixed name, and what a person is told of it."""
    found = find_run(name_of(request))
    before = found.config or {}
    if asked(before) == asked(request) and before.get("init_from") == request.init_from:
        return _as_begun(before, request)  # where that run has to be another, prepare says it
    request = as_narrow(request, found)
    check_side(request)
    source = find(request)
    start = origin(request.init_from, request, "run")
    if fault := init_fault(request, start.config):
        raise RequestError(f"--init_from {request.init_from}: {fault}")
    allocation.open_curves(request)
    network = reference(request)
    check_norms(request, network)
    teacher = build_teacher(request, network) if request.mode == "student" else None
    config = identified(request, teacher, start) | {"conv": asked(request)}
    shown = found._replace(config={**before, "conv": asked(before)} if before else None)
    refuse(name_of(request), config, shown, request.resume)
    if before:  # the run by another name of what it starts from
        return _as_begun(before, request)
    trained = to_device(start.network, device)
    with cache.deferred():
        data = load_data(request, source, device)
        config |= facts_of(data)
        check_meaning(name_of(request), labels_of(data), found, teacher, config)
        if teacher is not None:
            check_classes(request.teacher_checkpoint, "teacher", teacher.config, config)
        check_parts(config, data, ranks)
        check_takes(trained, data.side, f"the run {request.init_from!r}", request)
        with strict(), closing(_images(data)) as batches:
            best = allocation.allocate(request, trained, batches)
    return str(best.conv), allocation.report(best)


def _as_begun(before: Mapping, request: Configuration) -> tuple[str, str]:
    """Return the same of a run that exists. Nothing is told where it does not go on."""
    return before["conv"], f"allocated when the run was begun: {before['conv']}" * bool(request.resume)


def _images(data) -> Iterator[Tensor]:
    """Yield the images of the first training batches."""
    for batch in islice(data.train(0), -(-IMAGES // data.batch_size)):
        yield batch.x
