"""Loss parts against values worked by hand, and that a teacher stays as it was."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distill import (
    Distill,
    Supervised,
    attention_map,
    attention_maps,
    attention_transfer,
    knowledge_distillation,
    soften,
)
from layers.shuffle import Shuffle
from layers.spec import ConvSpec
from models.build import plain as build
from models.output import Output


def test_attention_map_by_hand():
    # two channels of 1×2 pixels: the means of squares are (1 + 49)/2 = 25 and (4·4 + 0)/2 = 8, the norm √(625 + 64)
    feature = torch.tensor([[[[1.0, 4.0]], [[7.0, 0.0]]]])
    norm = math.sqrt(25**2 + 8**2)
    torch.testing.assert_close(attention_map(feature), torch.tensor([[25 / norm, 8 / norm]]))
    assert attention_map(feature.bfloat16()).dtype == torch.float32
    assert attention_map(torch.zeros(2, 3, 4, 4)).eq(0).all()  # eps, not a division by zero


def test_attention_transfer_by_hand():
    # maps (3/5, 4/5) against (1, 0): ((2/5)² + (4/5)²) / 2 = 0.4; the other image agrees, so the mean is 0.2
    student = torch.tensor([[[[3.0**0.5, 2.0]]], [[[1.0, 0.0]]]])
    teacher = torch.tensor([[[[5.0, 0.0]]], [[[2.0, 0.0]]]])
    assert attention_transfer([student], attention_maps([teacher])).item() == pytest.approx(0.2 * 3)
    assert attention_transfer([student, teacher], attention_maps([teacher, teacher])).item() == pytest.approx(
        0.2 * 3 / 2
    )
    assert attention_transfer([student] * 3, attention_maps([teacher] * 3)).item() == pytest.approx(0.2 * 3)


def test_knowledge_distillation_by_hand():
    # at T = 2: teacher softmax(0, 2 ln 3 / 2) = (1/4, 3/4), student uniform: ¼ ln ½ + ¾ ln 3/2, times T² = 4
    teacher, student = torch.tensor([[0.0, 2 * math.log(3)]]), torch.tensor([[5.0, 5.0]])
    expected = 4 * (0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert knowledge_distillation(student, soften(teacher, 2.0), 2.0).item() == pytest.approx(expected)
    assert knowledge_distillation(teacher, soften(teacher, 4.0), 4.0).item() == pytest.approx(0, abs=1e-6)
    twice = knowledge_distillation(student.repeat(2, 1), soften(teacher.repeat(2, 1), 2.0), 2.0)
    assert twice.item() == pytest.approx(expected)  # a mean over the batch, a sum over the classes


@pytest.mark.parametrize(
    "student, teacher",
    [([(2, 3, 4, 4)], [(2, 3, 8, 8)]), ([(2, 3, 4, 4)], [(2, 3, 4, 4)] * 2), ([], []), ([(2, 3, 4, 4)], [])],
)
def test_taps_that_do_not_match_are_an_error(student, teacher):
    with pytest.raises(ValueError, match="do not match"):
        attention_transfer(
            [torch.randn(shape) for shape in student], attention_maps([torch.randn(shape) for shape in teacher])
        )


def test_channels_may_differ():
    assert attention_transfer([torch.randn(2, 3, 4, 4)], attention_maps([torch.randn(2, 9, 4, 4)])) > 0


def wrn(seed):
    torch.manual_seed(seed)
    return build({"network": "WideResNet", "wrn_depth": 10, "wrn_width": 0.5, "AT_split": 1}, classes=10)


def test_the_parts_sum_to_the_loss():
    teacher, student = wrn(0), wrn(1)
    x, y = torch.randn(6, 3, 32, 32), torch.randint(0, 10, (6,))
    output = Distill(teacher, alpha=0.3, beta=100.0, temperature=3.0)(student, x, y)
    out, taught = student(x), teacher(x)
    expected = {
        "cross_entropy": 0.7 * F.cross_entropy(out.logits, y),
        "distillation": 0.3
        * 9
        * F.kl_div(F.log_softmax(out.logits / 3, 1), F.softmax(taught.logits / 3, 1), reduction="batchmean"),
        "attention": 100 * sum(F.mse_loss(attention_map(s), attention_map(t)) for s, t in zip(out.taps, taught.taps)),
    }
    assert set(output.parts) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(output.parts[name], value)
    torch.testing.assert_close(output.loss, sum(expected.values()))
    assert set(Distill(teacher, 0.0, 0.0, 4.0)(student, x, y).parts) == {"cross_entropy"}


def test_the_teacher_does_not_change():
    teacher, student = wrn(0), wrn(1)
    criterion = Distill(teacher, alpha=0.5, beta=1000.0, temperature=4.0)
    before = copy.deepcopy(teacher.state_dict())
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    student.train()
    for _ in range(3):
        optimizer.zero_grad()
        criterion(student, torch.randn(4, 3, 32, 32), torch.randint(0, 10, (4,))).loss.backward()
        optimizer.step()
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


class WithAuxiliaries(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return Output(self.linear(x), [], self.linear(2 * x))

    def auxiliary_losses(self):
        return {"penalty": self.linear.weight.square().sum()}


def test_auxiliary_head_and_losses_join():
    model, x, y = WithAuxiliaries(), torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    output = Supervised()(model, x, y)
    torch.testing.assert_close(output.parts["auxiliary"], 0.4 * F.cross_entropy(model.linear(2 * x), y))
    torch.testing.assert_close(output.parts["penalty"], model.linear.weight.square().sum())
    torch.testing.assert_close(output.loss, sum(output.parts.values()))


def test_losses_of_modules_that_are_replaced():
    """They are looked for once, and again wherever a module has become another one, at any depth."""
    inner, base = WithAuxiliaries(), Shuffle(ConvSpec(4, 4, kernel_size=1), 2)
    model, criterion = nn.Sequential(nn.Sequential(base, nn.Identity()), nn.Identity()), Supervised()

    def penalties(model=model):
        output = Output(torch.zeros(1, 2), [])
        return set(criterion.loss_output(model, output, torch.tensor([0]), {"own": torch.zeros(())}).parts)

    assert penalties() == {"own"} and criterion._offers.modules == []
    model[0][1] = inner
    assert penalties() == {"own", "penalty"}
    scanned = criterion._offers
    assert penalties() == {"own", "penalty"} and criterion._offers is scanned
    assert penalties(nn.Sequential(nn.Identity())) == {"own"}
    del model[0][1]
    assert penalties() == {"own"}
    model[1].add_module("deep", inner)
    assert penalties() == {"own", "penalty"}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_attention_maps_gradient_is_autograds_to_the_bit(dtype, layout):
    feature = torch.randn(3, 7, 5, 6).to(dtype, memory_format=layout).requires_grad_()
    other = feature.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    found = attention_map(feature)
    expected = F.normalize(other.float().pow(2).mean(1).flatten(1), dim=1, eps=1e-12)
    weights = torch.randn_like(found)
    (found * weights).sum().backward(), (expected * weights).sum().backward()
    assert torch.equal(found, expected) and torch.equal(feature.grad, other.grad)
