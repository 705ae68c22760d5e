"""Hashed maps against plain NumPy written from their formulas; and how good the hash is."""

import math

import numpy as np
import pytest
import torch
from kernels import check, make, splitmix_order
from references import statistics_of_scipy
from torch import nn

from blocks import block
from layers.shared import SharedNumbers, _Share
from layers.spec import ConvSpec
from system.hashing import key as derived_key

GOLDEN_INDEX = [6, 6, 3, 5, 2, 5, 1, 1, 7, 0, 4, 3, 7, 4, 2, 0]  # of 16 entries that share 8 numbers


def shared(entries, numbers, key):
    """The entry at place p of the order uses number p mod M."""
    out = np.empty(entries)
    for place, entry in enumerate(splitmix_order(entries, key)):
        out[entry] = numbers[place % len(numbers)]
    return out


def test_hashed_weights():
    i, o, k = 12, 20, 3
    for conv, stored in (("Hashed_0.1", 216), ("Hashed_1", 2160), ("HashedDecimate", 216)):
        made, p = make(conv, i, o)
        assert len(p["shared.numbers"]) == stored and p["bias"].shape == (o,)
        kernel = shared(i * o * 9, p["shared.numbers"], made.shared.key).reshape(o, i, k, k)
        np.testing.assert_allclose(made.weight().detach(), kernel, rtol=1e-6)
    assert len(make("HashedDecimate", 7, 5)[1]["shared.numbers"]) == 31  # of 315


def test_separable_hashed_weights():
    i, o = 12, 20
    for conv, k, stored in (
        ("SepHashed_0.1", 3, 24),
        ("SepHashedFull_0.1", 3, 216 - 108),
        ("SepHashedFull_0.1", 1, 24),
    ):
        made, p = make(conv, i, o, k)
        assert len(p["map.shared.numbers"]) == stored and p["map.bias"].shape == (o,) and "bias" not in p
        matrix = shared(i * o, p["map.shared.numbers"], made.map.shared.key).reshape(o, i)
        check(made, matrix, p.get("depthwise"))


@pytest.mark.parametrize("k, filters, columns", [(3, 10, 23), (1, 1, 22)])
def test_sephasheddecimate(k, filters, columns):
    i, o = 12, 20
    made, p = make("SepHashedDecimate", i, o, k)
    budget = (i * o + (i * k * k if k > 1 else 0)) // 10
    t = i * k * k + i * o
    assert (filters, columns) == (budget * i * k * k // t, budget * i * o // t)
    assert len(p["depthwise.numbers"]) == filters and len(p["pointwise.numbers"]) == columns
    nn.init.normal_(made.depthwise_bias), nn.init.normal_(made.bias)
    dw = shared(i * k * k, p["depthwise.numbers"], made.depthwise.key).reshape(i, 1, k, k)
    matrix = shared(i * o, p["pointwise.numbers"], made.pointwise.key).reshape(o, i)
    check(made, matrix, dw)
    bias = matrix @ made.depthwise_bias.detach().numpy() + made.bias.detach().numpy()
    np.testing.assert_allclose(made.effective_bias().detach(), bias, rtol=1e-5)
    assert made.depthwise.key != made.pointwise.key


def order_of(seed, name, conv="SepHashed_0.3", i=64, o=64):
    return block(conv, ConvSpec(i, o, 1), seed, name).map.shared.structure()[0]


def test_the_hash_is_balanced_and_spread():
    index = SharedNumbers(640 * 640, 4096, derived_key(0, "a")).structure()[0].reshape(640, 640).long()
    loads = torch.bincount(index.flatten(), minlength=4096)
    assert set(loads.tolist()) == {100} and len(loads) == 4096  # 409,600 entries
    uneven = torch.bincount(SharedNumbers(640 * 641, 4096, 5).structure()[0])
    assert uneven.max() - uneven.min() == 1
    for neighbours in (index, index.t()):  # along rows, along columns: pairs of 16 classes against uniform
        classes = neighbours % 16
        pairs = torch.bincount((classes[:, :-1] * 16 + classes[:, 1:]).flatten(), minlength=256)
        assert 0.001 < statistics_of_scipy.chisquare(pairs.numpy()).pvalue < 0.999
        in_order = (neighbours[:, 1:] > neighbours[:, :-1]).double().mean().item()
        assert in_order == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(640 * 639))
        correlation = torch.corrcoef(torch.stack([neighbours[:, :-1].flatten(), neighbours[:, 1:].flatten()]).double())
        assert abs(correlation[0, 1].item()) < 5 / math.sqrt(640 * 639)
    each_line = torch.stack([torch.bincount(line % 16, minlength=16) for line in index])  # no number prefers a row
    assert 0.001 < statistics_of_scipy.chisquare(each_line.flatten().numpy(), ddof=639).pvalue < 0.999


def test_the_hash_depends_on_seed_and_name_alone():
    assert torch.equal(order_of(0, "a"), order_of(0, "a"))
    for other in (order_of(1, "a"), order_of(0, "b")):
        agree = (order_of(0, "a") == other).double().mean().item()
        assert agree < 10 / 1228  # as often as chance has it, with 1,228 numbers


def test_the_hash_is_the_same_on_every_platform():
    assert derived_key(0, "groups.0.0.conv1") == 6620878751364470358
    assert order_of(0, "groups.0.0.conv1", "SepHashed_0.5", 4, 4).tolist() == GOLDEN_INDEX


def test_every_stored_number_receives_its_sum_of_gradients():
    numbers = SharedNumbers(1000, 37, 3)
    nn.init.normal_(numbers.numbers)
    weights, (index, order) = torch.randn(1000), numbers.structure()
    expected = torch.zeros(37, dtype=torch.double).index_add_(0, index, weights.double()).float()
    as_on_a_gpu = _Share.apply(numbers.numbers, index, order)
    for entries in (numbers(), as_on_a_gpu):
        numbers.numbers.grad = None
        (entries * weights).sum().backward()
        torch.testing.assert_close(numbers.numbers.grad, expected)
        assert torch.equal(entries, numbers.numbers[index]) and numbers.numbers.grad.all()
