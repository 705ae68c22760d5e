"""Butterfly, Monarch, BTT and Kronecker against plain NumPy from their formulas, grouped convolutions and numpy.kron."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernels import check, make
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blocks import block, build_block
from layers.grouped import even_split, faster, from_columns, to_columns
from layers.registry import parse_conv
from layers.spec import ConvSpec

SIZES = [(12, 20), (20, 12), (9, 9), (7, 12), (16, 16), (144, 32), (3, 7), (1, 6)]
sizes = pytest.mark.parametrize("i, o", SIZES)


def halves(n):
    """n₁ ≤ n₂ as even as they divide."""
    return max((a, n // a) for a in range(1, n + 1) if n % a == 0 and a * a <= n)


def test_even_splits():
    assert [even_split(n) for n in (1, 7, 12, 64, 640, 1000)] == [halves(n) for n in (1, 7, 12, 64, 640, 1000)]
    assert even_split(640) == (20, 32)


@sizes
def test_butterfly_weights(i, o):
    made, p = make("Butterfly", i, o)
    n = 2 ** math.ceil(math.log2(max(i, o)))
    product = np.eye(n)
    for level, blocks in enumerate(p["map.factors"]):
        factor, step = np.zeros((n, n)), 2**level
        pairs = [(first, first + step) for first in range(n) if not first & step]  # channels 2^f apart
        for pair, entries in zip(pairs, blocks, strict=True):
            factor[np.ix_(pair, pair)] = entries
        product = factor @ product
    assert made.map.parameter_count() == p["map.factors"].size == 2 * n * math.log2(n)
    check(made, product[:o, :i], p["depthwise"])


def test_a_butterfly_is_drawn_orthogonal():
    matrix = block("Butterfly", ConvSpec(64, 64, 1), name="a").map.matrix()
    torch.testing.assert_close(matrix @ matrix.t(), 2 * torch.eye(64))
    with pytest.raises(ValueError, match="Butterfly needs 2 or more"):
        build_block(parse_conv("Butterfly"), ConvSpec(1, 1, 3))


@sizes
@pytest.mark.parametrize("asked", [1, 3, 4, 100])
def test_monarch_weights(i, o, asked):
    """Two grouped 1×1 convolutions with a shuffle between."""
    made, p = make(f"Monarch_{asked}", i, o)
    m = min(i, o)
    b = next(b for b in range(asked, 0, -1) if i % b == o % b == m % b == 0)
    assert made.map.setting() == f"b={b}" and made.map.parameter_count() == m * (i + o) // b
    first, last = np.zeros((m, i)), np.zeros((o, m))
    for at in range(b):
        first[at * m // b : (at + 1) * m // b, at * i // b : (at + 1) * i // b] = p["map.down"][at]
        last[at * o // b : (at + 1) * o // b, at * m // b : (at + 1) * m // b] = p["map.up"][at]
    order = np.arange(m).reshape(b, m // b).T.flatten()
    check(made, last @ first[order], p["depthwise"])
    x = torch.randn(2, i, 3, 3)
    between = F.conv2d(x, made.map.down.reshape(m, i // b, 1, 1), groups=b)
    between = F.channel_shuffle(between, b) if b > 1 else between
    out = F.conv2d(between, made.map.up.reshape(o, m // b, 1, 1), groups=b)
    torch.testing.assert_close(made.map.apply_factors(x), out, atol=1e-5, rtol=1e-4)


@sizes
@pytest.mark.parametrize("asked", [1, 2, 100])
def test_btt_weights(i, o, asked):
    made, p = make(f"BTT_{asked}", i, o)
    (i1, i2), (o1, o2) = halves(i), halves(o)
    r = min(asked, i1, o2)
    assert made.map.rank == r and made.map.parameter_count() == r * i2 * o1 * (i1 + o2)
    matrix = np.zeros((o, i))
    for a in range(o1):
        for b in range(i2):
            matrix[a * o2 : (a + 1) * o2, b * i1 : (b + 1) * i1] = p["map.up"][a, :, b] @ p["map.down"][b, a]
    check(made, matrix, p["depthwise"])
    blocks = made.map.matrix().detach().view(o1, o2, i2, i1).transpose(1, 2)
    assert (torch.linalg.matrix_rank(blocks, rtol=1e-4) == r).all()


@sizes
@pytest.mark.parametrize("asked", [1, 2, 100])
def test_kronecker_weights(i, o, asked):
    made, p = make(f"Kronecker_{asked}", i, o)
    (i1, i2), (o1, o2) = halves(i), halves(o)
    r = min(asked, o1 * i1, o2 * i2)
    assert made.map.rank == r and made.map.parameter_count() == r * (o1 * i1 + o2 * i2)
    check(made, sum(np.kron(p["map.a"][:, t], p["map.b"][:, t]) for t in range(r)), p["depthwise"])


ALL = ["Butterfly", "Monarch_4", "BTT_2", "Kronecker_2"]


@pytest.mark.parametrize("i, o", [(16, 32), (640, 640), (144, 32), (12, 20), (5, 2)])
def test_published_mult_adds(i, o):
    """A pixel of the output: the product factor by factor, or the dense map if that is less."""
    (i1, i2), (o1, o2), m = halves(i), halves(o), min(i, o)
    n = 2 ** math.ceil(math.log2(max(i, o)))
    b = max(b for b in range(1, 5) if math.gcd(i, o) % b == 0)
    orders = i2 * o1 * (i1 + o2), i1 * o2 * (i2 + o1)
    r, terms = min(2, i1, o2), min(2, o1 * i1, o2 * i2)
    factors = [2 * n * math.log2(n), m * (i + o) / b, r * i2 * o1 * (i1 + o2), terms * min(orders)]
    for conv, each in zip(ALL, factors, strict=True):
        made = block(conv, ConvSpec(i, o, 3, stride=2, padding=1), name="a")
        assert made.mult_adds(8, 8) == 9 * i * 16 + min(each, i * o) * 16


def truncated(matrix, rank):
    """‖matrix − its nearest of a rank‖², from its singular values."""
    return torch.linalg.svdvals(matrix)[..., rank:].square().sum()


@pytest.mark.parametrize("i, o", [(24, 16), (16, 36)])
def test_the_nearest_matrix_is_found(i, o):
    """In closed form, as near as singular values allow: block by block, and of Kronecker's rearrangement."""
    matrix = torch.randn(o, i, dtype=torch.double)
    (i1, i2), (o1, o2), m = halves(i), halves(o), min(i, o)
    channel = np.arange(m)
    expected = {
        "Monarch_4": sum(
            truncated(block, int(((channel % 4 == source) & (channel // (m // 4) == target)).sum()))
            for target, rows in enumerate(matrix.chunk(4, 0))
            for source, block in enumerate(rows.chunk(4, 1))
        ),
        "BTT_2": truncated(matrix.view(o1, o2, i2, i1).transpose(1, 2), 2),
        "Kronecker_3": truncated(matrix.view(o1, o2, i1, i2).transpose(1, 2).reshape(o1 * i1, o2 * i2), 3),
        "Tucker_0.3_2": truncated(matrix, min(round(0.3 * o), round(0.3 * i))),
        "CP_0.3_2": truncated(matrix, round(0.3 * m)),
    }
    for conv, squares in expected.items():
        made = block(conv, ConvSpec(i, o, 1), name="a").double()
        found = made.approximate(matrix[:, :, None, None])
        assert found == pytest.approx((squares.sqrt() / matrix.norm()).item(), rel=1e-6), conv
        factors = [factor.detach().square().mean().sqrt() for factor in made.map.parameters()]
        assert max(factors) == pytest.approx(min(factors)), conv  # balanced, as drawn


@pytest.mark.parametrize("conv", ["Tucker_0.7_4", "TensorTrain_0.41_4"])
def test_the_scale_of_few_numbers_is_not_left_to_chance(conv):
    """Drawn next to 0, a single number would have a gradient thousands of times that of its neighbours."""
    for seed in range(20):
        factors = list(block(conv, ConvSpec(64, 128, 1), seed, name="a").map.parameters())
        sizes = [factor.detach().square().mean().sqrt().item() for factor in factors]
        assert min(factor.numel() for factor in factors) < 4 and max(sizes) < 2 * min(sizes), seed


def test_a_butterfly_is_found_and_approached():
    """To rounding where the matrix is one; else a descent goes on from there, within its bound of work."""
    for i, o in ((32, 32), (12, 20), (20, 12)):
        truth = block("Butterfly", ConvSpec(i, o, 1), 1, "a").map.matrix().detach()
        made = block("Butterfly", ConvSpec(i, o, 1), name="a")
        assert made.map.approximate(truth) is False
        assert (made.map.matrix() - truth).norm() < 1e-5 * truth.norm()
    matrix = torch.randn(16, 16)
    made = block("Butterfly", ConvSpec(16, 16, 1), name="a")
    made.map.approximate(matrix)
    start = ((made.map.matrix() - matrix).norm() / matrix.norm()).item()
    found = made.approximate(matrix[:, :, None, None], effort=0.1)
    assert found < start - 0.01
    sizes = made.map.factors.detach().square().mean((1, 2, 3))
    assert sizes.max().item() == pytest.approx(sizes.min().item(), rel=1e-4)


@pytest.mark.parametrize("conv", ALL)
def test_layouts_and_blocks_of_columns(conv, monkeypatch):
    """Images keep their layout, and go through block by block where they are many, with the same values and gradients."""
    made = block(conv, ConvSpec(16, 24, 1), name="a").map
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        for numbers in (1, 1 << 22):
            monkeypatch.setattr("layers.grouped.BLOCK", numbers)
            made.zero_grad()
            x = torch.arange(5 * 16 * 6.0).sin().view(5, 16, 2, 3).to(memory_format=layout).requires_grad_()
            out = made.apply_factors(x)
            assert out.is_contiguous(memory_format=layout)
            out.square().sum().backward()
            results.append([out, x.grad, *(p.grad for p in made.parameters())])
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            torch.testing.assert_close(one, other)
    x = torch.randn(3, 4, 2, 5)
    assert torch.equal(from_columns(to_columns(x), x), x)


@pytest.mark.parametrize("conv", ALL)
def test_a_stride_that_leaves_one_pixel(conv):
    """Its columns are a view that is not contiguous."""
    made, x = block(conv, ConvSpec(256, 512, 1, stride=2)), torch.randn(2, 256, 2, 2)
    torch.testing.assert_close(made(x), F.conv2d(x, made.weight(), stride=2), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("conv", ["Butterfly", "Monarch_16", "BTT_1", "Kronecker_1"])
def test_factors_that_are_kept_follow_the_parameters(conv):
    """Of a wide map, which takes them without gradients too; and a replica's tensors are no parameters."""
    made, x = block(conv, ConvSpec(640, 640, 1), name="a").map, torch.randn(2, 640, 8, 8)
    for _ in range(2):
        with torch.no_grad():
            out, again = made(x), made(x)
            assert torch.equal(out, again)
            assert not made.forms_halves or [*made._kept._record.formed] == ["halves"]
            expected = F.conv2d(x, made._kernel())
            assert (out - expected).norm() < 1e-5 * expected.norm()
            next(made.parameters()).mul_(2)
    replica = made._replicate_for_data_parallel()
    for name, parameter in made.named_parameters():
        setattr(replica, name, parameter * 1)
    replica.bias = None
    torch.testing.assert_close(replica(x), made(x))


def test_which_way_is_decided_by_shapes_and_device():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert faster(1000, 10, 2000, cpu) and not faster(1000, 10, 1480, cpu) and not faster(1000, 10, 2000, gpu)
    made = block("BTT_1", ConvSpec(640, 640, 1), name="a").map
    assert made.applies_factors(8192) and made._spared == 640 * 640 - made.factors_a_pixel() > 0
    small = block("BTT_1", ConvSpec(32, 32, 1), name="a").map
    assert not small.applies_factors(8192) and small._spared == 0
    made._spared = 1
    assert made.to("meta")._spared > 1  # asked anew after a move


# The rank × dimension study's network: the shapes of its seven convolutions, and params of reference/resnet9.csv less the rest.
RESNET9 = [(64, 128), (128, 128), (128, 128), (128, 256), (256, 512), (512, 512), (512, 512)]
RESNET9_PARAMS = {
    "Sep": 755968, "Generic_0.25": 434432, "TensorTrain_0.05_2": 96064, "TensorTrain_0.95_2": 1329856,
    "Tucker_0.1_2": 176938, "Tucker_0.9_2": 2303786, "Tucker_0.05_9": 27168, "Tucker_0.65_9": 316625,
    "Tucker_0.95_9": 1168614, "CP_0.1_2": 164096, "CP_0.45_9": 27177, "CP_0.95_9": 27355,
}  # fmt: skip


def test_parameters_of_the_study_of_ranks_and_dimensions():
    stem, batch_norms, classifier = 3 * 64 * 9, 2 * (64 + sum(o for _, o in RESNET9)), 512 * 10
    for conv, expected in RESNET9_PARAMS.items():
        with torch.device("meta"):
            built = [build_block(parse_conv(conv), ConvSpec(i, o, 3, padding=1)) for i, o in RESNET9]
        assert stem + batch_norms + classifier + sum(b.parameter_count() for b in built) == expected, conv
        assert all(b.parameter_count() == sum(p.numel() for p in nn.ModuleList([b]).parameters()) for b in built)


@pytest.mark.parametrize("conv", ["Butterfly", "Monarch_4", "BTT_2", "Kronecker_3"])
@pytest.mark.parametrize("i, o", [(16, 36), (60, 20)])
def test_both_ways_cost_what_is_told(conv, i, o):
    """Each by itself, whichever would run; and no pixel at all is mapped to none."""
    part = block(conv, ConvSpec(i, o, 1), name="a").map
    for run, told in (
        (lambda: part.apply_factors(torch.randn(3, i, 2, 5)), part.factor_mult_adds(30)),
        (part.matrix, part.rebuild_mult_adds()),
    ):
        with FlopCounterMode(display=False) as counter:
            run()
        assert counter.get_total_flops() // 2 == told
    assert part(torch.randn(0, i, 2, 2)).shape == (0, o, 2, 2)
