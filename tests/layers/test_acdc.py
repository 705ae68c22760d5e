"""ACDC's fast forms against the straightforward ones, in value and gradient."""

import pytest
import torch

from layers import cosine_costs, product
from layers.cosine import FORMS, cosine_matrix


@pytest.fixture(autouse=True)
def default_speeds():
    yield
    cosine_costs.adopt(None)


def straightforward(x, a, d, permutations):
    """x ← P·C·(d ⊙ P′·C^T·(a ⊙ x)) for each factor."""
    c = cosine_matrix(len(x)).to(x)
    for number in range(len(a)):
        inside, after = permutations[2 * number : 2 * number + 2]
        x = (c @ ((c.t() @ (x * a[number][:, None]))[inside] * d[number][:, None]))[after]
    return x


def orders(n, factors, kind):
    riffled, straight = torch.tensor(product.riffle(n)), torch.arange(n)
    if kind == "permuted":
        return torch.stack([torch.randperm(n) for _ in range(2 * factors)])
    return torch.stack([straight if kind == "original" else riffled, riffled] * factors)


@pytest.mark.parametrize("kind", ["riffled", "original", "permuted"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [6, 60])
def test_the_product_and_its_gradients(n, form, kind, monkeypatch):
    """In double precision, of columns that make several blocks of unequal width."""
    monkeypatch.setattr(cosine_costs, "form", lambda size: form)
    monkeypatch.setattr(product, "BLOCK", 1)
    factors, columns = 3, 2 * product.LEAST + 5
    order = orders(n, factors, kind)
    given = [torch.randn(*shape, dtype=torch.double) for shape in ((n, columns), (factors, n), (factors, n))]
    given[1][0, 0] = given[2][0, 0] = 0.0  # a diagonal cannot always be divided by
    fast, plain = ([tensor.clone().requires_grad_() for tensor in given] for _ in range(2))
    y = product.product(*fast, order if kind == "permuted" else None, kind == "riffled")
    expected = straightforward(*plain, order)
    torch.testing.assert_close(y, expected)
    slope = torch.randn_like(y)
    y.backward(slope), expected.backward(slope)
    for one, other in zip(fast, plain):
        torch.testing.assert_close(one.grad, other.grad)
