"""Every family in the registry, on every kind of shape, against the dense convolution that it says it equals."""

import copy
import io
import math
import pickle
import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from families import CONVS, ONE_EACH, STEADY, VARIATIONAL
from kernels import counted_and_seen
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import blocks
from blocks import block
from layers import separable
from layers.registry import parse_conv
from layers.spec import ConvSpec, ImpossibleShare

SHAPES = [
    (16, 32, 3, dict(padding=1)),
    (32, 16, 3, dict(stride=2, padding=1)),
    (144, 32, 1, dict()),
    (36, 36, 3, dict(padding=2, dilation=2)),
    (640, 640, 1, dict()),
    (12, 20, 1, dict(stride=2, padding=1, bias=True)),
    (9, 15, 5, dict(stride=2, padding=2, bias=True)),
    (21, 15, 3, dict(padding=1)),
]


def make(conv, shape, seed=0):
    i, o, k, extra = shape
    return block(conv, ConvSpec(i, o, k, **extra), seed, "groups.0.0.conv1")


def possible(conv, shape):
    """A share may be too large for a layer, then that is said."""
    try:
        return bool(blocks.build_block(parse_conv(conv), ConvSpec(*shape[:3], **shape[3])))
    except ImpossibleShare:
        return False


CASES = {conv: [shape for shape in SHAPES if possible(conv, shape)] for conv in CONVS}
each_conv = pytest.mark.parametrize("conv", CONVS)


def test_every_family_has_every_shape():
    walked = {(parse_conv(conv).family, shape[:3]) for conv, shapes in CASES.items() for shape in shapes}
    assert len(walked) == len(STEADY) * len(SHAPES)


def noisy_biases(made):
    for parameter in made.parameters():
        if parameter.ndim == 1 and not parameter.any():
            nn.init.normal_(parameter)


@each_conv
def test_dense_equivalent(conv):
    for shape in CASES[conv]:
        i, o, k, extra = shape
        torch.manual_seed(1)
        made = make(conv, shape)
        noisy_biases(made)
        geometry = {name: value for name, value in extra.items() if name != "bias"}
        for batch, side in ((1, 1), (2, 9), (24, 8)):  # large batches may take the other way of applying a map
            x = torch.randn(batch, i, side, side)
            with torch.no_grad():
                weight, out = made.weight(), made(x)
                dense = F.conv2d(x, weight, made.effective_bias(), **geometry)
            assert weight.shape == (o, i, k, k) and out.shape == dense.shape, shape
            assert (out - dense).norm() / dense.norm() < 1e-5, (shape, batch)


@each_conv
def test_parameters(conv):
    for shape in CASES[conv]:
        made = make(conv, shape)
        assert made.parameter_count() == sum(p.numel() for p in made.parameters()), shape
        made(torch.randn(4, shape[0], 4, 4)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters()), shape
        structured, own = made.structured_parameters(), {id(p) for p in made.parameters()}
        assert {id(p) for p in structured} <= own and len({id(p) for p in structured}) == len(structured)
        assert bool(structured) == (parse_conv(conv).family not in ("Conv", "Sep"))


@each_conv
def test_exact_mult_adds_are_what_runs(conv):
    """Maps that know which way is faster run that one, and are counted as the one of fewer multiply-adds."""
    for shape in CASES[conv]:
        made = make(conv, shape)
        for batch, side in ((1, 4), (24, 8)):
            with FlopCounterMode(display=False) as counter:  # with gradients: without them matrices are kept
                pixels = made(torch.randn(batch, shape[0], side, side))[:, 0].numel()
            told, ran = made.exact_mult_adds(side, side, batch), counter.get_total_flops() // 2
            counted, seen = counted_and_seen(getattr(made, "map", None), pixels) or (0, 0)
            assert told - counted == ran - seen, (shape, batch)


def channel_map(made):
    """The o×i matrix whose scale SPEC fixes, and what it should be; for a full k×k kernel its o×(i·k²) form."""
    kernel = made.weight()
    match made:
        case separable.Separable():
            return made.map.matrix()
        case _ if hasattr(made, "reduce"):
            return made._expand_matrix() @ made._reduce_matrix()
        case _ if hasattr(made, "pointwise"):
            return made._matrix()[:, :, 0, 0]
    return kernel * kernel.shape[2]


def test_the_table_of_initial_scales():
    """Of blocks.py: effective standard deviation over the dense one's, at 256 -> 256 and k = 3."""
    rows = re.findall(r"^    (\w+) +([0-9.]+)$", blocks.__doc__, re.MULTILINE)
    for (family, told), conv in zip(rows, ONE_EACH + VARIATIONAL, strict=True):
        made = block(conv, ConvSpec(256, 256, 3, padding=1), name="a")
        ratio = channel_map(made).square().mean().sqrt().item() / math.sqrt(2 / 256)
        assert parse_conv(conv).family == family
        assert ratio == pytest.approx(1, rel=0.05 if "ACDC" in family else 0.01)
        assert ratio == pytest.approx(float(told), abs=0.0015)


