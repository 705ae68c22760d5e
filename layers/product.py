"""The product of ACDC's factors, applied to columns. Its backward pass computes the states between the factors again.

y = (M₁P)(M₂P)… as ACDC has it (layers/acdc.py), on columns: x ← P·C·(d ⊙ P′·C^T·(a ⊙ x)) for each factor in turn. Only x and
the diagonals are kept for the backward pass, and columns go through in blocks, so states take no more than HISTORY bytes
however many the factors are. Only states of no more than KEPT bytes, as of small maps, wait for the backward pass. It is one
operator to torch: a compiler, a tracer or a counter sees no factors.

    product(torch.eye(64), a, d, None, True)     # a, d: (11, 64); ACDC's matrix
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from layers import cosine_costs
from layers.cosine import Direct, Fourier, Staged, transform
from layers.factor_matrices import Matrices, forms_matrices, places, riffled_matrices, riffles
from layers.tracing import recorded

HISTORY = 1 << 25  # bytes of states that a backward pass holds at most, on a CPU
KEPT = 1 << 21  # bytes kept from the forward pass on, on a CPU: a third of the products is spared
BLOCK = 1 << 17  # numbers of a state that stay in a CPU's cache from one product to the next
LEAST = 32  # columns of a block


class Ways(NamedTuple):
    """The transforms of N channels, and an index (N,) a factor of the permutations inside and after it; one where all are the same.

    Permutations are in the orders that the transforms want.
    """

    cosine: Direct | Staged | Fourier
    inside: tuple[Tensor, ...]
    after: tuple[Tensor, ...]

    def transposed(self) -> "Ways":
        """Return what takes gradients back: transposed transforms, inverse permutations."""
        inverse = (torch.stack(order).argsort(1).unbind() for order in (self.inside, self.after))
        return Ways(self.cosine.transposed(), *inverse)


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _riffled(form: str, n: int, inside: bool, dtype: torch.dtype, device: torch.device) -> tuple[Ways, Ways]:
    """Return the ways of a factor with a riffle after it, and one inside where `inside`; and those of its gradient."""
    orders = riffles(n, inside, device)
    ways = _around(transform(form, n, dtype, device), *(order[None] for order in orders))
    return ways, ways.transposed()


def form_constants(a: Tensor, riffles: bool, inside: bool) -> None:
    """Form what `product` takes from diagonals a (F, N), in whichever form it runs: then it only reads it.

    Args: riffles: whether its permutations are riffles; inside: whether there is one inside the factors too.
    """
    form, n = cosine_costs.form(a.shape[1]), a.shape[1]
    if riffles:
        _riffled(form, n, inside, a.dtype, a.device), riffled_matrices(n, inside, a.dtype, a.device)
    else:
        transform(form, n, a.dtype, a.device), transform("direct", n, a.dtype, a.device)


def _around(cosine: Direct | Staged | Fourier, inside: Tensor, after: Tensor) -> Ways:
    """Return the ways of factors with permutations (F, N)."""
    inputs, outputs = cosine.inputs, cosine.outputs
    inside, after = cosine.outputs_back[inside[:, outputs]], cosine.inputs_back[after[:, inputs]]
    return Ways(cosine, inside.unbind(), after.unbind())


class _Factors:
    """Factors of one product at work on blocks of columns in buffers of its own."""

    def __init__(self, ways: Ways, back: Ways, a: Tensor, d: Tensor, columns: int):
        self.ways, self.back_ways = ways, back
        ordered = a.index_select(1, ways.cosine.inputs), d.index_select(1, ways.cosine.outputs)
        self.a, self.d = (each.unsqueeze(-1).unbind() for each in ordered)
        self.buffers = torch.empty(3, a.shape[1] * columns, dtype=a.dtype, device=a.device)

    def fit(self, columns: int) -> None:
        """Make the buffers as wide as a block."""
        self.wide = [buffer[: len(self.a[0]) * columns].view(-1, columns) for buffer in self.buffers]
        self.both = self.ways.cosine.bound(*self.wide)
        same = self.back_ways.cosine is self.ways.cosine
        self.both_back = self.both if same else self.back_ways.cosine.bound(*self.wide)

    def apply(self, number: int, x: Tensor, within: Tensor, out: Tensor) -> None:
        """Apply factor `number` to x; write the state before the multiplication with d to `within`, then the result to `out`."""
        scaled, transformed, _ = self.wide
        (analyse, synthesise), (_, inside, after) = self.both, self.ways
        torch.mul(x, self.a[number], out=scaled)
        analyse()
        torch.index_select(transformed, 0, inside[number % len(inside)], out=within)
        torch.mul(within, self.d[number], out=scaled)
        synthesise()
        torch.index_select(transformed, 0, after[number % len(after)], out=out)

    def apply_all(self, x: Tensor, states: list[Tensor]) -> None:
        """Write x and the two states of each factor in turn to `states`."""
        states[0].copy_(x)
        for number in range(len(self.a)):
            self.apply(number, *states[2 * number : 2 * number + 3])

    def back(self, number: int, slope: Tensor, states: list[Tensor], by_a: Tensor, by_d: Tensor) -> None:
        """Replace the gradient of factor `number`'s result, `slope`, by that of its input.

        Take its two states (input, within) from the end of `states`; add the gradients of its diagonals to `by_a`, `by_d` (N,).
        """
        permuted, transformed, spare = self.wide
        (analyse, synthesise), (_, inside, after) = self.both_back, self.back_ways
        for diagonal, total, order, undo in (
            (self.d[number], by_d, after, analyse),
            (self.a[number], by_a, inside, synthesise),
        ):
            torch.index_select(slope, 0, order[number % len(order)], out=permuted)
            undo()
            total.add_(torch.mul(states.pop(), transformed, out=spare).sum(1))
            torch.mul(transformed, diagonal, out=slope)


def _prepare(a: Tensor, d: Tensor, permutations: Tensor | None, inside: bool, columns: int) -> tuple[_Factors, int]:
    """Return the factors, and how many columns make a block.

    On a GPU all columns are one, as long as they need no more than eight times HISTORY.
    """
    factors, n = a.shape
    on_cpu = a.device.type == "cpu"
    most = HISTORY * (1 if on_cpu else 8) // (2 * factors * n * a.element_size())
    block = min(max(min(most, BLOCK // n if on_cpu else columns) // LEAST * LEAST, LEAST), columns)
    form = cosine_costs.form(n)
    if permutations is None:
        ways, back = _riffled(form, n, inside, a.dtype, a.device)
    else:
        ways = _around(transform(form, n, a.dtype, a.device), permutations[::2], permutations[1::2])
        back = ways.transposed()
    return _Factors(ways, back, a, d, block), block


def _kept(x: Tensor, a: Tensor) -> int:
    """Return how many numbers are kept for the backward pass: all states of x in one block, and the matrices; or none."""
    (factors, n), columns = a.shape, x.shape[1]
    matrices = forms_matrices(a, columns)
    numbers = factors * n * (n + columns) if matrices else (2 * factors + 1) * n * columns
    small = a.device.type == "cpu" and numbers * a.element_size() <= KEPT
    return numbers if small and (matrices or 2 * n * columns <= BLOCK) else 0


def _product(x: Tensor, a: Tensor, d: Tensor, permutations: Tensor | None, inside: bool) -> tuple[Tensor, Tensor]:
    """Return the result (N, R), and what is kept."""
    kept = x.new_empty(_kept(x, a))
    if forms_matrices(a, x.shape[1]):
        with torch.autocast(x.device.type, enabled=False):
            return Matrices(a, d, permutations, inside).apply(x, *places(x, a, kept)), kept
    factors, block = _prepare(a, d, permutations, inside, x.shape[1])
    inputs, to_inputs, out = factors.ways.cosine.inputs, factors.ways.cosine.inputs_back, x.new_empty(x.shape)
    with torch.autocast(x.device.type, enabled=False):
        for start in range(0, x.shape[1], block):
            state = x[:, start : start + block].index_select(0, inputs)
            factors.fit(state.shape[1])
            if len(kept):
                states = kept.view(-1, *x.shape).unbind()
                factors.apply_all(state, states)
                state = states[-1]
            else:
                within = torch.empty_like(state)
                for number in range(len(a)):
                    factors.apply(number, state, within, state)
            out[:, start : start + block] = state.index_select(0, to_inputs)
    return out, kept


def _product_backward(
    gradient: Tensor, x: Tensor, a: Tensor, d: Tensor, permutations: Tensor | None, inside: bool, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `product` with respect to x, a and d, from that with respect to its result (N, R)."""
    if forms_matrices(a, x.shape[1]):
        with torch.autocast(x.device.type, enabled=False):
            matrices, (factors, states) = Matrices(a, d, permutations, inside), places(x, a, kept)
            if not len(kept):
                matrices.apply(x, factors, states)
            return matrices.gradients(gradient, factors, states)
    factors, block = _prepare(a, d, permutations, inside, x.shape[1])
    cosine = factors.ways.cosine
    inputs, to_inputs, to_outputs = cosine.inputs, cosine.inputs_back, cosine.outputs_back
    by_x, sums = x.new_empty(x.shape), a.new_zeros(2, *a.shape)
    by_a, by_d = (each.unbind() for each in sums)
    known = len(kept) > 0
    history = kept if known else x.new_empty((2 * len(a) + 1) * len(x) * block)  # once: new memory costs time
    with torch.autocast(x.device.type, enabled=False):
        for start in range(0, x.shape[1], block):
            given = x[:, start : start + block]
            factors.fit(given.shape[1])
            states = [state[: given.numel()].view(given.shape) for state in history.view(2 * len(a) + 1, -1)]
            if not known:
                factors.apply_all(given.index_select(0, inputs), states)
            states.pop()
            slope = gradient[:, start : start + block].index_select(0, inputs)
            for number in reversed(range(len(a))):
                factors.back(number, slope, states, by_a[number], by_d[number])
            by_x[:, start : start + block] = slope.index_select(0, to_inputs)
    return by_x, sums[0].index_select(1, to_inputs), sums[1].index_select(1, to_outputs)


