"""Strided 1×1 convolutions in channels-last on a CPU: gradients are those of contiguous memory, whatever the width."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from families import ONE_EACH
from torch import nn

import blocks
from layers.init import materialise
from layers.spec import ConvSpec
from layers.strided import SlicedConv2d, conv2d, slice_strided
from layers.user import UserConv
from models.build import build
from training.device import to_device

CPU = torch.device("cpu")
WRN = {"dataset": "cifar10", "network": "WideResNet", "wrn_depth": 10, "AT_split": 1, "conv": "Conv", "seed": 0,
       "image_size": None, "module": None, "where": ""}  # fmt: skip


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def gradients(function, *tensors):
    """Of what a function gives, with respect to its arguments, for one fixed gradient of the result."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    result = function(*leaves)
    direction = torch.randn(result.shape, generator=torch.Generator().manual_seed(1)).to(result)
    return [result.detach(), *torch.autograd.grad(result, leaves, direction)]


def channels_last(*tensors):
    return [tensor.to(memory_format=torch.channels_last) for tensor in tensors]


@pytest.mark.parametrize("stride, padding", [(2, 0), (3, 0), ((2, 3), (1, 0)), ((2,), "valid")])
def test_gradients_at_every_width(stride, padding, threads):
    for width in (*range(1, 19), 24, 31, 33, 40):  # around multiples of what a vector instruction takes
        x, weight, bias = torch.randn(8, width, 9, 9), torch.randn(width + 3, width, 1, 1), torch.randn(width + 3)
        with torch.no_grad():
            dense = F.conv2d(x.double(), weight.double(), bias.double(), stride, padding)
        found = gradients(lambda *a: conv2d(*a, stride, padding), *channels_last(x, weight), bias)
        pixels = dense.shape[2] * dense.shape[3] * len(x)
        exact = gradients(lambda *a: F.conv2d(*a, stride, padding), x.double(), weight.double(), bias.double())
        for ours, theirs in zip(found, exact):
            assert torch.allclose(ours.double(), theirs, atol=1e-5 * pixels**0.5 * width**0.5), width


@pytest.mark.parametrize("width", [1, 4, 7, 8, 16])
def test_depthwise_grouped_and_padded_convolutions(width, threads):
    for make in (
        lambda: nn.Conv2d(width, width, 1, 2, groups=width),
        lambda: nn.Conv2d(width, 2 * width, 1, 2, padding=1, padding_mode="circular"),
        lambda: nn.Conv2d(width, 2 * width, 1, (1, 2), padding=(0, 1), bias=False),
    ):
        plain = make()
        sliced = copy.deepcopy(plain)
        slice_strided(sliced)
        assert type(sliced) is SlicedConv2d and list(sliced.state_dict()) == list(plain.state_dict())
        x = torch.randn(4, width, 8, 8)
        for ours, theirs in zip(gradients(sliced, *channels_last(x)), gradients(plain, x)):
            assert torch.allclose(ours, theirs, atol=1e-5)
        pickle.loads(pickle.dumps(copy.deepcopy(sliced)))(x)


def run(network, layout):
    network.train()
    x = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
    network(x).logits.square().sum().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("width", [0.0625, 0.32])
def test_a_narrow_network_has_the_gradients_of_contiguous_memory(width, threads):
    plain = materialise(build(WRN | {"wrn_width": width}), 0)
    ours, theirs = run(to_device(copy.deepcopy(plain), CPU), torch.channels_last), run(plain, torch.contiguous_format)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).abs().max() <= 0.02 * gradient.abs().max(), name


def strided_pointwise(network, inputs):
    """How often torch itself was asked for a strided 1×1 convolution."""
    seen = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func in (torch.conv2d, torch.ops.aten.convolution):
                stride = (kwargs or {}).get("stride", args[3] if len(args) > 3 else 1)
                seen.append(args[1].shape[-1] == 1 and stride not in (1, (1, 1)))
            return func(*args, **kwargs or {})

    with Watch():
        network(inputs)
    assert seen
    return sum(seen)


USER = """
import torch
import torch.nn.functional as F
from torch import nn

class Own(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)

class Conv(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, bias):
        super().__init__()
        self.inner = Own(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.plain = nn.Conv2d(out_channels, out_channels, 1, stride)

    def forward(self, x):
        x = self.inner(x)
        stride = list(self.plain.stride)
        other = torch.ops.aten.convolution(x, self.plain.weight, None, stride, [0, 0], [1, 1], False, [0, 0], 1)
        return self.plain(x) + F.conv2d(x, self.plain.weight, stride=self.plain.stride) + other
"""


def test_nothing_reaches_torchs_own(tmp_path):
    """Neither shortcuts, factorised reductions and 1×1 blocks, nor a user's module or another library's network."""
    import torchvision

    (tmp_path / "own.py").write_text(USER)
    own = build(WRN | {"wrn_width": 0.5, "conv": None, "module": str(tmp_path / "own.py")})
    darts = build({**WRN, "network": "DARTS", "conv": "Sep"})
    for network in (own, darts, build(WRN | {"wrn_width": 0.5})):
        network = to_device(materialise(network, 0), CPU).eval()
        with torch.no_grad():
            assert strided_pointwise(network, torch.randn(1, 3, 32, 32)) == 0
    foreign = to_device(torchvision.models.resnet18(num_classes=10), CPU).eval()
    with torch.no_grad():
        assert strided_pointwise(foreign, torch.randn(1, 3, 64, 64)) == 0
    for conv in ONE_EACH:
        made = blocks.block(conv, ConvSpec(16, 32, 1, stride=2))
        assert strided_pointwise(made, torch.randn(2, 16, 6, 6)) == 0, conv


def test_a_users_module_stays_the_class_that_it_is(tmp_path):
    (tmp_path / "own.py").write_text(USER)
    user = UserConv(str(tmp_path / "own.py"))
    made = user.build(ConvSpec(4, 8, 3, stride=2, padding=1), key=0)
    x = torch.randn(2, 4, 8, 8)
    before = made(x)
    slice_strided(made)
    slice_strided(made)  # once more changes nothing
    assert isinstance(made, user.cls) and type(made).__name__ == "Conv" and torch.allclose(made(x), before, atol=1e-5)
    assert torch.allclose(copy.deepcopy(made)(x), before, atol=1e-5)
