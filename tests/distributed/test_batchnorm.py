"""Batch-norm over several processes against batch-norm over the whole batch in double precision."""

import os

import pytest
import torch
import torch.distributed as dist
from children import context, started
from ranks import free_port
from torch import nn

from distributed.batchnorm import SynchronisedBatchNorm2d, synchronise


def made(layout: torch.memory_format) -> tuple[nn.BatchNorm2d, torch.Tensor, torch.Tensor]:
    """A layer, 7 images whose mean is far from 0, and a gradient of its output."""
    generator = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(5)
    with torch.no_grad():
        norm.weight.normal_(generator=generator), norm.bias.normal_(generator=generator)
    x = (torch.randn(7, 5, 6, 4, generator=generator) * 3 + 20).to(memory_format=layout)
    return norm, x, torch.randn(7, 5, 6, 4, generator=generator)


def results(norm: nn.BatchNorm2d, x: torch.Tensor, gradient: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = norm(x)
    y.backward(gradient)
    return [y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]


def member(rank: int, count: int, port: int, layout: torch.memory_format, queue) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo", rank=rank, world_size=count)
    norm, x, gradient = made(layout)
    synchronise(norm)
    found = results(norm, x[rank::count], gradient[rank::count])
    for each in found[2:4]:
        dist.all_reduce(each)
    queue.put((rank, [each.numpy() for each in found]))
    queue.close(), queue.join_thread()
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [1, 3])
def test_it_is_batch_norm_over_the_whole_batch(count, layout):
    norm, x, gradient = made(layout)
    expected = results(norm.double(), x.double(), gradient.double())
    if count == 1:
        norm, x, gradient = made(layout)
        synchronise(norm)
        shares = [results(norm, x, gradient)]
    else:
        queue, port = context.Queue(), free_port()
        members = [started(member, rank, count, port, layout, queue) for rank in range(count)]
        shares = [[torch.from_numpy(a) for a in found] for _, found in sorted(queue.get(timeout=60) for _ in members)]
        for each in members:
            each.join(60)
    for rank, found in enumerate(shares):
        for place, (value, whole) in enumerate(zip(found, expected)):
            whole = whole[rank::count] if place < 2 else whole
            assert torch.allclose(value.double(), whole, rtol=1e-5, atol=2e-5), place


def test_in_evaluation_it_is_the_same_layer():
    norm, x, _ = made(torch.contiguous_format)
    before, state = norm.eval()(x), norm.state_dict()
    synchronise(norm)
    assert type(norm) is SynchronisedBatchNorm2d and torch.equal(norm(x), before)
    assert norm.state_dict().keys() == state.keys()


def test_half_precision_stays_half():
    norm = nn.BatchNorm2d(3)
    synchronise(norm)
    x = torch.randn(4, 3, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    y = norm(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == torch.bfloat16 and norm.weight.grad.dtype == torch.float32
