"""fit: closed forms that are exact, and the way by gradient against Adam from random draws."""

import pytest
import torch
from families import CONVS, ONE_EACH

import blocks
from blocks import block
from layers.init import materialise
from layers.lowrank import LR
from layers.registry import FAMILIES, Fraction, parse_conv
from models.build import build
from models.darts import DARTS
from weights import fit


def make(conv, i, o, k, **extra):
    return block(conv, i, o, k, name="a", **extra)


def kernel_of(i, o, k, seed=0):
    """Correlated as trained kernels are, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    few, many = torch.randn(o, 3, generator=generator), torch.randn(3, i * k * k, generator=generator)
    return (few @ many + torch.randn(o, i * k * k, generator=generator)).view(o, i, k, k)


def separable_kernel(i, o, k):
    return torch.randn(o, i, 1, 1) * torch.randn(i, k, k)


def error_of(made, kernel):
    with torch.no_grad():
        return ((made.weight() - kernel).norm() / kernel.norm()).item()


@pytest.mark.parametrize("conv", ["Sep", "Generic_1", "TensorTrain_1", "Tucker_1", "SepHashedFull_0.1736"])
@pytest.mark.parametrize("i, o, k", [(32, 16, 3), (12, 20, 3), (16, 32, 1)])
def test_a_separable_kernel_is_reproduced_at_full_rank(conv, i, o, k):
    kernel = separable_kernel(i, o, k)
    if conv.startswith("SepHashedFull"):  # as many numbers as entries
        conv = f"SepHashedFull_{(i * o + (i * k * k if k > 1 else 0)) / (i * o * k * k)!r}"
    made = make(conv, i, o, k)
    assert made.fit(kernel) == pytest.approx(error_of(made, kernel), abs=1e-6)
    assert error_of(made, kernel) < 1e-5


@pytest.mark.parametrize("conv", ["Conv", "Hashed_1"])
def test_any_kernel_is_reproduced(conv):
    assert make(conv, 12, 20, 3).fit(torch.randn(20, 12, 3, 3)) < 1e-6


def test_hashed_numbers_become_means():
    made, kernel = make("Hashed_0.1", 12, 20, 3), torch.randn(20, 12, 3, 3)
    made.fit(kernel)
    index = made.shared.structure()[0].long()
    means = [kernel.flatten()[index == number].mean() for number in range(216)]
    torch.testing.assert_close(made.shared.numbers.detach(), torch.stack(means))


def test_low_rank_fits_are_the_best_of_their_rank():
    matrix = torch.randn(20, 30)
    singular = torch.linalg.svdvals(matrix)
    best = (singular[6:].norm() / singular.norm()).item()
    assert make("Generic_0.2", 30, 20, 1).fit(matrix[:, :, None, None]) == pytest.approx(best, rel=1e-4)
    half = torch.randn(24, 24)
    made = make("LR_0.25", 24, 24, 1)
    found = made.fit(half[:, :, None, None])
    values, vectors = torch.linalg.eigh((half + half.t()) / 2)  # the largest of the symmetric part
    nearest = vectors[:, -6:] @ torch.diag(values[-6:]) @ vectors[:, -6:].t()
    assert isinstance(made.map, LR) and found == pytest.approx(((nearest - half).norm() / half.norm()).item(), rel=1e-5)


def half_its_range(conv, i, o, k):
    """A name of the family, with s in the middle of what the layer can have."""
    family, later = parse_conv(conv).family, parse_conv(conv).numbers[1:]
    if family == "SepHashedFull":
        depthwise, entries = (i * k * k if k > 1 else 0), i * o * k * k
        return f"SepHashedFull_{(depthwise + i * o / 2) / entries!r}"
    if FAMILIES[family].numbers and isinstance(FAMILIES[family].numbers[0], Fraction):
        return "_".join([family, "0.5", *map(str, later)])
    return f"{family}_3" if family.endswith("ACDC") else conv


def adam(conv, i, o, k, kernel):
    """300 steps from random draws: the best of three rates and three draws; of one of each where an optimum is known."""
    best, some = 1e9, conv.split("_")[0] in {name.split("_")[0] for name in CLOSED}
    for rate in (1e-2,) if some else (1e-3, 1e-2, 1e-1):
        for draw in range(1 if some else 3):
            made = make(conv, i, o, k)
            made.reset_parameters(torch.Generator().manual_seed(1000 + draw))
            optimizer = torch.optim.Adam(made.parameters(), rate)
            for _ in range(300):
                optimizer.zero_grad()
                (made.weight() - kernel).square().sum().div(kernel.square().sum()).backward()
                optimizer.step()
            best = min(best, error_of(made, kernel))
    return best


CLOSED = ("Conv", "Sep", "Generic_0.5", "LR_0.5", "Hashed_0.5", "SepHashed_0.5", "TensorTrain_0.5_3")
HALVES = sorted({half_its_range(conv, 12, 8, 3) for conv in CONVS} - {"Shuffle_1", "Shuffle_3"})
HALVES = [
    conv for conv in HALVES if "lACDC" not in conv and "dACDC" not in conv and not conv.endswith("5_4")
]  # as others


@pytest.mark.long
@pytest.mark.parametrize(
    "conv, i, o, k",
    [(conv, 12, 8, 3) for conv in HALVES] + [(conv, 16, 12, 1) for conv in HALVES if conv in CLOSED],
)
def test_never_worse_than_adam(conv, i, o, k):
    conv = half_its_range(conv, i, o, k)
    kernel = kernel_of(i, o, k)
    made = make(conv, i, o, k)
    error = made.fit(kernel)
    assert error == pytest.approx(error_of(made, kernel), abs=1e-6)
    assert error <= adam(conv, i, o, k, kernel) + 1e-5


@pytest.mark.parametrize("conv", ["Generic_0.2", "SepHashed_0.3", "Shuffle_2", "TensorTrain_0.5", "LR_0.3", "CP_0.5"])
def test_a_kernel_of_its_own_family_is_found(conv):
    truth = make(conv, 8, 16, 1)
    made = make(conv, 8, 16, 1)
    made.reset_parameters(torch.Generator().manual_seed(5))
    assert made.fit(truth.weight().detach()) < 1e-2


def test_biases():
    kernel, bias = torch.randn(20, 12, 1, 1), torch.randn(20)
    with pytest.raises(ValueError, match="without a bias"):
        make("Generic_0.5", 12, 20, 1).fit(kernel, bias)
    for conv in ("Generic_0.5", "SepHashed_0.5", "SepHashedDecimate", "Hashed_0.5"):
        made = make(conv, 12, 20, 1, bias=True)
        made.fit(kernel, bias, work=10**8)  # a bias is exact, however near the kernel comes
        torch.testing.assert_close(made.effective_bias().detach(), bias)
        made.fit(kernel, work=10**8)
        assert not made.effective_bias().any()


def config(conv="Conv", network="WideResNet", **changes):
    base = {
        "dataset": "cifar10",
        "network": network,
        "wrn_depth": 10,
        "wrn_width": 0.5,
        "AT_split": 1,
        "width_mult": None,
    }
    return base | {"conv": conv, "module": None, "where": "", "seed": 0} | changes


def network(*arguments, **keywords):
    return materialise(build(config(*arguments, **keywords)), seed=0)


def some(conv, where, channels=8):
    """A small DARTS network, whose separable pairs and 1×1 convolutions are swapped or not."""
    torch.manual_seed(1)
    made = DARTS(channels=channels, cells=3)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean), torch.nn.init.uniform_(module.running_var)
    if conv:
        blocks.substitute(made, parse_conv(conv), where)
    return made


@pytest.mark.parametrize(
    "source, there, target, here, layers",
    [
        ("", "", "Sep", "", 20),
        ("Sep", "", "", "", 20),
        ("Sep", "", "Generic_1", "separable|dilated", 20),
        ("Generic_0.5", "preprocess", "Generic_1", "separable", 20),
        ("Conv", "separable", "Hashed_1", "", 20),
        ("LR_0.5", "", "Sep", "dilated", 20),
    ],
)
def test_a_network_starts_from_another(source, there, target, here, layers):
    """Where the form can hold the same maps the network computes the same, whatever of both is swapped."""
    trained, student = some(source, there), some(target, here)
    for parameter in student.parameters():
        torch.nn.init.normal_(parameter)
    fit.check(student, trained)
    rows = fit.fit_network(student, trained)
    assert len({row.layer for row in rows}) == len(rows) <= layers
    assert all(row.relative_error < 1e-5 for row in rows)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(student.eval()(x).logits, trained.eval()(x).logits, rtol=1e-3, atol=1e-3)
    assert rows[0].layer in fit.table(rows) and "0.0000" in fit.table(rows)
    assert all(parameter.grad is None for parameter in trained.parameters())


@pytest.mark.parametrize("conv", [conv for conv in ONE_EACH if conv not in ("OriginalACDC", "PermutedACDC")])
def test_every_family_starts_from_a_trained_network(conv, monkeypatch):
    monkeypatch.setattr(fit, "WORK_OF_NETWORK", 2 * 10**8)
    trained, student = network("Conv"), network(conv, where="groups.2")
    fit.check(student, trained)
    rows = fit.fit_network(student, trained)
    assert [row.layer for row in rows] == ([] if conv == "Conv" else ["groups.2.0.conv1", "groups.2.0.conv2"])
    for row in rows:
        kernel = trained.get_submodule(row.layer).weight
        assert kernel.grad is None and row.relative_error == pytest.approx(
            error_of(student.get_submodule(row.layer), kernel)
        )
        assert row.relative_error < 1


def test_a_kernel_without_anything_positive():
    """The nearest positive semidefinite map of −1 is 0."""
    made = make("LR_0.5", 8, 8, 1)
    assert made.fit(-torch.eye(8)[:, :, None, None]) == 1
    assert not made.weight().any()


def test_a_kernel_of_zeros():
    for conv in ONE_EACH:
        made = make(conv, 16, 16, 3)
        assert made.fit(torch.zeros(16, 16, 3, 3)) == 0
        assert not made.weight().any()


def test_a_convolution_that_nobody_knows_cannot_be_fitted():
    student = network("Conv")
    student.groups[0][0].conv1 = torch.nn.Sequential(torch.nn.Conv2d(16, 8, 3, padding=1, bias=False), torch.nn.ReLU())
    with pytest.raises(ValueError, match="groups.0.0.conv1 is a Sequential, which cannot be fitted"):
        fit.check(student, network("Sep"))


@pytest.mark.parametrize(
    "source, told",
    [
        (dict(wrn_width=0.25), "classifier.weight is 10×32 here, 10×16 there|groups.0.0.bn2.weight is 8 here, 4 there"),
        (dict(wrn_depth=16), "groups.0.1.bn1.weight is missing here, 8 there"),
        (dict(dataset="cifar100"), "classifier.weight is 10×32 here, 100×32 there"),
        (dict(network="DARTS"), "only one of both has a layer groups.0.0.conv1"),
        (dict(conv="Hashed_0.5"), "groups.0.0.conv1 has a bias there, but no place for one here"),
    ],
)
def test_what_a_network_cannot_start_from(source, told):
    student = network("Generic_0.5")
    with pytest.raises(ValueError, match=told):
        fit.check(student, network(**source))


@pytest.mark.parametrize("conv", ONE_EACH)
def test_what_is_alike_there_is_copied(conv, monkeypatch):
    """Layer by layer and to the bit, whatever else is swapped."""
    monkeypatch.setattr(fit, "WORK_OF_NETWORK", 10**8)
    trained, student = network(conv, wrn_width=1.0), network(conv, where="groups.1", wrn_width=1.0)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.normal_()
    rows = {row.layer: row for row in fit.fit_network(student, trained)}
    alike = [name for name in rows if name.startswith("groups.1")]
    assert len(alike) == (0 if conv == "Conv" else 2) and all(rows[name].how == "copied" for name in alike)
    assert all(rows[name].relative_error == 0 for name in alike)
    before, after = trained.state_dict(), student.state_dict()
    assert all(
        torch.equal(tensor, before[name])
        for name, tensor in after.items()
        if "groups.0" not in name and "groups.2" not in name
    )


@pytest.mark.parametrize("conv", ["Hashed_0.5", "SepHashed_0.5", "SepHashedDecimate", "PermutedACDC_2"])
def test_another_seed_of_a_structure_is_fitted_and_said(conv, monkeypatch):
    monkeypatch.setattr(fit, "WORK_OF_NETWORK", 10**8)
    trained, student = network(conv, where="groups.1"), network(conv, where="groups.1", seed=1)
    rows = fit.fit_network(student, trained)
    assert [row.how for row in rows] == [f"fitted: {fit.OTHER_SEED}"] * 2
    assert all(row.relative_error > 0.01 for row in rows) and "another seed" in fit.table(rows)


def test_other_settings_are_fitted(monkeypatch):
    monkeypatch.setattr(fit, "WORK_OF_NETWORK", 10**8)
    trained = network("Generic_0.5", where="groups.1")
    for other in ("Generic_0.4", "LR_0.5", "Tucker_0.5"):
        assert {row.how for row in fit.fit_network(network(other, where="groups.1"), trained)} == {"fitted"}
    rows = fit.fit_network(network("Conv"), network("Sep"))
    assert {row.how for row in rows} == {"copied"}  # a kernel holds any other


USERS_BLOCK = """
import torch
from layers.base import Block

