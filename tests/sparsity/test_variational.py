"""Variational networks: what is swapped, how their divergence is weighed, what is left of them, and their runs."""

import pytest
import study_samples as samples
import torch
from families import VARIATIONAL
from ranks import Ranks
from results import rows_of, same, saved
from samples import write_own
from taught import taught_and_resumed
from torch import nn

import blocks
import main
from cli import options
from counting import costs
from distill import Criterion
from input.batches import Batch
from layers.init import materialise
from layers.registry import parse_conv
from layers.spec import ConvSpec
from models.build import build
from models.darts import DARTS
from models.output import Output
from schedules import outcomes
from sparsity import density
from sparsity.kl import KLWeight
from sparsity.run_costs import costs_of_run
from system.errors import RequestError
from training.optim import SGD, Adam, parameter_groups
from training.step import TrainStep
from weights import approximation

WRN = ["cifar10", "--wrn_depth", "10", "--wrn_width", "0.5"]
LEAVES = ["folder:leaves", "--network", "AllConv", "--batch_size", "3", "--optimizer", "adam"]


def swapped(network):
    return [name for name, each in network.named_modules() if isinstance(each, blocks.Replacement)]


def test_the_classifier_is_replaced_too_but_by_no_other_conv():
    """Where --where and a mixed name say so; not that of an auxiliary head. It is counted as it is built."""
    for more, replaced, layers in (
        ("--conv SparseVD", True, 7), ("--conv GroupVD --where groups.[01]", False, 4), ("--conv Sep", False, 6),
        ("--conv SparseVD --where classifier", True, 1), ("--conv groups=Sep,.*=GroupVD", True, 7),
        ("--conv classifier=Conv,.*=GroupVD", False, 6),
    ):  # fmt: skip
        config = options.counting([*WRN, *more.split()])
        network = build(config)
        assert ("classifier.block" in swapped(network), len(swapped(network))) == (replaced, layers), more
        assert costs.costs_of(config) == costs.count(network, 32)
    with pytest.raises(RequestError, match="--where 'clasifier' matches none of the layers that can be swapped"):
        build(options.counting([*WRN, "--conv", "SparseVD", "--where", "clasifier"]))
    with torch.device("meta"):
        network = DARTS(channels=8, cells=3)
        blocks.substitute(network, parse_conv("GroupVD"))
    assert "classifier.block" in swapped(network) and not any("auxiliary" in name for name in swapped(network))


@pytest.mark.long
def test_a_library_network_too():
    pytest.importorskip("torchvision")
    flags = ["cifar10", "--network", "torchvision:resnet18", "--conv", "GroupVD"]
    network = materialise(build(options.counting(flags)), seed=0)
    assert "fc.block" in swapped(network) and "conv1" not in swapped(network)
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    assert network.fc.block.log_variance.mean().item() == pytest.approx(-9, abs=0.01)
    assert network(torch.randn(2, 3, 32, 32)).logits.shape == (2, 10)


@pytest.mark.parametrize("conv", VARIATIONAL)
def test_it_starts_from_a_trained_network_and_the_other_way_round(conv):
    dense, student, again = (
        materialise(build(options.counting([*WRN, "--conv", each])), seed)
        for seed, each in enumerate(("Conv", conv, conv))
    )
    approximation.check(student, dense)
    rows = approximation.approximate_network(student, dense)
    assert len(rows) == 7 and all(row.relative_error < 0.05 for row in rows)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(student.eval()(x).logits, dense.eval()(x).logits, rtol=0.1, atol=0.1)
    rows = approximation.approximate_network(again, student)
    assert {row.how for row in rows} == {"copied"} and same(again.state_dict(), student.state_dict())
    approximation.approximate_network(dense, student)
    torch.testing.assert_close(dense.eval()(x).logits, student.eval()(x).logits)


class Blind(Criterion):
    """No loss but what modules offer."""

    def __call__(self, model, x, y):
        return self.loss_output(model, Output(x.flatten(1)[:, :2], []), y, {"nothing": x.sum() * 0.0})


@pytest.mark.parametrize("parts", [1, 3])
def test_the_divergence_is_weighed_once_a_step_and_warmed_up(parts):
    """Over the number of training images, however many parts a batch is divided into."""
    model = nn.Sequential(*(blocks.block(conv, ConvSpec(3, 4, 1, bias=True), name=conv) for conv in VARIATIONAL))
    expected = {
        p: torch.autograd.grad(layer.kl(), p, allow_unused=True)[0] for layer in model for p in layer.parameters()
    }
    callback = KLWeight(0.5, warmup=0.4)
    step = TrainStep(model, Blind(), SGD(parameter_groups(model, {}, 0.0, 1.0), 1e-9, 0.0), [callback], parts=parts)
    step.images, batch = 50, Batch(torch.randn(7, 3, 1, 1), torch.zeros(7, dtype=torch.long), 7, 7)
    callback.check(model)
    for t, weight in ((0.0, 0.0), (0.1, 0.125), (0.4, 0.5), (0.9, 0.5)):
        step.t = t
        sums = step(batch).sums()
        kl = sum(layer.kl() for layer in model).item()
        assert sums["loss_kl"] / 7 == pytest.approx(weight / 50 * kl, rel=1e-5) and callback.metrics() == {
            "kl_weight": weight
        }
        for parameter, gradient in expected.items():
            found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(found, torch.zeros_like(found) if gradient is None else gradient * (weight / 50))
    with pytest.raises(RequestError, match="--kl_weight 0.5: no layer of this network is variational"):
        callback.check(nn.Linear(2, 2))
    assert KLWeight(2.0, warmup=0.0).weight_at(0.0) == 2.0


