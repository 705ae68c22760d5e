"""The product of ACDC's factors, applied to columns. Its backward pass computes the states between the factors again.

y = (M₁P)(M₂P)… as ACDC has it (layers/acdc.py), on columns: x ← P·C·(d ⊙ P′·C^T·(a ⊙ x)) for each factor in turn. Only x and
the diagonals are kept for the backward pass, and columns go through in blocks, so states take no more than HISTORY bytes
however many the factors are. Only states of no more than KEPT bytes, as of small matrices, wait for the backward pass. It is one
operator to torch: a compiler, a tracer or a counter sees no factors.

    product(torch.eye(64), a, d, None, True)     # a, d: (11, 64); ACDC's matrix
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from layers import cosine_costs
from layers.cosine import Direct, Fourier, Staged, transform

SPACE = 1 << 30  # bytes that factors formed as matrices may take on a GPU, with all that their gradients need
HISTORY = 1 << 25  # bytes of states that a backward pass holds at most, on a CPU
KEPT = 1 << 21  # bytes of states that are kept from the forward pass on, on a CPU: a third of the transforms is spared
BLOCK = 1 << 17  # numbers of a state that stay in a CPU's cache from one product to the next
LEAST = 32  # columns of a block
SMALL = 96  # channels up to which a factor is formed as a matrix: the calls, not the products, take the time
SMALL_ON_GPU = 1024  # of 640 channels: ten kernels a factor and its gradient one by one, three as a matrix


def riffle(n: int) -> list[int]:
    """Return the order of the riffle: of N channels the even ones first, then the odd ones."""
    return [*range(0, n, 2), *range(1, n, 2)]


class Ways(NamedTuple):
    """The transforms of N channels, and an index (N,) a factor of the permutations inside and after it; one where all are the same.

    Permutations are in the orders that the transforms want; None where the transforms permute by themselves.
    """

    cosine: Direct | Staged | Fourier
    inside: tuple[Tensor, ...] | None
    after: tuple[Tensor, ...] | None

    def transposed(self) -> "Ways":
        """Return what takes gradients back: transposed transforms, inverse permutations."""
        inverse = (order and torch.stack(order).argsort(1).unbind() for order in (self.inside, self.after))
        return Ways(self.cosine.transposed(), *inverse)


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _riffled(form: str, n: int, inside: bool, dtype: torch.dtype, device: torch.device) -> tuple[Ways, Ways]:
    """Return the ways of a factor with a riffle after it, and one inside where `inside`; and those of its gradient."""
    cosine, order = transform(form, n, dtype, device), torch.tensor(riffle(n), device=device)
    within = order if inside else torch.arange(n, device=device)
    if isinstance(cosine, Direct):
        ways = Ways(cosine.permuted(within, order), None, None)
    else:
        ways = _around(cosine, within[None], order[None])
    return ways, ways.transposed()


def form_constants(a: Tensor, riffles: bool, inside: bool) -> None:
    """Form what `product` takes from diagonals a (F, N), in whichever form it runs: then it only reads it.

    Args: riffles: whether its permutations are riffles; inside: whether there is one inside the factors too.
    """
    for form in {"direct", cosine_costs.form(a.shape[1])}:
        if riffles:
            _riffled(form, a.shape[1], inside, a.dtype, a.device)
        else:
            transform(form, a.shape[1], a.dtype, a.device)


def _around(cosine: Direct | Staged | Fourier, inside: Tensor, after: Tensor) -> Ways:
    """Return the ways of factors with permutations (F, N)."""
    inputs, outputs = cosine.inputs, cosine.outputs
    inside, after = cosine.outputs_back[inside[:, outputs]], cosine.inputs_back[after[:, inputs]]
    return Ways(cosine, inside.unbind(), after.unbind())


class _Factors:
    """Factors of one product at work on blocks of columns in buffers of its own."""

    def __init__(self, ways: Ways, a: Tensor, d: Tensor, columns: int):
        self.ways, self.a, self.d = ways, a[:, ways.cosine.inputs], d[:, ways.cosine.outputs]
        self.diagonals = list(zip(self.a.unsqueeze(-1).unbind(), self.d.unsqueeze(-1).unbind()))
        self.buffers = torch.empty(3, a.shape[1] * columns, dtype=a.dtype, device=a.device)

    def fit(self, columns: int) -> None:
        """Make the buffers as wide as a block."""
        self.wide = [buffer[: self.a.shape[1] * columns].view(-1, columns) for buffer in self.buffers]

    def _permute(self, transform, x: Tensor, out: Tensor, order: tuple[Tensor, ...] | None, number: int) -> None:
        _, transformed, spare = self.wide
        if order is None:
            transform(x, out, spare)
        else:
            transform(x, transformed, spare)
            torch.index_select(transformed, 0, order[number % len(order)], out=out)

    def apply(self, number: int, x: Tensor, within: Tensor, out: Tensor) -> None:
        """Apply factor `number` to x; write the state before the multiplication with d to `within`, then the result to `out`."""
        (a, d), cosine, scaled = self.diagonals[number], self.ways.cosine, self.wide[0]
        torch.mul(x, a, out=scaled)
        self._permute(cosine.analyse, scaled, within, self.ways.inside, number)
        torch.mul(within, d, out=scaled)
        self._permute(cosine.synthesise, scaled, out, self.ways.after, number)

    def apply_all(self, x: Tensor, states: Tensor | list[Tensor]) -> None:
        """Write x and the two states of each factor in turn to `states`."""
        states[0].copy_(x)
        for number in range(len(self.a)):
            self.apply(number, *(states[place] for place in range(2 * number, 2 * number + 3)))

    def back(self, number: int, slope: Tensor, states: list[Tensor], sums: tuple[Tensor, Tensor], back: Ways) -> Tensor:
        """Return the gradient of factor `number`'s input from that of its result, `slope`, which is overwritten.

        Take its two states (input, within) from the end of `states`, and add the gradients of its diagonals to `sums`.
        """
        a, d = self.diagonals[number]
        for diagonal, total, order, undo in (
            (d, sums[1], back.after, back.cosine.analyse),
            (a, sums[0], back.inside, back.cosine.synthesise),
        ):
            permuted, transformed, spare = self.wide
            if order is None:
                permuted = slope
            else:
                torch.index_select(slope, 0, order[number % len(order)], out=permuted)
            undo(permuted, transformed, spare)
            total[number] += torch.mul(states.pop(), transformed, out=spare).sum(1)
            torch.mul(transformed, diagonal, out=slope)
        return slope


class _Matrices:
    """Small factors as matrices, M = P·C·D·P′·C^T·A, formed all at once."""

    def __init__(self, a: Tensor, d: Tensor, permutations: Tensor | None, inside: bool):
        cosine, self.a, self.d = transform("direct", a.shape[1], a.dtype, a.device), a, d
        if permutations is None:
            cosine = _riffled("direct", a.shape[1], inside, a.dtype, a.device)[0].cosine
            self.forth, self.back = cosine.forth, cosine.back
        else:
            self.forth, self.back = cosine.forth[permutations[::2]], cosine.back[permutations[1::2]]
        self.factors = torch.matmul(self.back * d[:, None], self.forth).mul_(a[:, None]).unbind()

    def apply(self, x: Tensor) -> list[Tensor]:
        """Return the states: x, then what each factor makes of the one before."""
        states = [x]
        for factor in self.factors:
            states.append(torch.mm(factor, states[-1]))
        return states

    def gradients(self, slope: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x, a and d from that of the result."""
        states, slopes = self.apply(x)[:-1], []
        for factor in reversed(self.factors):
            slopes.append(slope)
            slope = torch.mm(factor.t(), slope)
        by_factor = torch.bmm(torch.stack(slopes[::-1]), torch.stack(states).transpose(1, 2))
        entries = torch.matmul(self.back.transpose(-2, -1), by_factor).mul_(self.forth)  # of D·(P′·C^T)·A
        by_a = torch.bmm(self.d[:, None], entries)[:, 0]
        return slope, by_a, torch.bmm(entries, self.a[..., None])[..., 0]


