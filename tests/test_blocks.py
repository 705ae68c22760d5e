"""Every family in the registry, on every kind of shape, against the dense convolution that it says it equals."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import blocks
from blocks import block, substitute
from errors import RequestError
from layers.base import Block
from names import FAMILIES, parse_conv

CONVS = [
    "Conv",
    "Sep",
    "Generic_0.1",
    "Generic_0.9",
    "SepHashed_0.1",
    "SepHashed_1",
    "Shuffle_1",
    "Shuffle_3",
    "Shuffle_8",
]
SHAPES = [
    (16, 32, 3, dict(padding=1)),
    (32, 16, 3, dict(stride=2, padding=1)),
    (144, 32, 1, dict()),
    (36, 36, 3, dict(padding=2, dilation=2)),
    (640, 640, 3, dict(padding=1)),
    (12, 20, 1, dict(stride=2, padding=1, bias=True)),
    (9, 15, 5, dict(stride=2, padding=2, bias=True)),
]
cases = pytest.mark.parametrize("conv, shape", [(c, s) for c in CONVS for s in SHAPES], ids=lambda v: str(v))


def test_every_family_is_walked():
    assert {conv.split("_")[0] for conv in CONVS} == set(FAMILIES)


def make(conv, shape, seed=0):
    i, o, k, extra = shape
    return block(conv, i, o, k, seed=seed, name="groups.0.0.conv1", **extra)


def noisy_biases(made):
    for bias in (getattr(made, "bias", None), made.effective_bias()):
        if bias is not None:
            nn.init.normal_(bias)


@cases
def test_dense_equivalent(conv, shape):
    i, o, k, extra = shape
    torch.manual_seed(1)
    made = make(conv, shape)
    noisy_biases(made)
    for batch, side in ((2, 9), (40, 8)):  # large batches may take the other way of applying a map
        x = torch.randn(batch, i, side, side)
        geometry = {name: value for name, value in extra.items() if name != "bias"}
        dense = F.conv2d(x, made.weight(), made.effective_bias(), **geometry)
        assert made.weight().shape == (o, i, k, k)
        out = made(x)
        assert out.shape == nn.Conv2d(i, o, k, **extra)(x).shape
        assert (out - dense).norm() / dense.norm() < 1e-5


@cases
def test_parameters(conv, shape):
    made = make(conv, shape)
    assert made.parameter_count() == sum(p.numel() for p in made.parameters())
    made(torch.randn(4, shape[0], 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())
    structured, own = made.structured_parameters(), {id(p) for p in made.parameters()}
    assert {id(p) for p in structured} <= own and len({id(p) for p in structured}) == len(structured)


@cases
def test_exact_mult_adds_are_what_runs(conv, shape):
    made = make(conv, shape)
    for batch, side in ((1, 4), (3, 8), (16, 16)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            made(torch.randn(batch, shape[0], side, side))
        assert made.exact_mult_adds(side, side, batch) == counter.get_total_flops() // 2


@pytest.mark.parametrize("conv", ["Sep", "Generic_0.1", "SepHashed_0.1", "SepHashed_0.001", "Shuffle_4"])
@pytest.mark.parametrize("i, o", [(64, 128), (128, 64)])
def test_the_channel_map_starts_at_the_dense_scale(conv, i, o):
    made = make(conv, (i, o, 1, {}))
    kernel = made.weight()
    if conv.startswith("Shuffle"):
        kernel = made._expand_matrix() @ made._reduce_matrix()
    assert kernel.square().mean().sqrt().item() == pytest.approx(math.sqrt(2 / o), rel=0.03 if conv == "Sep" else 1e-5)


def test_dense_and_depthwise_start_at_their_scale():
    conv, sep = make("Conv", (64, 64, 3, {})), make("Sep", (256, 64, 3, {}))
    assert conv.kernel.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.03)
    assert sep.depthwise.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.06)
    assert make("Shuffle_4", (64, 256, 3, {})).depthwise.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.1)


@pytest.mark.parametrize("conv", CONVS)
def test_copies(conv):
    made, x = make(conv, SHAPES[0]), torch.randn(2, 16, 8, 8)
    out = made(x)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(other(x), out)
    stored = io.BytesIO()
    torch.save(made.state_dict(), stored)
    assert (
        stored.tell() <= 4 * made.parameter_count() + 500 * len(made.state_dict()) + 2000
    )  # the last for the empty file
    fresh = make(conv, SHAPES[0])
    nn.init.zeros_(next(fresh.parameters()))
    stored.seek(0)
    fresh.load_state_dict(torch.load(stored, weights_only=True))
    assert torch.equal(fresh(x), out)


@pytest.mark.parametrize("conv", ["Generic_0.5", "SepHashed_0.3", "Shuffle_2"])
def test_gradcheck(conv):
    made = make(conv, (4, 8, 3, dict(padding=1, bias=True))).double()
    x = torch.randn(2, 4, 4, 4, dtype=torch.double, requires_grad=True)
    parameters = list(made.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: made(x), (x, *parameters))


def numpy_splitmix(position, key):
    """SplitMix64's finaliser on unsigned integers, from its definition."""
    x = np.arange(position, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).astype(np.int64)