def test_none_of_their_parameters_decays():
    network = materialise(build(options.counting([*WRN, "--conv", "groups.0=GroupVD,.*=Generic_0.5"])), 0)
    undecayed = blocks.undecayed_parameters(network)
    structured = dict.fromkeys(blocks.structured_parameters(network), 1.0)
    groups = Adam(parameter_groups(network, structured, 5e-4, 0.1, undecayed), 1e-3, 0.9).param_groups
    assert [(group["name"], group["weight_decay"]) for group in groups] == [
        ("plain", 5e-4), ("structured", 5e-5), ("undecayed", 0.0),
    ]  # fmt: skip
    names = {parameter: name for name, parameter in network.named_parameters()}
    assert {names[each].rsplit(".", 1)[0] for each in groups[2]["params"]} == {"groups.0.0.conv1", "groups.0.0.conv2"}
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_what_is_left_is_what_tests_use():
    network = nn.Sequential(
        blocks.block("GroupVD", ConvSpec(2, 4, 3, bias=True), name="a"), nn.BatchNorm2d(4),
        blocks.block("SparseVD", ConvSpec(4, 5, 1, bias=True), name="b"), nn.Conv2d(5, 1, 1),
    )  # fmt: skip
    with torch.no_grad():
        network[0].factor[1:3] = 1e-3
        network[0].bias.fill_(1.0)
        network[2].log_variance[:, 0] = 9.0
        network[2].bias.fill_(1.0)
    found = density.counted(network)
    assert found.layers == {"0": 2 / 4, "2": 3 / 4, "3": 1.0}
    assert (found.active, found.prunable) == (36 + 15 + 5, 72 + 20 + 5)
    assert found.active_parameters == found.active + (2 + 4 + 5 + 1)  # biases of filters that stay, scales, biases
    assert found.sparse_bytes == (9 + 3 + 1) + 4 * found.active + 4 * (4 + 8 + 5 + 1) + 4 * 8 + 8  # statistics


def test_labels_say_an_unusual_weight(tmp_path):
    """Networks of several weights are on one line."""
    more = {"kl_warmup": 0.2, "epochs": 1, "active_parameters": 25_000}
    weights = {1.0: "", 0.1: "KL ×0.1"}
    runs = [samples.run("GroupVD", 5.0, taught=False, group=f"{each}", kl_weight=each, **more) for each in weights]
    runs.append(samples.run("Conv", 4.0, taught=False))
    study = outcomes.read(str(samples.write(tmp_path / "study.csv", runs, count=2)))
    groups = [each for each in study.pairs[0].groups if each.family == "GroupVD"]
    assert {each.suffix for each in groups} == {*weights.values()} and len({each.line for each in groups}) == 1


@pytest.mark.parametrize(
    "conv", [VARIATIONAL[-1], *(pytest.param(each, marks=pytest.mark.long) for each in VARIATIONAL[:-1])]
)
def test_a_student_is_resumed_to_the_bit(conv, workplace):
    write_own(workplace / "leaves", count=2, side=8)
    first, second = taught_and_resumed(workplace, LEAVES, conv)
    assert first["kl_weight"] == second["kl_weight"] == 1.0  # warmed up within the first two fifths of an epoch
    assert first["train_loss_kl"] > 0 and 0 < second["active_fraction"] <= 1
    assert "active_fraction/classifier.block" in second and second["active_parameters"] > 0
    assert second["active_mult_adds"] == costs_of_run("s", 128)["active_mult_adds"] > 0


@pytest.mark.long
def test_recomputed_activations_have_the_same_noise(workplace):
    write_own(workplace / "leaves", count=2, side=8)
    run = [
        *LEAVES[:1],
        "teacher",
        *LEAVES[1:],
        "--conv",
        "GroupVD",
        "--epochs",
        "1",
        "--precision",
        "bf16",
        "--grad_accum",
        "2",
    ]
    for name, more in (("a", []), ("b", ["--checkpoint_activations"])):
        assert main.main([*run, "-t", name, *more]) == 0
    assert same(saved(workplace, "a")["model"], saved(workplace, "b")["model"])


@pytest.mark.long
def test_two_processes_weigh_the_divergence_as_one(workplace, tmp_path_factory):
    """So heavily that it is all that moves the variances; the noise of the processes differs."""
    folders = [workplace, tmp_path_factory.mktemp("one")]
    run = [
        "teacher",
        "-t",
        "r",
        "--conv",
        "GroupVD",
        "--epochs",
        "1",
        "--kl_weight",
        "1e4",
        "--kl_warmup",
        "0",
        "--lr",
        "1e-4",
    ]
    for count, folder in zip((2, 1), folders):
        write_own(folder / "leaves", count=2, side=8)
        ranks = Ranks(count, "folder:leaves", "--network", "AllConv", "--batch_size", "4", *run, cwd=folder)
        assert ranks.wait() == [0] * count and {line.split()[0] for line in ranks.told} == {"decoding"}
    (two,), (one,) = (rows_of(folder, "r") for folder in folders)
    assert two["train_loss_kl"] == pytest.approx(one["train_loss_kl"], rel=1e-4)
    start = materialise(build(saved(workplace, "r")["config"]), 0).state_dict()
    moved = [saved(folder, "r")["model"] for folder in folders]
    for name, before in start.items():
        if name.endswith("block.log_variance") or (name.endswith("log_variance") and "classifier" not in name):
            here, there = (after[name] - before for after in moved)
            assert (here - there).norm() < 0.01 * there.norm() and there.norm() > 0