def _keep(ctx, inputs, output) -> None:
    x, a, d, permutations, ctx.inside = inputs
    ctx.set_materialize_grads(False)  # what is kept has none
    ctx.save_for_backward(x, a, d, permutations, output[1])


def _backward(ctx, gradient: Tensor | None, _):
    if gradient is None:  # nothing depends on the result
        return (None,) * 5
    x, a, d, permutations, kept = ctx.saved_tensors
    back = OPERATORS.acdc_product_backward if recorded() else _product_backward
    return *back(gradient, x, a, d, permutations, ctx.inside, kept), None, None


class _Eager(torch.autograd.Function):
    """The same where nothing records it: a call takes torch 0.1 ms less."""

    @staticmethod
    def forward(ctx, *inputs):
        out, kept = _product(*inputs)
        _keep(ctx, inputs, (out, kept))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return _backward(ctx, gradient, None)


# Not torch.library.custom_op: its first call imports the compiler, which takes seconds.
LIBRARY, OPERATORS = torch.library.Library("swapconv", "DEF"), torch.ops.swapconv
LIBRARY.define("acdc_product(Tensor x, Tensor a, Tensor d, Tensor? permutations, bool inside) -> (Tensor, Tensor)")
LIBRARY.define(
    "acdc_product_backward(Tensor gradient, Tensor x, Tensor a, Tensor d, Tensor? permutations, bool inside,"
    " Tensor kept) -> (Tensor, Tensor, Tensor)"
)
LIBRARY.impl("acdc_product", _product, "CompositeExplicitAutograd")
LIBRARY.impl("acdc_product_backward", _product_backward, "CompositeExplicitAutograd")
torch.library.register_fake(
    "swapconv::acdc_product",
    lambda x, a, *_: (x.new_empty(x.shape), x.new_empty(_kept(x, a))),
    lib=LIBRARY,
)
torch.library.register_fake(
    "swapconv::acdc_product_backward",
    lambda gradient, x, a, d, *_: (x.new_empty(x.shape), a.new_empty(a.shape), d.new_empty(d.shape)),
    lib=LIBRARY,
)
torch.library.register_autograd("swapconv::acdc_product", _backward, setup_context=_keep, lib=LIBRARY)


def product(x: Tensor, a: Tensor, d: Tensor, permutations: Tensor | None, inside: bool) -> Tensor:
    """Apply F factors to the columns of x (N, R); a, d: (F, N), of the same type.

    Args: permutations: (2F, N), inside and after each factor in turn, or None for riffles; inside: whether there is a riffle
    inside the factors too. Returns (N, R).
    """
    if recorded() or x.is_meta:
        return OPERATORS.acdc_product(x, a, d, permutations, inside)[0]
    return _Eager.apply(x, a, d, permutations, inside)
