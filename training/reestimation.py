"""Batch-norm's running statistics taken anew from training batches, for a test beside the plain one: --reestimate_bn.

    with reestimated(model, data, epoch=30) as is_whole:
        evaluate(model, data, data.test)

The running statistics are a moving average over the last steps. They lag where a step moves a map far, as that of a map
of many factors does (research-log.md). Here they are the mean over `data.reestimate_bn` batches by the weights of one
moment, as the statistics of Ioffe & Szegedy 2015 (1502.03167), algorithm 2, are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from distributed.process_group import ALONE, Ranks
from input.batches import Feed
from training.device import strict


def norms(model: nn.Module) -> list[nn.Module]:
    """Return the batch-norm layers of a network that keep running statistics."""
    return [each for each in model.modules() if isinstance(each, _BatchNorm) and each.running_mean is not None]


@contextmanager
def reestimated(
    model: nn.Module, data: Feed, epoch: int, should_stop: Callable[[], bool] = lambda: False, ranks: Ranks = ALONE
) -> Iterator[bool]:
    """Within it batch-norm's statistics are the mean over batches of the training split, from `epoch` on, in strict fp32.

    Yield False, with the statistics as they were, where `should_stop`, which is asked after each batch, said so.
    """
    layers = norms(model)
    buffers = [buffer for layer in layers for buffer in layer.buffers()]
    before, momenta = [buffer.clone() for buffer in buffers], [layer.momentum for layer in layers]
    try:
        means = _means(model, layers, data, epoch, should_stop, ranks)
        if means is not None:
            for statistic, mean in zip(_statistics(layers), means):
                statistic.copy_(mean)
        yield means is not None
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
        for buffer, value in zip(buffers, before):
            buffer.copy_(value)


def _statistics(layers: list[nn.Module]) -> list[Tensor]:
    return [statistic for layer in layers for statistic in (layer.running_mean, layer.running_var)]


@torch.no_grad()
def _means(
    model: nn.Module, layers: list[nn.Module], data: Feed, epoch: int, should_stop: Callable[[], bool], ranks: Ranks
) -> list[Tensor] | None:
    """Return the mean of each statistic over the batches and the ranks, in double precision; None where it was stopped.

    All else in the network is as in a test: drop-path drops nothing.
    """
    model.eval()
    for layer in layers:
        layer.training = True  # one that --train_where has frozen too
        layer.momentum = 1.0  # then its running statistics are those of the last batch
    statistics = _statistics(layers)
    length = 1 + sum(map(len, statistics))  # the number of batches, then their statistics
    sums = torch.zeros(length, dtype=torch.float64, device=data.device)
    with strict():
        batches = islice(data.full_batches(epoch), data.reestimate_bn)
        quiet = None if ranks.is_first else True
        for batch in tqdm(batches, "batch-norm", data.reestimate_bn, leave=False, unit="batch", disable=quiet):
            model(batch.x)
            if batch.images:
                sums += torch.cat([torch.ones(1, device=data.device), *statistics])
            if should_stop():
                return None
    counted, *means = ranks.all_reduce(sums).split([1, *map(len, statistics)])
    return [mean / counted for mean in means]
