"""A network that starts from a trained one: what is copied, what is approximated, what is refused."""

import pytest
import torch
from families import ONE_EACH, VARIATIONAL

import blocks
from blocks import block
from layers.init import materialise
from layers.registry import parse_conv
from layers.spec import ConvSpec
from models.build import build
from models.darts import DARTS
from weights import approximation

LITTLE = 0.05  # of the usual effort


def error_of(made, kernel):
    with torch.no_grad():
        return ((made.weight() - kernel).norm() / kernel.norm()).item()


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
    approximation.check(student, trained)
    rows = approximation.approximate_network(student, trained)
    assert len({row.layer for row in rows}) == len(rows) <= layers
    assert all(row.relative_error < 1e-5 for row in rows)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(student.eval()(x).logits, trained.eval()(x).logits, rtol=1e-3, atol=1e-3)
    assert rows[0].layer in approximation.table(rows) and "0.0000" in approximation.table(rows)
    assert all(parameter.grad is None for parameter in trained.parameters())


STARTING = [conv for conv in ONE_EACH if conv not in ("OriginalACDC", "PermutedACDC")] + VARIATIONAL


@pytest.mark.parametrize("conv", STARTING)
def test_every_family_starts_from_a_trained_network(conv):
    trained, student = network("Conv"), network(conv, where="groups.2")
    approximation.check(student, trained)
    rows = approximation.approximate_network(student, trained, LITTLE)
    assert [row.layer for row in rows] == ([] if conv == "Conv" else ["groups.2.0.conv1", "groups.2.0.conv2"])
    for row in rows:
        kernel = trained.get_submodule(row.layer).weight
        assert kernel.grad is None and row.relative_error == pytest.approx(
            error_of(student.get_submodule(row.layer), kernel)
        )
        assert row.relative_error < 1


def test_a_module_of_another_kind_cannot_approximate_a_kernel():
    student = network("Conv")
    student.groups[0][0].conv1 = torch.nn.Sequential(torch.nn.Conv2d(16, 8, 3, padding=1, bias=False), torch.nn.ReLU())
    with pytest.raises(ValueError, match="groups.0.0.conv1 is a Sequential, which cannot approximate a kernel"):
        approximation.check(student, network("Sep"))


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
        approximation.check(student, network(**source))


@pytest.mark.parametrize("conv", ONE_EACH)
def test_what_is_alike_there_is_copied(conv):
    """Layer by layer and to the bit, whatever else is swapped."""
    trained, student = network(conv, wrn_width=1.0), network(conv, where="groups.1", wrn_width=1.0)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.normal_()
    rows = {row.layer: row for row in approximation.approximate_network(student, trained, LITTLE)}
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
def test_another_seed_of_a_structure_is_approximated_and_said(conv):
    trained, student = network(conv, where="groups.1"), network(conv, where="groups.1", seed=1)
    rows = approximation.approximate_network(student, trained, LITTLE)
    assert [row.how for row in rows] == [f"approximated: {approximation.OTHER_SEED}"] * 2
    assert all(row.relative_error > 0.01 for row in rows) and "another seed" in approximation.table(rows)


def test_other_settings_are_approximated():
    trained = network("Generic_0.5", where="groups.1")
    for other in ("Generic_0.4", "LR_0.5", "Tucker_0.5"):
        assert {
            row.how for row in approximation.approximate_network(network(other, where="groups.1"), trained, LITTLE)
        } == {"approximated"}
    rows = approximation.approximate_network(network("Conv"), network("Sep"))
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
def test_a_users_block_is_copied_where_it_is_the_same_map(hidden, tmp_path):
    (tmp_path / "mine.py").write_text(USERS_BLOCK.replace("HIDDEN", str(hidden)))
    flags = dict(conv=None, module=str(tmp_path / "mine.py"), where="groups.1", wrn_width=1.0)
    trained, student = network(**flags), network(**flags, seed=1)
    how = {row.how for row in approximation.approximate_network(student, trained, LITTLE)}
    assert how == ({"approximated"} if hidden else {"copied"})
    if not hidden:
        assert torch.equal(trained.groups[1][0].conv1.p, student.groups[1][0].conv1.p)


def test_effort_bounds_a_fit():
    """So many evaluations, not so many seconds; the same at every call; near what much more work finds."""
    trained = network("Conv", wrn_width=1.0)
    kernel = approximation.dense(trained.groups[0][0].conv2)
    errors = []
    for effort in (0.3, 0.3, 4):
        made = block("TensorTrain_0.8", ConvSpec(16, 16, 3), name="a")
        errors.append(approximation.approximate_layer(made, *kernel, effort))
    assert errors[0] == errors[1] <= 1.01 * errors[2]
