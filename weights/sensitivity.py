"""How much the loss of a trained network rises with an error in the kernel of one layer.

To second order it rises by ½·δᵀ·F·δ for an error δ of a kernel, F the Fisher information (Theis et al. 2018, 1801.05787).
Of an error of n entries in whatever direction that is ½·Tr(F)/n·‖δ‖² on average, as Dong et al. 2020 (HAWQ-V2,
1911.03852) have it with the Hessian. In relative errors e = ‖δ‖/‖W‖ that is ½·s·e², with the sensitivity
s = Tr(F)/n·‖W‖².

    sensitivities(network, ["groups.0.0.conv1"], (batch.x for batch in batches), seed=0)     # {"groups.0.0.conv1": 1.7}

Of one image F = Jᵀ(diag(p) − p·pᵀ)J, with the probabilities p and the Jacobian J of the logits. For z of random signs,
v = √p·z − p·(√p·z) has that covariance in the middle, so E‖Jᵀv‖² = Tr(F). Signs of different images are independent, so
one backward pass over a batch estimates the sum over its images. No label is needed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from tqdm import tqdm

from blocks import BlockAsLinear, spec_of
from layers.spec import ConvSpec
from system.hashing import key
from weights.approximation import dense

Calls = list[tuple[str, Tensor, Tensor]]  # a layer's name, what it was given and what it gave


def sensitivities(network: nn.Module, layers: Sequence[str], batches: Iterable[Tensor], seed: int) -> dict[str, float]:
    """Return the sensitivity of each of the layers, which equal convolutions, by its dotted name.

    Args: batches: images (B, 3, H, W) on the network's device; seed: of the random signs. The network is left in
    evaluation mode; its gradients are not touched.
    """
    network.eval()
    generator = torch.Generator().manual_seed(key("sensitivity", seed))
    specs = {name: _spec(network.get_submodule(name)) for name in layers}
    traces, images = dict.fromkeys(layers, 0.0), 0
    for x in tqdm(batches, desc="sensitivities", unit="batch", disable=None, leave=False):
        with torch.enable_grad(), _recorded(network, layers) as calls:
            scalar = _projected(network(x).logits.float(), generator)
        gradients = torch.autograd.grad(scalar, [y for _, _, y in calls], allow_unused=True)
        for name, square in _squares(calls, gradients, specs).items():
            traces[name] += square
        images += len(x)
    found = {}
    for name in layers:
        kernel, _ = dense(network.get_submodule(name))
        found[name] = traces[name] / images * kernel.square().mean().item()  # ‖W‖²/n
    return found


def _spec(module: nn.Module) -> ConvSpec | None:
    """Return the convolution that a module equals, None for a Linear and what stands in the place of one."""
    return None if isinstance(module, nn.Linear | BlockAsLinear) else spec_of(module)


def _projected(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Return Σ v·logits over a batch (B, classes), v as above."""
    signs = torch.randint(0, 2, logits.shape, generator=generator).to(logits) * 2 - 1
    p = logits.detach().softmax(dim=1)
    drawn = p.sqrt() * signs
    return ((drawn - p * drawn.sum(dim=1, keepdim=True)) * logits).sum()


def _squares(calls: Calls, gradients: Sequence[Tensor | None], specs: dict[str, ConvSpec | None]) -> dict[str, float]:
    """Return the squared norm of the gradient of each layer's kernel, summed over the layer's calls before."""
    of_kernel: dict[str, Tensor] = {}
    for (name, x, _), gradient in zip(calls, gradients):
        if gradient is not None:
            one = _kernel_gradient(x, gradient, specs[name])
            of_kernel[name] = of_kernel[name] + one if name in of_kernel else one
    return {name: gradient.double().square().sum().item() for name, gradient in of_kernel.items()}


def _kernel_gradient(x: Tensor, gradient: Tensor, spec: ConvSpec | None) -> Tensor:
    """Return the gradient of a kernel (o, i, k, k), of a Linear (o, i), from a layer's input and its output's gradient."""
    if spec is None:
        return gradient.reshape(-1, gradient.shape[-1]).t() @ x.reshape(-1, x.shape[-1])
    shape = (spec.out_channels, spec.in_channels, spec.kernel_size, spec.kernel_size)
    return torch.nn.grad.conv2d_weight(x, shape, gradient, spec.stride, spec.padding, spec.dilation)


@contextmanager
def _recorded(network: nn.Module, layers: Sequence[str]) -> Iterator[Calls]:
    """Yield a list to which each call of the layers within the context is added."""
    calls: Calls = []

    def recorder(name: str) -> Callable:
        def record(module: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> Tensor:
            calls.append((name, given[0].detach(), y))
            return y.clone()  # what comes next may write into its input

        return record

    with ExitStack() as stack:
        for name in layers:
            stack.callback(network.get_submodule(name).register_forward_hook(recorder(name)).remove)
        yield calls
