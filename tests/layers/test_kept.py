"""What is kept without gradients is what a fresh block forms, however a parameter was changed."""

import copy
import pickle

import pytest
import torch
from families import ONE_EACH, VARIATIONAL
from torch import nn
from torch.func import functional_call
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from blocks import block
from layers.spec import ConvSpec

FORMED = [conv for conv in ONE_EACH if conv not in ("Conv", "Sep")]
SPEC = ConvSpec(8, 12, 3, padding=1)


def fresh(made):
    """A copy with nothing kept, computed with gradients: it forms all anew."""
    return copy.deepcopy(made).requires_grad_(True)


def first(made):
    """A parameter of what is formed: the depthwise filters and biases of a separable block are never kept."""
    part = getattr(made, "map", None) or getattr(made, "shared", None) or getattr(made, "pointwise", None) or made
    return next(parameter for name, parameter in part.named_parameters() if name != "bias")


def by_optimizer(cls, **how):
    def change(made):
        optimizer = cls(made.parameters(), 0.1, **how)
        for parameter in made.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()

    return change


def copy_without_gradients(made):
    with torch.no_grad():
        first(made).copy_(first(made) + 1)


def write_to_data(made):
    first(made).data.add_(1)


def write_by_numpy(made):
    first(made).detach().numpy()[...] += 1


def swap_data(made):
    first(made).data = first(made).data + 1


def swap_strides(made):
    """The same storage, read in another order."""
    old = first(made).data
    first(made).data = old.as_strided(old.shape, [0] * old.dim())


def share_memory(made):
    """The same storage at another address."""
    write_to_data(made)
    made.share_memory()


def load(made):
    made.load_state_dict({name: value + 1 for name, value in made.state_dict().items()})


def assign(made):
    made.load_state_dict({name: value + 1 for name, value in made.state_dict().items()}, assign=True)


def swap_tensors(made):
    old = first(made)
    torch.utils.swap_tensors(old, nn.Parameter(old.detach() + 1))


def cast_there_and_back(made):
    made.bfloat16().float()


def cast(made):
    made.double()


def other_parts(made):
    other = block(made.conv, SPEC, seed=0, name="a")
    load(other)
    for name, part in [*other.named_children(), *other.named_parameters(recurse=False)]:
        setattr(made, name, part)


CHANGES = [
    by_optimizer(torch.optim.SGD, foreach=True), by_optimizer(torch.optim.SGD, fused=True), by_optimizer(torch.optim.Adam),
    copy_without_gradients, write_to_data, write_by_numpy, swap_data, swap_strides, share_memory, load, assign, swap_tensors,
    cast_there_and_back, cast, other_parts,
]  # fmt: skip


@pytest.mark.parametrize("conv", FORMED + VARIATIONAL)
def test_no_change_of_a_parameter_escapes(conv):
    x = torch.randn(1, 8, 4, 4)
    for number, change in enumerate(CHANGES):
        context = torch.inference_mode if number % 2 else torch.no_grad
        made = block(conv, SPEC, name="a").eval()
        made.conv = conv
        with context():
            before = made(x)
            assert torch.equal(made(x), before)
        change(made)
        x = x.to(first(made).dtype)
        with context():
            out, again = made(x), made(x)
        assert torch.equal(out, again)
        torch.testing.assert_close(out, fresh(made)(x), msg=f"after {change}")
        assert change is cast_there_and_back or out.dtype != before.dtype or not torch.allclose(out, before)
        x = x.float()


@pytest.mark.parametrize("conv", FORMED)
def test_what_is_kept_is_used_where_it_may_be(conv):
    """By autocast, copies, other parameters for one call, a layout, batch-norm, recomputed passes and gradients."""
    x = torch.randn(2, 8, 4, 4)
    net = nn.Sequential(block(conv, SPEC, name="a"), nn.BatchNorm2d(12))
    made = net[0]
    with torch.inference_mode():
        whole = net.eval()(x)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            rounded = made(x)
        straight = made(x)
        assert rounded.dtype == straight.dtype == torch.bfloat16
    assert (rounded - straight).norm() < 0.02 * straight.norm()
    with torch.no_grad():
        torch.testing.assert_close(net(x), whole)  # and not what was rounded
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert torch.equal(other(x), net(x))
        doubled = {name: parameter * 2 for name, parameter in made.named_parameters()}
        out = functional_call(made, doubled, x)
        assert torch.equal(made(x), net[0](x)) and not torch.allclose(out, made(x))
        torch.testing.assert_close(made.to(memory_format=torch.channels_last)(x), made(x))
    assert set(made.state_dict()) == {name for name, _ in made.named_parameters()}
    torch.testing.assert_close(functional_call(made, doubled, x), out)

    made.requires_grad_(False)  # a frozen block in a network that trains
    y = x.clone().requires_grad_()
    made(y).sum().backward()
    frozen, y.grad = y.grad, None
    made.requires_grad_(True)(y).sum().backward()
    torch.testing.assert_close(y.grad, frozen)
    assert all(parameter.grad is not None for parameter in made.parameters())
    straight = [parameter.grad.clone() for parameter in made.parameters()]
    for reentrant in (False, True):  # the first pass of the second has no gradients
        made.zero_grad()
        checkpoint(made, y, use_reentrant=reentrant).sum().backward()
        for parameter, gradient in zip(made.parameters(), straight):
            torch.testing.assert_close(parameter.grad, gradient)


def test_a_pruned_map_and_its_replicas_are_formed_anew():
    """A mask that changes, and tensors in the place of parameters, whose gradients must not be lost."""
    made, x = block("Generic_0.5", SPEC, name="a"), torch.randn(1, 8, 4, 4)
    prune.random_unstructured(made.map, "v", 0.5)
    with torch.no_grad():
        made(x), made(x)
        made.map.v_mask.zero_()
        assert not made(x).any()
    made = block("Generic_0.5", SPEC, name="a")
    with torch.no_grad():
        made(x)
    replica = made.map._replicate_for_data_parallel()
    replica.v, replica.u, replica.bias = (
        made.map.v * 2,
        made.map.u * 1,
        None,
    )  # as torch.nn.parallel.replicate leaves it
    with torch.no_grad():
        torch.testing.assert_close(replica(x), made.map(x) * 2)
    assert replica(x).requires_grad
