"""SparseVD and GroupVD against ../sparsity.csv, their definitions, and weights that are drawn one by one."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from families import VARIATIONAL
from scipy.special import dawsn
from torch import nn

import blocks
from blocks import block
from layers import group_vd, sparse_vd
from layers.group_vd import standard_normal_kl
from layers.spec import ConvSpec
from layers.variational import log_alpha, log_uniform_kl, noise_like

ROWS = list(csv.DictReader((Path(__file__).parents[1] / "sparsity.csv").read_text().splitlines()))
NUMBER = r"(?<!>)=(-?[\d.]+(?:e-?\d+)?)"
SPECS = [ConvSpec(5, 7, 3, 2, padding=1, bias=True), ConvSpec(6, 4, 1, 2), ConvSpec(4, 4, 3, padding=2, dilation=2)]


def of(section):
    return pytest.mark.parametrize(
        "row",
        [row for row in ROWS if row["section"] == section and "=" in row["input"]],
        ids=lambda row: row["case"],
    )


def numbers(text):
    return [torch.tensor(float(each), dtype=torch.double) for each in re.findall(NUMBER, text)]


def drawn(conv, spec, dtype=torch.double):
    """A layer whose every parameter is far from its start, some of it off."""
    made = block(conv, spec, name="a").to(dtype)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.normal_(-4.0 if "variance" in name else 0.0)
        made.kernel[0].mul_(0.01)  # of the first filter
        if conv == "GroupVD":
            made.factor.add_(1.0)[0] = 1e-3
    return made


@of("svd_kl")
def test_the_reference_of_sparsevd(row):
    theta, sigma = numbers(row["input"])
    variance, alpha, kl, keep = numbers(row["expected"])
    found = log_alpha(2 * sigma.log(), theta)
    torch.testing.assert_close(
        torch.stack([2 * sigma.log(), found]), torch.stack([variance, alpha]), rtol=0, atol=5e-11
    )
    assert f"{log_uniform_kl(found):.10f}" == f"{kl:.10f}" and (found < sparse_vd.LEAST) == bool(keep)


@of("gnj_kl_z")
def test_the_reference_of_factors(row):
    mean, log_variance = numbers(row["input"])
    alpha, kl, prune = numbers(row["expected"])
    found = log_alpha(log_variance, mean)
    assert f"{found:.10f}" == f"{alpha:.10f}" and f"{log_uniform_kl(found):.10f}" == f"{kl:.10f}"
    made = block("GroupVD", ConvSpec(1, 1, 1), name="a").double()
    with torch.no_grad():
        made.factor.copy_(mean), made.log_variance_of_factor.copy_(log_variance)
    assert made.filters().item() != bool(prune)
    assert made.weight().item() == pytest.approx(0.0 if prune else (mean * made.kernel).item(), rel=1e-12)


@of("gnj_kl_w")
def test_the_reference_of_weights(row):
    assert f"{standard_normal_kl(*numbers(row['input'])):.10f}" == f"{numbers(row['expected'])[0]:.10f}"


def test_other_rows_of_the_reference():
    """Posterior moments, the ratios of deviation to mean at which a weight or a filter goes, the approximation's error."""
    made = block("GroupVD", ConvSpec(1, 1, 1), name="a").double()
    parameters = (made.kernel, made.log_variance, made.factor, made.log_variance_of_factor)
    for row in (row for row in ROWS if row["section"] == "gnj_posterior"):
        given, expected = (re.findall(NUMBER, row[column]) for column in ("case", "expected"))
        with torch.no_grad():
            for parameter, value in zip(parameters, given, strict=True):
                parameter.fill_(float(value))
        assert [f"{moment.item():.10f}" for moment in made.posterior()] == expected
    for section, least in (("gnj_prune", group_vd.LEAST), ("svd_prune", sparse_vd.LEAST)):
        (row,) = (row for row in ROWS if row["section"] == section and row["case"].startswith("ratio"))
        assert f"{math.exp(least / 2):.10f}" in row["expected"]
    alphas = np.arange(-120, 161) / 10
    grid = np.geomspace(1e-6, math.exp(6), 200_001)  # KL(a) = ∫ √2·Dawson(t/√2) from 0 to a = 1/√α, exactly
    steps = np.diff(grid) * (dawsn(grid / math.sqrt(2))[1:] + dawsn(grid / math.sqrt(2))[:-1]) / math.sqrt(2)
    exact = np.interp(np.exp(-alphas / 2), grid, np.concatenate([[0], steps.cumsum()]))
    errors = log_uniform_kl(torch.from_numpy(alphas)).numpy() - exact
    (row,) = (row for row in ROWS if row["case"] == "largest approximation error")
    worst = np.abs(errors).argmax()
    assert f"={errors[worst]:.6f} at log_alpha={alphas[worst]:.1f} (signed +" in row["expected"]


