"""The product of ACDC's factors, applied to columns. Its backward pass computes the states between the factors again.

y = (M₁P)(M₂P)… as ACDC has it (layers/acdc.py), on columns: x ← P·C·(d ⊙ P′·C^T·(a ⊙ x)) for each factor in turn. Only x and
the diagonals are kept for the backward pass, and columns go through in blocks, so states take no more than HISTORY bytes
however many the factors are. It is one operator to torch: a compiler, a tracer or a counter sees no factors.

    product(torch.eye(64), a, d, None, True)     # a, d: (11, 64); ACDC's matrix
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from layers import cosine_costs
from layers.cosine import transform

HISTORY = 1 << 25  # bytes of states that a backward pass holds at most, on a CPU
BLOCK = 1 << 17  # numbers of a state that stay in a CPU's cache from one product to the next
LEAST = 32  # columns of a block


def riffle(n: int) -> list[int]:
    """Return the order of the riffle: of N channels the even ones first, then the odd ones."""
    return [*range(0, n, 2), *range(1, n, 2)]


class Ways(NamedTuple):
    """A product's transforms, and the permutations around them in the orders that the transforms want.

    `analyse` and `synthesise` map columns (N, R). `inside` and `after` are (F, N), or None where the transforms contain them.
    """

    analyse: object
    synthesise: object
    adjoint_analyse: object
    adjoint_synthesise: object
    inputs: Tensor
    outputs: Tensor
    inside: Tensor | None
    after: Tensor | None


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _riffled(form: str, n: int, inside: bool, dtype: torch.dtype, device: torch.device) -> Ways:
    """Return the ways of a product with riffles after the factors, and inside too where `inside`."""
    cosine, riffled = transform(form, n, dtype, device), torch.tensor(riffle(n), device=device)
    within = riffled if inside else torch.arange(n, device=device)
    if form != "direct":
        return _around(cosine, within[None], riffled[None])
    first, second = cosine.matrix[:, within].t().contiguous(), cosine.matrix[riffled]
    return Ways(
        first.__matmul__, second.__matmul__, first.t().__matmul__, second.t().__matmul__,
        cosine.inputs, cosine.outputs, None, None,
    )  # fmt: skip


def _around(cosine, inside: Tensor, after: Tensor) -> Ways:
    """Return the ways of a product with permutations (1 or F, N)."""
    inputs, outputs = cosine.inputs, cosine.outputs
    to_input, to_output = inputs.argsort(), outputs.argsort()
    return Ways(
        cosine.analyse, cosine.synthesise, cosine.synthesise, cosine.analyse,
        inputs, outputs, to_output[inside[:, outputs]], to_input[after[:, inputs]],
    )  # fmt: skip


def _ways(a: Tensor, permutations: Tensor | None, inside: bool, columns: int) -> Ways:
    n = a.shape[1]
    form = cosine_costs.form(n, columns)
    if permutations is None:
        return _riffled(form, n, inside, a.dtype, a.device)
    return _around(transform(form, n, a.dtype, a.device), permutations[::2], permutations[1::2])


def _block(a: Tensor, columns: int) -> int:
    """Return how many columns go through the factors at once. On a GPU all do, while HISTORY allows as many bytes eight times."""
    factors, n = a.shape
    on_cpu = a.device.type == "cpu"
    kept = HISTORY * (1 if on_cpu else 8) // (2 * factors * n * a.element_size())
    return max(min(kept, BLOCK // n if on_cpu else columns) // LEAST * LEAST, LEAST)


def _factor(ways: Ways, number: int, x: Tensor, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Apply one factor to x (N, R). Return the state before the multiplication with d, and the result."""
    within = ways.analyse(x * a[:, None])
    if ways.inside is not None:
        within = within.index_select(0, ways.inside[number % len(ways.inside)])
    x = ways.synthesise(within * d[:, None])
    if ways.after is not None:
        x = x.index_select(0, ways.after[number % len(ways.after)])
    return within, x


