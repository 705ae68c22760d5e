"""What makes gated networks train: clipped gradients with FBS, and gates that join a trained network."""

import pytest
import torch
import torch.nn.functional as F

from cli import options
from layers.init import materialise
from models.build import build
from weights.approximation import approximate_network

SMALL = "--wrn_depth 10 --wrn_width 1"


def request(flags):
    return options.training(["digits", "teacher", "-t", "t", *SMALL.split(), *flags.split()])


def network(flags=""):
    config = request(flags)
    return materialise(build(config), config.seed)


@pytest.mark.parametrize(
    "flags, norm, warmup",
    [
        ("--gate FBS_0.5 --epochs 9", 1.0, 4.5), ("--gate FBS_0.5 --clip_grad 7 --gate_warmup 0", 7.0, 0.0),
        ("--gate Naive_0.5", None, 0.0), ("", None, None),
    ],
)  # fmt: skip
def test_gradients_are_clipped_and_density_falls_with_fbs_where_nothing_else_is_said(flags, norm, warmup):
    assert (request(flags).clip_grad, request(flags).gate_warmup) == (norm, warmup)


def test_gates_that_join_a_trained_network_leave_it_about_as_it_is():
    """FBS gates are drawn as ever, and scale by nearly 1 once they start from a network without gates; gated runs hand theirs on."""
    dense = network()
    drawn, gated = network("--gate FBS_1.0"), network("--gate FBS_1.0")
    approximate_network(gated, dense)
    x = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for each in (dense, drawn, gated):
        each.eval()
    with torch.no_grad():
        plain, joined, new = (F.normalize(each(x).logits) for each in (dense, gated, drawn))
    assert (joined - plain).norm() < 0.3 * (new - plain).norm()
    for gate, as_drawn in zip(gated.gates.values(), drawn.gates.values(), strict=True):
        torch.testing.assert_close(gate.weight, 0.1 * as_drawn.weight)
    again = network("--gate FBS_0.5 --seed 3")
    approximate_network(again, gated)
    assert all(torch.equal(again.gates[name].weight, gate.weight) for name, gate in gated.gates.items())
    naive, before = (network("--gate Naive_0.5") for _ in range(2))
    approximate_network(naive, dense)
    assert all(torch.equal(naive.gates[name].weight, gate.weight) for name, gate in before.gates.items())