def forms_matrices(a: Tensor, columns: int) -> bool:
    """Return whether the factors with diagonals a (F, N) are formed as matrices, to be applied to so many columns.

    On a GPU, where a kernel takes longer to be launched than to run, whenever their states and gradients fit in SPACE.
    """
    factors, n = a.shape
    if columns > 2 * n:
        return False
    if a.is_cuda:
        return n <= SMALL_ON_GPU and 6 * factors * n * max(n, columns) * a.element_size() <= SPACE
    return n <= SMALL


def _prepare(
    a: Tensor, d: Tensor, permutations: Tensor | None, inside: bool, columns: int
) -> tuple[_Factors, Ways, int]:
    """Return the factors, the ways back, and how many columns make a block.

    On a GPU all columns are one, as long as they need no more than eight times HISTORY.
    """
    factors, n = a.shape
    on_cpu = a.device.type == "cpu"
    kept = HISTORY * (1 if on_cpu else 8) // (2 * factors * n * a.element_size())
    block = min(max(min(kept, BLOCK // n if on_cpu else columns) // LEAST * LEAST, LEAST), columns)
    form = cosine_costs.form(n)
    if permutations is None:
        ways, back = _riffled(form, n, inside, a.dtype, a.device)
    else:
        ways = _around(transform(form, n, a.dtype, a.device), permutations[::2], permutations[1::2])
        back = ways.transposed()
    return _Factors(ways, a, d, block), back, block


def _kept_states(x: Tensor, a: Tensor) -> int:
    """Return how many states of x, all in one block, are kept for the backward pass: all or none."""
    count, numbers = 2 * len(a) + 1, x.shape[0] * x.shape[1]
    small = a.device.type == "cpu" and 2 * numbers <= BLOCK and count * numbers * a.element_size() <= KEPT
    return count if small and not forms_matrices(a, x.shape[1]) else 0


def _product(x: Tensor, a: Tensor, d: Tensor, permutations: Tensor | None, inside: bool) -> tuple[Tensor, Tensor]:
    """Return the result (N, R), and the states that are kept."""
    history = x.new_empty(_kept_states(x, a), *x.shape)
    if forms_matrices(a, x.shape[1]):
        with torch.autocast(x.device.type, enabled=False):
            return _Matrices(a, d, permutations, inside).apply(x)[-1], history
    factors, _, block = _prepare(a, d, permutations, inside, x.shape[1])
    inputs, to_inputs, out = factors.ways.cosine.inputs, factors.ways.cosine.inputs_back, x.new_empty(x.shape)
    with torch.autocast(x.device.type, enabled=False):
        for start in range(0, x.shape[1], block):
            state = x[:, start : start + block].index_select(0, inputs)
            factors.fit(state.shape[1])
            if len(history):
                factors.apply_all(state, history)
                state = history[-1]
            else:
                within = torch.empty_like(state)
                for number in range(len(a)):
                    factors.apply(number, state, within, state)
            out[:, start : start + block] = state.index_select(0, to_inputs)
    return out, history


def _product_backward(
    gradient: Tensor, x: Tensor, a: Tensor, d: Tensor, permutations: Tensor | None, inside: bool, history: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `product` with respect to x, a and d, from that with respect to its result (N, R)."""
    if forms_matrices(a, x.shape[1]):
        with torch.autocast(x.device.type, enabled=False):
            return _Matrices(a, d, permutations, inside).gradients(gradient, x)
    factors, back, block = _prepare(a, d, permutations, inside, x.shape[1])
    cosine = factors.ways.cosine
    inputs, to_inputs, to_outputs = cosine.inputs, cosine.inputs_back, cosine.outputs_back
    by_x, sums = x.new_empty(x.shape), (torch.zeros_like(factors.a), torch.zeros_like(factors.d))
    known = len(history) > 0
    if not known:
        history = x.new_empty(2 * len(a) + 1, len(x) * block)  # once: memory that is new to the process costs time
    with torch.autocast(x.device.type, enabled=False):
        for start in range(0, x.shape[1], block):
            given = x[:, start : start + block]
            factors.fit(given.shape[1])
            states = list(history) if known else [state[: given.numel()].view(given.shape) for state in history]
            if not known:
                factors.apply_all(given.index_select(0, inputs), states)
            states.pop()
            slope = gradient[:, start : start + block].index_select(0, inputs)
            for number in reversed(range(len(a))):
                slope = factors.back(number, slope, states, sums, back)
            by_x[:, start : start + block] = slope.index_select(0, to_inputs)
    return by_x, sums[0][:, to_inputs], sums[1][:, to_outputs]


def _keep(ctx, inputs, output) -> None:
    x, a, d, permutations, ctx.inside = inputs
    ctx.set_materialize_grads(False)  # the states have none
    ctx.save_for_backward(x, a, d, permutations, output[1])


def _backward(ctx, gradient: Tensor | None, _):
    if gradient is None:  # nothing depends on the result
        return (None,) * 5
    x, a, d, permutations, history = ctx.saved_tensors
    found = OPERATORS.acdc_product_backward(gradient, x, a, d, permutations, ctx.inside, history)
    return *found, None, None


# Not torch.library.custom_op: its first call imports the compiler, which takes seconds.
LIBRARY, OPERATORS = torch.library.Library("swapconv", "DEF"), torch.ops.swapconv
LIBRARY.define("acdc_product(Tensor x, Tensor a, Tensor d, Tensor? permutations, bool inside) -> (Tensor, Tensor)")
LIBRARY.define(
    "acdc_product_backward(Tensor gradient, Tensor x, Tensor a, Tensor d, Tensor? permutations, bool inside,"
    " Tensor history) -> (Tensor, Tensor, Tensor)"
)
LIBRARY.impl("acdc_product", _product, "CompositeExplicitAutograd")
LIBRARY.impl("acdc_product_backward", _product_backward, "CompositeExplicitAutograd")
torch.library.register_fake(
    "swapconv::acdc_product",
    lambda x, a, *_: (x.new_empty(x.shape), x.new_empty(_kept_states(x, a), *x.shape)),
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
    return OPERATORS.acdc_product(x, a, d, permutations, inside)[0]