def test_weights_against_numpy():
    i, o, k = 12, 20, 3
    generic, hashed, shuffle = (make(c, (i, o, k, {})) for c in ("Generic_0.25", "SepHashed_0.1", "Shuffle_5"))

    down, up, dw = (p.detach().numpy() for p in (generic.map.down, generic.map.up, generic.depthwise))
    assert down.shape == (5, 12)  # int(0.25 · 20)
    np.testing.assert_allclose(
        generic.weight().detach(), np.einsum("or,ri,iyx->oiyx", up, down, dw[:, 0]), rtol=1e-5, atol=1e-7
    )

    numbers, dw = hashed.map.shared.numbers.detach().numpy(), hashed.depthwise.detach().numpy()
    assert len(numbers) == 24  # int(0.1 · 240)
    matrix = np.empty(240, np.float32)
    places = np.argsort(numpy_splitmix(240, hashed.map.shared.key), kind="stable")
    for place, entry in enumerate(places):
        matrix[entry] = numbers[place % 24]
    np.testing.assert_allclose(hashed.weight().detach(), matrix.reshape(o, i)[:, :, None, None] * dw[:, 0], rtol=1e-6)

    assert shuffle.groups == 1 and make("Shuffle_5", (48, 96, 3, {})).groups == 4
    two = make("Shuffle_2", (6, 8, 3, {}))  # g = 2, m = 2: groups of 3 inputs, 1 middle, 4 outputs
    g1, dw, g2 = (p.detach().numpy() for p in (two.reduce, two.depthwise, two.expand))
    expected = np.zeros((8, 6, 3, 3), np.float32)
    for out in range(8):
        middle = out // 4  # after the shuffle; g = m, so the shuffle is the identity here
        for inner in range(3):
            expected[out, 3 * middle + inner] = g2[out, 0, 0, 0] * dw[middle, 0] * g1[middle, inner, 0, 0]
    np.testing.assert_allclose(two.weight().detach(), expected, rtol=1e-5)


def test_shuffle_mixes_the_groups():
    made = make("Shuffle_2", (8, 16, 3, {}))  # g = 2, m = 4: middle channels (0, 1 | 2, 3) become (0, 2 | 1, 3)
    assert (made.weight().abs().sum((2, 3)) > 0).all()


