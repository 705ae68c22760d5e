"""Every conv on every network: built at once, run both ways, copied, pickled, saved and loaded, made dense.

In the short set are every conv on a WideResNet and on one of the others that are not large, by turns; the long set adds
every third pair of the rest, so that each network has families of all kinds, and each family several networks.
"""

import copy
import io
import pickle
import time

import pytest
import torch
from families import ONE_EACH, VARIATIONAL

from cli import options
from layers.init import materialise
from models.build import build
from models.dense import densify, replacements
from models.registry import NETWORKS

SIZES = {
    "WideResNet": ["--wrn_depth", "16", "--wrn_width", "1"],
    "MobileNetV1": ["--width_mult", "0.5"],
    "MobileNetV2": ["--width_mult", "0.75"],  # the last 1×1 and the classifier have 1280 channels all the same
    "CifarResNet50": ["--width_mult", "0.25"],
}
LARGE = ("WRN_50_2", "DARTS", "VGG16", "CifarResNet18", "ResNet9")
EVERY = ONE_EACH + VARIATIONAL
REST = [each for each in NETWORKS if each not in ("WideResNet", *LARGE)]
ALIKE = ("HashedDecimate", "OriginalACDC")  # Hashed with a tenth, ACDC without a permutation: not on what is slow


def is_short(conv: str, network: str) -> bool:
    return network in ("WideResNet", REST[EVERY.index(conv) % len(REST)])


def is_long(conv: str, network: str) -> bool:
    turn = (EVERY.index(conv) + [*NETWORKS].index(network)) % 3 == 0
    return turn and (conv not in ALIKE or network not in LARGE) or (conv, network) == ("Sep", "DARTS")


def made(network, conv):
    dataset = "cifar10" if NETWORKS[network].side == 32 else "imagenet"
    flags = [dataset, "--network", network, "--conv", conv, *SIZES.get(network, [])]
    return materialise(build(options.counting(flags)), seed=0)


@pytest.mark.parametrize(
    "conv, network",
    [
        pytest.param(conv, each, marks=() if is_short(conv, each) else pytest.mark.long)
        for conv in EVERY
        for each in NETWORKS
        if is_short(conv, each) or is_long(conv, each)
    ],
)
def test_every_conv_on_every_network(conv, network):
    """Builds at once, runs forward and backward (on small images), and is copied, pickled, saved and loaded."""
    began = time.process_time()
    trained = made(network, conv)
    assert time.process_time() - began < 60  # not a matter of minutes, as decomposing would be
    assert "meta" not in {tensor.device.type for tensor in trained.state_dict().values()}
    output = trained(torch.randn(2, 3, 32, 32))
    losses = [output.logits, *output.taps, *([output.auxiliary_logits] if network == "DARTS" else [])]
    sum(part.square().mean() for part in losses).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.parameters())
    for parameter in trained.parameters():
        parameter.grad = None

    if network in LARGE and (network, conv) != ("DARTS", "Sep"):
        return  # they have no other blocks than the others
    stored, state = io.BytesIO(), trained.state_dict()
    torch.save(state, stored)
    assert stored.tell() <= 4 * sum(tensor.numel() for tensor in state.values()) + 500 * len(state)
    assert all(t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in state.values())
    stored.seek(0)
    fresh = made(network, conv)
    fresh.load_state_dict(torch.load(stored, weights_only=True))
    others = [fresh, copy.deepcopy(trained), pickle.loads(pickle.dumps(trained))]
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = trained.eval()(x).logits
        assert all(torch.equal(other.eval()(x).logits, expected) for other in others)
        densify(fresh)
        assert not replacements(fresh)
        assert (fresh(x).logits - expected).abs().max() <= 1e-4 * expected.abs().max()