def test_the_divergence_is_a_sum_over_all_that_is_drawn():
    sparse, group = (drawn(conv, SPECS[0]) for conv in ("SparseVD", "GroupVD"))
    expected = sum(
        log_uniform_kl(log_alpha(v, w)) for v, w in zip(sparse.log_variance.flatten(), sparse.kernel.flatten())
    )
    torch.testing.assert_close(sparse.kl(), expected)
    gaussians = [(group.kernel, group.log_variance), (group.bias, group.log_variance_of_bias)]
    from_prior = sum(standard_normal_kl(mean, log_variance).sum() for mean, log_variance in gaussians)
    of_factors = log_uniform_kl(log_alpha(group.log_variance_of_factor, group.factor)).sum()
    torch.testing.assert_close(group.kl(), from_prior + of_factors)
    with torch.no_grad():
        for parameter in group.parameters():
            parameter.zero_()
        group.log_variance_of_factor.fill_(40.0)
    assert group.kl().abs() < 1e-6  # μ = 0 and σ = 1, and factors that are nothing but noise
    sparse.kl_scale = 0.5
    assert sparse.auxiliary_losses()["kl"] == sparse.kl() / 2


@pytest.mark.parametrize("conv", VARIATIONAL)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_gradients(conv, spec):
    """With the same noise in every pass, of outputs and divergence, against finite differences."""
    made = drawn(conv, spec)
    x = torch.randn(2, spec.in_channels, 4, 4, dtype=torch.double, requires_grad=True)

    def sampled(x, *parameters):
        torch.manual_seed(3)
        return made(x), made.kl()

    assert torch.autograd.gradcheck(sampled, (x, *made.parameters()), fast_mode=True)
    assert torch.equal(sampled(x)[0], sampled(x)[0])


@pytest.mark.parametrize("conv", VARIATIONAL)
def test_the_local_reparameterisation_has_the_mean_and_the_variance_of_drawn_weights(conv):
    """Within six standard errors of 10,000 draws, at every output; the variances of drawn weights are known."""
    made, draws = drawn(conv, SPECS[0]), 10_000
    x = torch.randn(1, 5, 3, 3, dtype=torch.double)
    x[:, :2] = 0
    with torch.no_grad():
        found = made(x.expand(draws, -1, -1, -1))
        variance = [made.log_variance.exp(), made.log_variance_of_bias.exp() if conv == "GroupVD" else None]
        mean, spread = (
            F.conv2d(each, *of, 2, 1) for each, of in ((x, (made.kernel, made.bias)), (x.square(), variance))
        )
        spread = spread + 1e-8
        if conv == "GroupVD":
            z, of_z = (each[:, None, None] for each in (made.factor, made.log_variance_of_factor.exp()))
            spread = (z.square() + of_z) * (mean.square() + spread) - (z * mean).square()
            mean = z * mean
    error = (found.mean(0) - mean[0]).abs() / (spread[0] / draws).sqrt()
    assert error.max() < 6
    fourth = ((found - mean) ** 4).mean(0)  # of the variance's own standard error
    assert ((found.var(0) - spread[0]).abs() / ((fourth - spread[0] ** 2) / draws).sqrt()).max() < 6
    pair = (found - mean)[:, 1, 0].unbind(1)  # two pixels of a filter, whose factor is one for all of an image
    product = pair[0] * pair[1]
    expected = of_z[1, 0, 0] * (mean / z)[0, 1, 0].prod() if conv == "GroupVD" else 0.0
    assert (product.mean() - expected).abs() < 6 * product.std() / math.sqrt(draws)
    assert conv == "SparseVD" or expected.abs() > 12 * product.std() / math.sqrt(draws)