@each_conv
def test_the_channel_map_starts_at_the_dense_scale(conv):
    drawn_freely = parse_conv(conv).family in ("Conv", "Sep")
    for shape in CASES[conv]:
        bound = 4 / math.sqrt(2 * shape[0] * shape[1]) if drawn_freely else 0.05 if "ACDC" in conv else 0.01
        ratio = channel_map(make(conv, shape)).square().mean().sqrt().item() / math.sqrt(2 / shape[1])
        assert ratio == pytest.approx(1, rel=bound), shape


def test_depthwise_parts_start_at_their_scale():
    conv, sep = make("Conv", (64, 64, 3, {})), make("Sep", (256, 64, 3, {}))
    assert conv.kernel.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.03)
    assert sep.depthwise.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.06)
    assert make("Shuffle_4", (64, 256, 3, {})).depthwise.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.1)
    filters = make("SepHashedDecimate", (64, 64, 3, {}))._filters()
    assert filters.square().mean().sqrt().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=1e-5)


@pytest.mark.parametrize("conv", CONVS)
def test_copies(conv):
    shape = SHAPES[0] if possible(conv, SHAPES[0]) else (64, 64, 1, {})
    made, x = make(conv, shape), torch.randn(2, shape[0], 8, 8)
    out = made(x)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(other(x), out)
    stored = io.BytesIO()
    torch.save(made.state_dict(), stored)
    empty = io.BytesIO()
    torch.save({}, empty)
    assert stored.tell() - empty.tell() <= 4 * made.parameter_count() + 500 * len(made.state_dict())
    fresh = make(conv, shape)
    nn.init.zeros_(next(fresh.parameters()))
    stored.seek(0)
    fresh.load_state_dict(torch.load(stored, weights_only=True))
    assert torch.equal(fresh(x), out)
    assert torch.equal(made.double().float()(x), out)  # a cast there and back
    traced = make(conv, shape)
    with warnings.catch_warnings(
        action="ignore"
    ):  # torch.jit is deprecated, but FLOP counters of other libraries use it
        traced = torch.jit.trace(traced, x)
    assert torch.equal(traced(x), out)


@pytest.mark.long
@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("k", [1, 3])
def test_gradcheck(conv, k):
    if not possible(conv, (4, 8, k, {})):
        conv = "SepHashedFull_0.2"
    if parse_conv(conv).numbers == (12,):  # eleven factors take seconds, three do
        conv += "_4"
    made = block(conv, ConvSpec(4, 8, k, padding=k // 2, bias=True), name="a").double()
    noisy_biases(made)
    parameters = list(made.parameters())
    for batch in (1, 3):  # factor by factor, and rebuilt
        x = torch.randn(batch, 4, 3, 3, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, *_: made(x), (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("conv", ONE_EACH)
def test_bfloat16_autocast(conv):
    """Of a few digits, forward and backward."""
    made, x = make(conv, (32, 32, 3, dict(padding=1))), torch.randn(2, 32, 8, 8)
    out = made(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = made(x)
    rounded.float().square().sum().backward()
    assert (out - rounded).norm() / out.norm() < 0.03


@pytest.mark.long  # 7 s, and 40 s where the compiler has kept nothing
@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
def test_compiled_hashed_blocks_are_the_same():
    """As main.py compiles: after one pass, in which what is computed once stays out of the graph."""
    eager = nn.Sequential(
        *(block("SepHashed_0.1", ConvSpec(i, o, 1), name=f"{i}") for i, o in ((16, 32), (32, 48), (48, 10)))
    )
    compiled, x = copy.deepcopy(eager), torch.randn(2, 16, 8, 8)
    compiled(x)
    compiled.compile()
    for made in (eager, compiled):
        made(x).square().sum().backward()
    torch.testing.assert_close(eager(x), compiled(x))
    for a, b in zip(eager.parameters(), compiled.parameters()):
        assert (a.grad - b.grad).norm() < 1e-4 * a.grad.norm()


@pytest.mark.parametrize("conv", ["SepHashed_0.1", "PermutedACDC_2"])
def test_a_seeded_block_trains_after_inference_mode(conv):
    made, x = make(conv, SHAPES[0]), torch.randn(2, 16, 8, 8)
    with torch.inference_mode():
        made(x)
    made(x).sum().backward()


@pytest.mark.parametrize("conv", ["SepHashed_0.5", "PermutedACDC_3"])
def test_replicas_find_their_own_structure(conv):
    made = make(conv, (8, 8, 1, {}))
    made(torch.randn(1, 8, 2, 2))
    part = made.map.shared if conv.startswith("Sep") else made.map
    assert part._structure is not None and part._replicate_for_data_parallel()._structure is None
