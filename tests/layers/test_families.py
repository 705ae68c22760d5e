"""ACDC, low rank, tensor forms and Shuffle against plain NumPy written from their formulas, scipy and tntorch."""

import math

import numpy as np
import pytest
import torch
from kernels import check, make, splitmix_order
from references import tntorch, transforms_of_scipy
from torch import nn

from blocks import block
from layers.cosine import FORMS, split, transform
from layers.factor_matrices import riffle
from layers.spec import ConvSpec
from layers.square import Square
from layers.tensor import dimensions, rank
from system.hashing import key as derived_key

SIZES = [(12, 20), (20, 12), (9, 9), (7, 12), (5, 12), (144, 32), (3, 7)]  # square or not, dividing or not, odd
sizes = pytest.mark.parametrize("i, o", SIZES)

# ACDC, LR


def dct_matrix(n):
    """Rows of x·C: C[m, k] = √(2/N)·s_k·cos(π(2m+1)k/2N)"""
    m, k = np.arange(n)[:, None], np.arange(n)[None]
    return math.sqrt(2 / n) * np.where(k == 0, math.sqrt(0.5), 1.0) * np.cos(np.pi * (2 * m + 1) * k / (2 * n))


def permutation_matrix(order):
    """x·P has channel order[j] at place j."""
    return np.eye(len(order))[:, order]


