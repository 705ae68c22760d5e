"""ACDC's fast forms against the straightforward ones, in value and gradient."""

import os

import pytest
import torch
from results import same, saved
from small_runs import TINY

import main
from layers import cosine_costs, product
from layers.cosine import FORMS, cosine_matrix
from layers.factor_matrices import riffle
from layers.product import LEAST


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
    riffled, straight = torch.tensor(riffle(n)), torch.arange(n)
    if kind == "permuted":
        return torch.stack([torch.randperm(n) for _ in range(2 * factors)])
    return torch.stack([straight if kind == "original" else riffled, riffled] * factors)


@pytest.mark.parametrize("kind", ["riffled", "original", "permuted"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "n, columns, kept",
    [(6, 2 * LEAST + 5, 0), (60, 4 * LEAST + 5, 0), (60, 4 * LEAST + 5, 7 * 60 * (4 * LEAST + 5))]
    + [(60, 3, 0), (60, 3, 3 * 60 * (60 + 3)), (1, 1, 0), (1, 1, 3 * 1 * (1 + 1))],
)
def test_the_product_and_its_gradients(n, columns, kept, form, kind, monkeypatch):
    """In double precision, of columns that make several blocks of unequal width, and of few: then factors are matrices.

    And of one block whose states are kept for the backward pass, and of matrices that are.
    """
    if form == "staged" and n % 2:
        return
    monkeypatch.setattr(cosine_costs, "form", lambda size: form)
    if not kept:
        monkeypatch.setattr(product, "BLOCK", 1)
        monkeypatch.setattr(product, "KEPT", 0)
    factors = 3
    order = orders(n, factors, kind)
    given = [torch.randn(*shape, dtype=torch.double) for shape in ((n, columns), (factors, n), (factors, n))]
    given[1][0, 0] = given[2][0, 0] = 0.0  # a diagonal cannot always be divided by
    assert product._kept(*given[:2]) == kept
    fast, plain = ([tensor.clone().requires_grad_() for tensor in given] for _ in range(2))
    y = product.product(*fast, order if kind == "permuted" else None, kind == "riffled")
    expected = straightforward(*plain, order)
    torch.testing.assert_close(y, expected)
    slope = torch.randn_like(y)
    y.backward(slope, retain_graph=True), y.backward(slope), expected.backward(2 * slope)
    for one, other in zip(fast, plain):
        torch.testing.assert_close(one.grad, other.grad)


SLOW = {**dict.fromkeys(FORMS, [1.0] * len(cosine_costs.SIZES)), cosine_costs.CONVOLUTION: [1.0]}


def preferring(form):
    return SLOW | {form: [1e3] * len(cosine_costs.SIZES)}


def test_a_resumed_run_chooses_as_it_began(workplace, monkeypatch):
    """Speeds are measured once and read from then on. A run keeps its own, whatever the file says later."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(workplace / "cache"))
    measured = [preferring("direct")]
    monkeypatch.setattr(cosine_costs, "measure", lambda device: measured.pop())
    run = ["digits", "teacher", *TINY, "--conv", "ACDC_3", "--train_size", "32", "-t"]
    assert main.main([*run, "t"]) == 0 and not measured
    whole = saved(workplace, "t")
    (file,) = workplace.glob("cache/**/*.json")
    assert whole["speeds"] == preferring("direct") and "direct" in file.read_text()

    measured.append(preferring("fft"))
    file.write_text(file.read_text()[:-9])  # damaged: measured anew
    assert main.main([*run, "other"]) == 0 and saved(workplace, "other")["speeds"] == preferring("fft")
    assert not same(saved(workplace, "other")["model"], whole["model"])

    os.replace("checkpoints/t.pt.previous", "checkpoints/t.pt")
    assert main.main([*run, "t", "--resume"]) == 0
    assert same(saved(workplace, "t"), whole)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"version": 1, "speeds": {"k": {"direct": [NaN]}}}', "\0"])
def test_speeds_that_cannot_be_kept(tmp_path, monkeypatch, damage):
    """Nothing is measured, so the choice is the same in the next process."""
    monkeypatch.setattr(cosine_costs, "measure", lambda device: pytest.fail("measured in vain"))
    (tmp_path / "swapconv").mkdir()
    (tmp_path / "swapconv/cosine_speeds.json").write_text(damage)
    (tmp_path / "swapconv/cosine_speeds.json.partial").mkdir()  # so no new one can be written
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cosine_costs.of_machine(torch.device("cpu")) == cosine_costs.DEFAULT


def test_choices_follow_from_speeds():
    assert cosine_costs.is_valid(cosine_costs.DEFAULT)
    cosine_costs.adopt(preferring("fft"))
    assert {cosine_costs.form(n) for n in (7, 64, 640)} == {"fft"}
    cosine_costs.adopt(preferring("staged"))
    assert cosine_costs.form(640) == "staged" and cosine_costs.form(127) == "fft"  # which has no stages
    cosine_costs.adopt(None)
    assert cosine_costs.form(16) == "direct" and cosine_costs.form(640) == "staged"
    few, many = (cosine_costs.applies_factors(640, 22, 640, 640, pixels) for pixels in (64, 10_000))
    assert few and not many