class Conv(Block):
    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, bias):
        from layers.base import ConvSpec
        super().__init__(ConvSpec(in_channels, out_channels, kernel_size, stride, padding, dilation, bias))
        self.p = torch.nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.hidden = torch.randn(()) if HIDDEN else 1.0
    def forward(self, x):
        s = self.spec
        return torch.nn.functional.conv2d(x, self.weight(), None, s.stride, s.padding)
    def weight(self): return self.p * self.hidden
    def parameter_count(self): return self.p.numel()
    def mult_adds(self, h, w): return 0
    def exact_mult_adds(self, h, w, batch): return 0
    def reset_parameters(self, generator=None): self.p.data.normal_(generator=generator)
"""


@pytest.mark.parametrize("hidden", [False, True])
def test_a_users_block_is_copied_where_it_is_the_same_map(hidden, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "WORK_OF_NETWORK", 10**7)
    (tmp_path / "mine.py").write_text(USERS_BLOCK.replace("HIDDEN", str(hidden)))
    flags = dict(conv=None, module=str(tmp_path / "mine.py"), where="groups.1", wrn_width=1.0)
    trained, student = network(**flags), network(**flags, seed=1)
    how = {row.how for row in fit.fit_network(student, trained)}
    assert how == ({"fitted"} if hidden else {"copied"})
    if not hidden:
        assert torch.equal(trained.groups[1][0].conv1.p, student.groups[1][0].conv1.p)


def test_work_bounds_a_fit(monkeypatch):
    """So many evaluations, not so many seconds; the same at every call; near what much more work finds."""
    trained = network("Conv", wrn_width=1.0)
    counted = []
    original = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", lambda *a, **k: (counted.append(1), original(*a, **k))[1])
    errors, steps = [], []
    for work in (2 * 10**8, 2 * 10**8, 10**10):
        made = make("TensorTrain_0.8", 16, 16, 3)
        counted.clear()
        errors.append(fit.fit_layer(made, *fit.dense(trained.groups[0][0].conv2), work))
        steps.append(len(counted))
    assert errors[0] == errors[1] and steps[0] == steps[1] < 400 < steps[2]
    assert errors[0] <= 1.01 * errors[2]
