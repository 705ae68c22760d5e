"""What a network is computed on: the device, the memory layout, the precision, the compiler.

device = choose_device(request)
network = to_device(network, device)
with precision_of(request, device)(): network(x)
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn

from distributed import launch
from layers.base import ChannelMap
from layers.strided import slice_strided
from system.configuration import Configuration
from system.errors import RequestError

SIZES = 64  # of batches that a network is compiled for, in training and evaluation, a teacher's that shares its code included


def choose_device(request: Configuration) -> torch.device:
    """Return the GPU that was asked for, else the first one (each process of a machine its own), else the CPU.

    Raise RequestError where there is no such GPU.
    """
    gpus, mine = torch.cuda.device_count(), launch.local_rank()
    if request.device == "cuda" and not gpus:
        raise RequestError("--device cuda: torch sees no GPU here, --device cpu is allowed")
    chosen = request.GPU or list(range(max(gpus, 1)))
    if request.GPU and max(chosen) >= gpus:
        allowed = f"0 to {gpus - 1} are allowed" if gpus else "torch sees none here, leave --GPU out to use the CPU"
        raise RequestError(f"--GPU {max(chosen)}: there is no such GPU, {allowed}")
    if request.device == "cpu" or not gpus:
        return torch.device("cpu")
    if launch.local_world_size() > len(chosen):
        shown = ",".join(map(str, chosen))
        raise RequestError(f"--GPU {shown}: {launch.local_world_size()} processes on this machine need a GPU each")
    torch.cuda.set_device(chosen[mine])  # or threads that pin memory would open another one
    return torch.device("cuda", chosen[mine])


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to its device, channels-last, with which the convolutions of CPUs and GPUs are faster.

    On a CPU every strided 1×1 convolution takes its pixels first (layers/strided.py).
    """
    if device.type == "cpu":
        slice_strided(network)
    return network.to(device, memory_format=torch.channels_last)


def compile_all(request: Configuration, networks: list[nn.Module], side: int) -> None:
    """Compile the networks where --compile asks for it. Args: side: rows and columns of the images."""
    if request.compile:
        for network in networks:
            compile_for(network, side, **compile_options(request, next(network.parameters()).device))


def compile_options(request: Configuration, device: torch.device) -> dict:
    """Return how the networks of a request are compiled.

    Each size of batch has code of its own: code for any size would be made at the second size that comes, which is another one in
    a resumed run, and its sums have another order. On a GPU a step is captured in CUDA graphs where it is one pass in one process:
    gradients that are added up or exchanged would lie in memory that the next pass writes over.
    """
    whole = not request.grad_accum and launch.world_size() == 1
    return {"mode": "reduce-overhead" if whole and device.type == "cuda" else None, "dynamic": False}


@torch.no_grad()
def compile_for(network: nn.Module, side: int, **options) -> None:
    """Compile a network after one pass, so that what is computed once stays out of the graph."""
    for module in network.modules():
        if isinstance(module, ChannelMap):
            module.form_constants()
    device = next(network.parameters()).device
    network.eval()(torch.zeros(1, 3, side, side, device=device))
    torch._dynamo.config.recompile_limit = SIZES
    network.compile(**options)


def precision_of(request: Configuration, device: torch.device) -> Callable[[], AbstractContextManager]:
    """Return what makes the context of a forward pass.

    fp32 is strict, tf32 lets matrix products and convolutions of a GPU round, bf16 runs them in bfloat16.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = request.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    return partial(torch.autocast, device.type, torch.bfloat16) if request.precision == "bf16" else nullcontext


@contextmanager
def strict() -> Iterator[None]:
    """Within it fp32 is strict on a GPU too, whatever the precision of training."""
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    try:
        yield
    finally:
        for place, allowed in zip(places, before):
            place.allow_tf32 = allowed