@torch.library.custom_op("swapconv::acdc_product", mutates_args=())
def product(x: Tensor, a: Tensor, d: Tensor, permutations: Tensor | None, inside: bool) -> Tensor:
    """Apply F factors to the columns of x (N, R); a, d: (F, N), of the same type.

    Args: permutations: (2F, N), inside and after each factor in turn, or None for riffles; inside: whether there is a riffle
    inside the factors too. Returns (N, R).
    """
    ways = _ways(a, permutations, inside, x.shape[1])
    back, out = ways.inputs.argsort(), torch.empty_like(x, memory_format=torch.contiguous_format)
    a, d = a[:, ways.inputs], d[:, ways.outputs]
    block = _block(a, x.shape[1])
    with torch.autocast(x.device.type, enabled=False):
        for start in range(0, x.shape[1], block):
            state = x[:, start : start + block].index_select(0, ways.inputs)
            for number in range(len(a)):
                _, state = _factor(ways, number, state, a[number], d[number])
            out[:, start : start + block] = state.index_select(0, back)
    return out


@product.register_fake
def _(x, a, d, permutations, inside):
    return x.new_empty(x.shape)


@torch.library.custom_op("swapconv::acdc_product_backward", mutates_args=())
def product_backward(
    gradient: Tensor, x: Tensor, a: Tensor, d: Tensor, permutations: Tensor | None, inside: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `product` with respect to x, a and d, from that with respect to its result (N, R)."""
    ways = _ways(a, permutations, inside, x.shape[1])
    to_input, to_output = ways.inputs.argsort(), ways.outputs.argsort()
    a, d = a[:, ways.inputs], d[:, ways.outputs]
    inverse = ways._replace(
        inside=None if ways.inside is None else ways.inside.argsort(1),
        after=None if ways.after is None else ways.after.argsort(1),
    )
    by_a, by_d, by_x = torch.zeros_like(a), torch.zeros_like(d), torch.empty_like(x, memory_format=torch.contiguous_format)
    block = _block(a, x.shape[1])
    with torch.autocast(x.device.type, enabled=False):
        for start in range(0, x.shape[1], block):
            states = [x[:, start : start + block].index_select(0, ways.inputs)]
            for number in range(len(a)):
                states += _factor(ways, number, states[-1], a[number], d[number])
            states.pop()
            slope = gradient[:, start : start + block].index_select(0, ways.inputs)
            for number in reversed(range(len(a))):
                slope = _factor_backward(inverse, number, slope, states, (a, d), (by_a, by_d))
            by_x[:, start : start + block] = slope.index_select(0, to_input)
    return by_x, by_a[:, to_input], by_d[:, to_output]


def _factor_backward(inverse: Ways, number: int, slope: Tensor, states: list[Tensor], diagonals, gradients) -> Tensor:
    """Take a factor's two states from the end of `states`, add its diagonals' gradients, return that of its input.

    `inverse` holds the inverse permutations.
    """
    (a, d), (by_a, by_d) = diagonals, gradients
    if inverse.after is not None:
        slope = slope.index_select(0, inverse.after[number % len(inverse.after)])
    slope = inverse.adjoint_synthesise(slope)
    by_d[number] += torch.linalg.vecdot(states.pop(), slope)
    slope = slope * d[number][:, None]
    if inverse.inside is not None:
        slope = slope.index_select(0, inverse.inside[number % len(inverse.inside)])
    slope = inverse.adjoint_analyse(slope)
    by_a[number] += torch.linalg.vecdot(states.pop(), slope)
    return slope * a[number][:, None]


@product_backward.register_fake
def _(gradient, x, a, d, permutations, inside):
    return x.new_empty(x.shape), torch.empty_like(a), torch.empty_like(d)


def _keep(ctx, inputs, output) -> None:
    x, a, d, permutations, ctx.inside = inputs
    ctx.save_for_backward(x, a, d, permutations)


def _backward(ctx, gradient: Tensor):
    return *product_backward(gradient, *ctx.saved_tensors, ctx.inside), None, None


product.register_autograd(_backward, setup_context=_keep)