@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
def test_compiled_hashed_blocks_are_the_same():
    """As main.py compiles: after one pass, in which what is computed once stays out of the graph."""
    eager = nn.Sequential(*(block("SepHashed_0.1", i, o, 1, name=f"{i}") for i, o in ((16, 32), (32, 48), (48, 10))))
    compiled, x = copy.deepcopy(eager), torch.randn(2, 16, 8, 8)
    compiled(x)
    compiled.compile()
    for made in (eager, compiled):
        made(x).square().sum().backward()
    torch.testing.assert_close(eager(x), compiled(x))
    for a, b in zip(eager.parameters(), compiled.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


def test_a_hashed_block_trains_after_inference_mode():
    made, x = make("SepHashed_0.1", SHAPES[0]), torch.randn(2, 16, 8, 8)
    with torch.inference_mode():
        made(x)
    made(x).sum().backward()


def test_partly_swapped_twice_and_with_a_keyed_stranger():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.key, self.query = nn.Linear(4, 4), nn.Linear(4, 4)

    model = Attention()
    substitute(model, parse_conv("Sep"))
    assert "substitution_seed" not in model.state_dict()  # a layer called key is no hash key
    with torch.device("meta"):
        model = Attention()
        substitute(model, parse_conv("SepHashed_0.5"), "key", seed=4)
        substitute(model, parse_conv("SepHashed_0.9"), "query", seed=4)
        with pytest.raises(RequestError, match="hashed by seed 4 already, not 5"):
            substitute(model, parse_conv("SepHashed_0.9"), "query", seed=5)
    built = Attention()
    substitute(built, parse_conv("SepHashed_0.5"), "key", seed=4)
    substitute(built, parse_conv("SepHashed_0.9"), "query", seed=4)
    late = blocks.materialise(model, seed=4).state_dict()
    assert all(torch.equal(late[name], value) for name, value in built.state_dict().items())


def test_fit_needs_a_place_for_a_bias():
    kernel, bias = torch.randn(20, 12, 1, 1), torch.randn(20)
    with pytest.raises(ValueError, match="without a bias"):
        make("Generic_0.5", (12, 20, 1, {})).fit(kernel, bias)
    made = make("Generic_0.5", (12, 20, 1, dict(bias=True)))
    made.fit(kernel, bias)
    assert torch.equal(made.effective_bias(), bias)


def test_hashing_is_balanced_and_depends_on_seed_and_name_alone():
    made = make("SepHashed_0.3", (10, 11, 1, {}))
    uses = torch.bincount(made.map.shared.places()[0])
    assert uses.sum() == 110 and len(uses) == 33 and set(uses.tolist()) == {3, 4}

    def index(seed, name):
        return block("SepHashed_0.3", 10, 11, 1, seed=seed, name=name).map.shared.places()[0]

    assert torch.equal(index(0, "a"), index(0, "a"))
    assert not torch.equal(index(0, "a"), index(1, "a")) and not torch.equal(index(0, "a"), index(0, "b"))


@pytest.mark.parametrize("conv, shape, bound", [
    ("Conv", SHAPES[0], 0.0), ("Sep", (12, 20, 1, {}), 1e-6), ("Generic_1", (12, 20, 3, {}), 0.95),
    ("Generic_1", (12, 20, 1, {}), 1e-6), ("SepHashed_1", (12, 20, 1, {}), 1e-6), ("Shuffle_1", (4, 16, 1, {}), 1e-3),
])  # fmt: skip
def test_fit(conv, shape, bound):
    made = make(conv, shape)
    kernel = torch.randn(made.weight().shape)
    error = made.fit(kernel)
    assert error == pytest.approx(((made.weight() - kernel).norm() / kernel.norm()).item(), abs=1e-6)
    assert error <= bound


@pytest.mark.parametrize("conv", ["Sep", "Generic_0.2", "Shuffle_2", "SepHashed_0.3"])
def test_fit_finds_a_kernel_of_its_own_family(conv):
    truth, made = make(conv, (8, 16, 3, {}), seed=1), make(conv, (8, 16, 3, {}), seed=1)
    made.reset_parameters(torch.Generator().manual_seed(5))
    # dw × hashed numbers is only determined up to a scale a channel, so one is fitted at k = 1
    if conv.startswith("SepHashed"):
        truth, made = make(conv, (8, 16, 1, {}), seed=1), make(conv, (8, 16, 1, {}), seed=1)
        made.reset_parameters(torch.Generator().manual_seed(5))
    assert made.fit(truth.weight().detach()) < 1e-3


def test_generic_fit_is_the_best_of_its_rank():
    made, matrix = make("Generic_0.2", (30, 20, 1, {})), torch.randn(20, 30)
    singular = torch.linalg.svdvals(matrix)
    assert made.fit(matrix[:, :, None, None]) == pytest.approx((singular[6:].norm() / singular.norm()).item(), rel=1e-4)


def test_substitute_takes_any_module():
    pair = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.Conv2d(8, 16, 1))
    model = nn.ModuleDict(
        {"stem": nn.Conv2d(3, 8, 3), "grouped": nn.Conv2d(8, 8, 3, groups=2), "pair": pair, "head": nn.Linear(16, 5)}
    )
    assert blocks.swappable(model) == ["stem", "pair", "head"]
    assert substitute(model, parse_conv("Generic_0.5"), "pair|head", seed=3) == ["pair", "head"]
    assert isinstance(model["stem"], nn.Conv2d) and isinstance(model["pair"], Block)
    assert model["pair"].spec == blocks.ConvSpec(8, 16, 3, 1, 1, 1, True)
    assert model["head"](torch.randn(7, 2, 16)).shape == (7, 2, 5)
    x = torch.randn(2, 16)
    dense = F.linear(x, model["head"].block.weight()[:, :, 0, 0], model["head"].block.effective_bias())
    torch.testing.assert_close(model["head"](x), dense)


def test_substitute_refuses():
    for never in (nn.Conv2d(3, 4, (1, 3)), nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()):
        with pytest.raises(RequestError, match="and there are none"):
            substitute(nn.ModuleDict({"a": never}), parse_conv("Sep"))
    with pytest.raises(RequestError, match="layer 'a' .3 -> 2. cannot be Shuffle_2: 2 output channels"):
        substitute(nn.ModuleDict({"a": nn.Conv2d(3, 2, 3)}), parse_conv("Shuffle_2"))
    with pytest.raises(RequestError, match="layer 'a' .3 -> 2. cannot be SepHashed_0.1: 0 stored numbers for 6"):
        substitute(nn.ModuleDict({"a": nn.Conv2d(3, 2, 3)}), parse_conv("SepHashed_0.1"))
    with pytest.raises(RequestError, match="matches none"):
        substitute(nn.ModuleDict({"a": nn.Conv2d(3, 2, 3)}), parse_conv("Sep"), where="b")


def test_a_state_hashed_by_another_seed_is_refused():
    def network(seed):
        model = nn.ModuleDict({"a": nn.Conv2d(3, 8, 3), "b": nn.Conv2d(8, 8, 3)})
        substitute(model, parse_conv("SepHashed_0.5"), seed=seed)
        return model

    assert int(network(7).state_dict()["substitution_seed"]) == 7
    copy.deepcopy(network(1)).load_state_dict(pickle.loads(pickle.dumps(network(1))).state_dict())
    with pytest.raises(RuntimeError, match="saved with seed 1"):
        copy.deepcopy(network(2)).load_state_dict(network(1).state_dict())