@pytest.mark.parametrize("conv", VARIATIONAL)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_testing_form_is_the_mean_network(conv, spec):
    """Also as a bias changes under what is kept, with autocast, and of no variance."""
    made = drawn(conv, spec, torch.float).eval()
    x = torch.randn(3, spec.in_channels, 6, 6)
    for _ in range(2):
        dense = F.conv2d(x, made.weight(), made.effective_bias(), spec.stride, spec.padding, spec.dilation)
        torch.testing.assert_close(made(x), dense)
        with torch.no_grad():
            torch.testing.assert_close(made(x), dense)
            with torch.autocast("cpu", torch.bfloat16):
                assert (made(x) - dense).norm() < 0.02 * dense.norm()
            if spec.bias:
                made.bias.add_(1.0)
    left = (made.weight() != 0).float().mean()
    assert 0 < left < 1
    if conv == "GroupVD":
        off = ~made.filters()
        assert off.any() and not made(x)[:, off].any() and not made.weight()[off].any()
        torch.testing.assert_close(made.weight()[~off], (made.kernel * made.factor[:, None, None, None])[~off])
    else:
        assert torch.equal(made.weight() != 0, made.log_variance < 3 + (made.kernel.square() + 1e-8).log())


def test_of_no_variance_sparsevd_is_the_dense_layer():
    made, spec = drawn("SparseVD", SPECS[0], torch.float), SPECS[0]
    nn.init.constant_(made.log_variance, -100.0)
    x = torch.randn(8, 5, 6, 6)
    dense = F.conv2d(x, made.kernel, made.bias, spec.stride, spec.padding)
    torch.testing.assert_close(made(x), dense, rtol=0, atol=6e-4)  # the noise of √1e-8
    torch.testing.assert_close(made.eval()(x), dense)
    assert torch.equal(made.weight(), made.kernel)


@pytest.mark.parametrize("conv", VARIATIONAL)
def test_where_nothing_is_seen_gradients_are_finite(conv):
    made = block(conv, ConvSpec(4, 6, 3, padding=1), name="a")
    with torch.autocast("cpu", torch.bfloat16):
        out, kl = made(torch.zeros(2, 4, 5, 5)), made.kl()
    assert kl.dtype == torch.float32 and out.dtype == torch.bfloat16
    (out.float().square().sum() + kl).backward()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_is_standard_normal_and_independent(memory_format, dtype):
    x = torch.zeros(32, 8, 16, 16, dtype=dtype).contiguous(memory_format=memory_format)
    torch.manual_seed(0)
    one, other = noise_like(x), noise_like(x)
    assert (one.dtype, one.shape, one.stride()) == (x.dtype, x.shape, x.stride())
    pairs = torch.stack([one, other, one.roll(1, 1), one.roll(1, 3)]).double().flatten(1)
    assert pairs.mean(1).abs().max() < 0.02  # 65,536 numbers: a standard error of 0.004
    torch.testing.assert_close(pairs.cov(), torch.eye(4, dtype=torch.double), rtol=0, atol=0.03)


def test_noise_is_filled_in_the_order_of_memory():
    """As torch fills a contiguous tensor, many numbers at once; by shapes whose order in memory is another, too."""
    x = torch.zeros(4, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    last = noise_like(x).permute(0, 2, 3, 1)
    torch.manual_seed(0)
    assert torch.equal(last, torch.randn(4, 6, 6, 8))
    for other in (torch.zeros(3, 5), torch.zeros(2, 3, 40).transpose(1, 2), torch.zeros(4, 8, 6, 6)[:, ::2]):
        assert noise_like(other).shape == other.shape


@pytest.mark.parametrize("conv", VARIATIONAL)
def test_a_kernel_and_its_bias_are_taken_with_the_noise_of_the_start(conv):
    made = drawn(conv, SPECS[0], torch.float)
    kernel, bias = torch.randn(7, 5, 3, 3), torch.randn(7)
    assert made.approximate(kernel, bias) < 1e-3 and torch.equal(made.kernel, kernel)
    torch.testing.assert_close(made.effective_bias(), bias)
    start = block(conv, SPECS[0], name="a")
    for name, parameter in made.named_parameters():
        if "variance" in name:
            torch.testing.assert_close(parameter, start.get_parameter(name), rtol=0, atol=0.1)
    assert made.approximate(torch.zeros_like(kernel), bias) == 0 and not made.weight().any()
    torch.testing.assert_close(made.effective_bias(), bias)
    torch.testing.assert_close(made.log_variance, start.log_variance, rtol=0, atol=0.1)
    assert not block(conv, ConvSpec(4, 4, 1)).structured_parameters()
    assert blocks.undecayed_parameters(nn.Sequential(made, nn.Linear(3, 3))) == list(made.parameters())
