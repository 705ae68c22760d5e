"""What a network is computed on: the device, the layout, the precision, the compiler.

device = choose_device(request)
network = settle(network, device)
with precision_of(request, device)(): network(x)
"""

from contextlib import nullcontext
from functools import partial

import torch
from torch import nn

from distributed import launch
from layers.strided import slice_strided
from system.configuration import Configuration
from system.errors import RequestError


def choose_device(request: Configuration) -> torch.device:
    """The GPU that was asked for, else the first one (of the processes on one machine each its own), else the CPU.
    RequestError where there is no such GPU."""
    gpus, mine = torch.cuda.device_count(), launch.local_rank()
    if request.device == "cuda" and not gpus:
        raise RequestError("--device cuda: torch sees no GPU here, --device cpu is allowed")
    numbers = request.GPU or list(range(max(gpus, 1)))
    if request.GPU and max(numbers) >= gpus:
        allowed = f"0 to {gpus - 1} are allowed" if gpus else "torch sees none here, leave --GPU out to use the CPU"
        raise RequestError(f"--GPU {max(numbers)}: there is no such GPU, {allowed}")
    if request.device == "cpu" or not gpus:
        return torch.device("cpu")
    if launch.local_count() > len(numbers):
        shown = ",".join(map(str, numbers))
        raise RequestError(f"--GPU {shown}: {launch.local_count()} processes on this machine need a GPU each")
    torch.cuda.set_device(numbers[mine])  # or threads that pin memory would open another one
    return torch.device("cuda", numbers[mine])


def settle(network: nn.Module, device: torch.device) -> nn.Module:
    """On its device, channels-last (which both the CPU's and the GPU's convolutions are faster with). On a CPU every strided
    1×1 convolution takes its pixels first (layers/strided.py)."""
    if device.type == "cpu":
        slice_strided(network)
    return network.to(device, memory_format=torch.channels_last)


@torch.no_grad()
def compile_for(network: nn.Module, side: int) -> None:
    """Compiles it after one pass, so that what is computed once stays out of the graph."""
    device = next(network.parameters()).device
    network.eval()(torch.zeros(1, 3, side, side, device=device))
    network.compile()


def precision_of(request: Configuration, device: torch.device):
    """The context of a forward pass; fp32 is strict, tf32 lets matrix products and convolutions of a GPU round."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = request.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    return partial(torch.autocast, device.type, torch.bfloat16) if request.precision == "bf16" else nullcontext