def matrices_around_a_square(i, o):
    """E (N, i) and S (o, N): y = S·T·E·x."""
    if o > i:
        a = next(a for a in range(o) if o % (i + a) == 0)
        expand = np.zeros((o, i))
        for j in range(o):
            expand[j, (j % (i + a)) % i] = 1
        return expand, np.eye(o)
    n = o * math.ceil(i / o)
    return np.eye(n, i), np.repeat(np.eye(o), n // o, axis=1)


@sizes
def test_the_matrices_around_a_square(i, o):
    expand, reduce = matrices_around_a_square(i, o)
    square = Square(i, o)
    x, y = torch.randn(3, i, dtype=torch.double), torch.randn(3, len(expand), dtype=torch.double)
    assert square.size == len(expand)
    np.testing.assert_allclose(square.expand(x), x.numpy() @ expand.T)
    np.testing.assert_allclose(square.collect(y), y.numpy() @ expand)
    np.testing.assert_allclose(square.reduce(y), y.numpy() @ reduce.T)


@sizes
@pytest.mark.parametrize("conv", ["ACDC_4", "OriginalACDC_4", "PermutedACDC_4"])
def test_acdc_weights(conv, i, o):
    made, p = make(conv, i, o)
    expand, reduce = matrices_around_a_square(i, o)
    n, c = len(expand), dct_matrix(len(expand))
    even_first = [*range(0, n, 2), *range(1, n, 2)]
    product = np.eye(n)
    assert len(p["map.a"]) == 3  # L − 1 factors
    for factor, (a, d) in enumerate(zip(p["map.a"], p["map.d"])):
        inside = after = even_first
        if conv.startswith("Permuted"):
            inside, after = (
                splitmix_order(n, derived_key(made.map.key, factor, place)) for place in ("inside", "after")
            )
        if conv.startswith("Original"):
            inside = list(range(n))
        m = np.diag(a) @ c @ permutation_matrix(inside) @ np.diag(d) @ np.linalg.inv(c)
        product = product @ m @ permutation_matrix(after)
    check(made, reduce @ product.T @ expand, p["depthwise"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 31, 64, 160])
def test_the_cosine_transform(n, form):
    if form == "staged" and not split(n):
        return
    made = transform(form, n, torch.double, torch.device("cpu"))
    x, analysed, back, spare = torch.randn(4, n, 3, dtype=torch.double)
    made.bound(x[made.inputs], analysed, spare)[0]()
    expected = transforms_of_scipy.dct(x.numpy(), axis=0, norm="ortho")
    np.testing.assert_allclose(analysed, expected[made.outputs.numpy()], atol=1e-12)
    made.bound(analysed, back, spare)[1]()
    np.testing.assert_allclose(back, x[made.inputs], atol=1e-12)


@pytest.mark.parametrize("conv", ["ACDC", "OriginalACDC", "PermutedACDC"])
def test_acdc_with_ones_is_orthogonal(conv):
    made, _ = make(conv, 24, 24)
    nn.init.ones_(made.map.a), nn.init.ones_(made.map.d)
    matrix = made.map.matrix()
    torch.testing.assert_close(matrix @ matrix.t(), torch.eye(24), atol=1e-5, rtol=0)
    assert conv != "ACDC" or not torch.allclose(matrix, torch.eye(24), atol=0.1)


def test_the_riffle():
    assert riffle(7) == [0, 2, 4, 6, 1, 3, 5]


@sizes
def test_low_rank_weights(i, o):
    made, p = make("LR_0.3", i, o)
    expand, reduce = matrices_around_a_square(i, o)
    v = p["map.v"]
    assert v.shape == (max(1, int(0.3 * max(i, o))), len(expand))
    check(made, reduce @ v.T @ v @ expand, p["depthwise"])
    made, p = make("Generic_0.3", i, o)
    assert p["map.v"].shape == (max(1, int(0.3 * max(i, o))), i)
    check(made, p["map.u"] @ p["map.v"], p["depthwise"])


# tensor forms


@pytest.mark.parametrize(
    "n, d, expected",
    [
        (640 * 640, 3, (80, 80, 64)),  # e = 74.27, so divisors of at least 74
        (640 * 640, 4, (25, 32, 32, 16)),
        (256 * 256, 4, (16, 16, 16, 16)),
        (16 * 16, 2, (16, 16)),
        (144 * 32, 3, (18, 32, 8)),
        (9 * 15, 3, (5, 9, 3)),
        (7, 3, (7, 1, 1)),
        (1, 3, (1, 1, 1)),
    ],
)
def test_dimensions(n, d, expected):
    sizes, left, e = [], n, n ** (1 / d)
    if abs(e - round(e)) < 1e-6:
        sizes = [round(e)] * d
    else:
        for _ in range(d - 1):
            divisors = [divisor for divisor in range(1, left + 1) if left % divisor == 0]
            sizes.append(min((divisor for divisor in divisors if divisor >= round(e)), default=left))
            left //= sizes[-1]
        sizes.append(left)
    assert dimensions(n, d) == tuple(sizes)
    assert tuple(sizes) == expected and math.prod(sizes) == n


def test_ranks_are_rounded_as_python_rounds():
    assert [rank(0.5, n) for n in (1, 3, 5, 7, 9)] == [1, 2, 2, 4, 4] and rank(0.01, 5) == 1


def by_entries(sizes, entry, i, o):
    """A matrix from what each of its d-way entries is."""
    return np.array([entry(np.unravel_index(flat, sizes)) for flat in range(i * o)]).reshape(o, i)


@sizes
@pytest.mark.parametrize("d", [2, 3, 4, 9])
def test_tensor_weights(i, o, d):
    made, p = make(f"TensorTrain_0.5_{d}", i, o)
    sizes, cores = made.map.sizes, [p[f"map.cores.{j}"] for j in range(d)]
    assert sizes == ((o, i) if d == 2 else dimensions(i * o, d))
    ranks = [1, *(max(1, round(0.5 * min(pair))) for pair in zip(sizes, sizes[1:])), 1]
    assert [core.shape for core in cores] == list(zip(ranks, sizes, ranks[1:]))

    def train(x):
        product = np.eye(1)
        for core, at in zip(cores, x):
            product = product @ core[:, at]
        return product[0, 0]

    check(made, by_entries(sizes, train, i, o), p["depthwise"])
    as_tntorch = tntorch.Tensor([torch.tensor(core) for core in cores]).torch().reshape(o, i)
    check(made, as_tntorch.numpy(), p["depthwise"])

    made, p = make(f"CP_0.5_{d}", i, o)
    factors = [p[f"map.factors.{j}"] for j in range(d)]
    assert [factor.shape for factor in factors] == [(size, max(1, round(0.5 * min(sizes)))) for size in sizes]
    check(
        made, by_entries(sizes, lambda x: np.prod([f[at] for f, at in zip(factors, x)], 0).sum(), i, o), p["depthwise"]
    )


@sizes
@pytest.mark.parametrize("d", [2, 3, 4])
def test_tucker_weights(i, o, d):
    made, p = make(f"Tucker_0.5_{d}", i, o)
    sizes, factors = made.map.sizes, [p[f"map.factors.{j}"] for j in range(d)]
    cores = [p[f"map.cores.{j}"] for j in range(d)]
    ranks = [max(1, round(0.5 * size)) for size in sizes]
    bonds = [1] * (d + 1)
    for j in range(d - 1, 0, -1):
        bonds[j] = min(min(math.prod(sizes[:j]), math.prod(sizes[j:])), ranks[j] * bonds[j + 1])
    ranks[0] = min(ranks[0], bonds[1])
    assert [factor.shape for factor in factors] == list(zip(sizes, ranks))
    assert [core.shape for core in cores] == list(zip(bonds, ranks, bonds[1:]))
    core = cores[0]
    for each in cores[1:]:
        core = np.tensordot(core, each, 1)
    core = core.reshape(ranks)
    for factor in factors:
        core = np.moveaxis(np.tensordot(core, factor, (0, 1)), -1, -1)  # the first dimension becomes the last
    check(made, core.reshape(o, i), p["depthwise"])
    as_tntorch = tntorch.Tensor([torch.tensor(c) for c in cores], Us=[torch.tensor(f) for f in factors]).torch()
    check(made, as_tntorch.reshape(o, i).numpy(), p["depthwise"])


def test_a_bond_between_rows_and_columns_is_used():
    for conv in ("TensorTrain_0.3_4", "Tucker_0.2_4", "CP_0.5_4"):
        made = block(conv, ConvSpec(64, 64, 1), name="a").map
        assert made.aligned and made.bond == 2
        assert made.factor_mult_adds(10_000) < 64 * 64 * 10_000
    assert not block("TensorTrain_0.3", ConvSpec(64, 64, 1), name="a").map.aligned


# Shuffle


def test_shuffle_weights():
    for i, o, asked, groups in ((6, 8, 2, 2), (48, 96, 5, 4), (12, 20, 5, 1), (16, 32, 4, 4), (9, 36, 100, 9)):
        made, p = make(f"Shuffle_{asked}", i, o)
        m = o // 4
        assert made.groups == groups == next(g for g in range(asked, 0, -1) if i % g == o % g == m % g == 0)
        first, last = np.zeros((m, i)), np.zeros((o, m))
        for row in range(m):
            start = row // (m // groups) * (i // groups)
            first[row, start : start + i // groups] = p["reduce"][row, :, 0, 0]
        for row in range(o):
            start = row // (o // groups) * (m // groups)
            last[row, start : start + m // groups] = p["expand"][row, :, 0, 0]
        shuffled = np.empty_like(first)
        for channel in range(m):
            group, within = divmod(channel, m // groups)
            shuffled[within * groups + group] = first[channel]
        kernel = np.einsum("om,myx,mi->oiyx", last, p["depthwise"][:, 0], shuffled)
        np.testing.assert_allclose(made.weight().detach(), kernel, rtol=1e-4, atol=1e-6)
        assert groups == 1 or (made.weight().abs().sum((2, 3)) > 0).any(0).all()
