"""Fitting a block to a dense kernel by gradient, where no closed form of the nearest one is known.

The error has many valleys, so it goes from the nearest in closed form, where the family knows one, and from as many draws
as the work allows, by successive halving (Jamieson & Talwalkar 2016, 1502.07943).

    fit_by_gradient(block, kernel)               # kernel: (o, i, k, k)
"""

import torch
from torch import Tensor, nn

# How much work it may be, in multiply-adds; an evaluation takes at least as long as CALL of them, a passing over an entry
# of the kernel as long as ENTRY. How many draws take how many steps of Adam at which rates; how many of them then go on for
# how many iterations of L-BFGS, round by round.
WORK, CALL, ENTRY = 2 * 10**10, 10**6, 5
DRAWS, STEPS, RATES = 36, 200, (0.1, 0.03, 0.01)
ROUNDS = ((12, 150), (3, 600))
LEAST = 120  # iterations of a round, however little work is allowed


def fit_by_gradient(block: nn.Module, kernel: Tensor, work: int = WORK, penalty: float = 0.0) -> None:
    """Minimises ‖weight() − kernel‖² / ‖kernel‖² of a `layers.base.Block` from the present parameters and several draws.

    With a `penalty`, its multiple of the parameters' mean squares (each over its own when drawn) is added: it keeps away
    from nearest kernels in which large factors cancel, and which SGD then cannot train.

    As many draws as half of `work` (multiply-adds) pays for, or none, take some steps of Adam, which find better valleys
    than L-BFGS does from a draw; the best of them and the present parameters go on by L-BFGS for a quarter of it, then the
    best of those for another, and the nearest is kept. Not the clock but the work bounds it, so it ends alike everywhere.
    """
    evaluations = work // (CALL + ENTRY * kernel.numel() + block.weight_mult_adds())
    size = kernel.pow(2).sum()
    parameters = list(block.parameters())
    present = [parameter.detach().clone() for parameter in parameters]
    block.reset_parameters(torch.Generator().manual_seed(0))
    sizes = [(parameter, parameter.detach().pow(2).mean()) for parameter in parameters if parameter.any()]  # no biases
    _put(parameters, present)

    @torch.enable_grad()
    def objective() -> Tensor:
        for parameter in parameters:
            parameter.grad = None
        error = (block.weight() - kernel).pow(2).sum() / size
        if penalty:
            error = error + penalty * sum(parameter.pow(2).mean() / drawn for parameter, drawn in sizes)
        error.backward()
        return error.detach()

    def reached(order: int) -> tuple[float, int, list[Tensor]]:
        values = [parameter.detach().clone() for parameter in parameters]
        return objective().nan_to_num(torch.inf).item(), order, values

    present, found = reached(-1), []
    for draw in range(min(evaluations // (2 * STEPS), DRAWS)):
        block.reset_parameters(torch.Generator().manual_seed(draw))
        adam = torch.optim.Adam(parameters, RATES[draw % len(RATES)])
        for _ in range(STEPS):
            adam.step(objective)
        found.append(reached(draw))
    for survivors, iterations in ROUNDS:
        survivors = min(evaluations // (4 * iterations), survivors, len(found))
        iterations = min(max(evaluations // (4 * (survivors + 1)), LEAST), iterations)
        starts, found = [present, *sorted(found)[:survivors]], []
        for _, order, values in starts:
            _put(parameters, values)
            torch.optim.LBFGS(
                parameters, max_iter=iterations, history_size=20, line_search_fn="strong_wolfe",
                tolerance_grad=1e-8, tolerance_change=1e-10,
            ).step(objective)  # fmt: skip
            found.append(reached(order))
        present = min(found)
        found.remove(present)
    _put(parameters, present[2])
    for parameter in parameters:
        parameter.grad = None


@torch.no_grad()
def _put(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
