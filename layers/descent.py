"""Fitting a block to a dense kernel by gradient, where no closed form of the nearest one is known.

The error has many valleys, so it goes from many draws, by successive halving (Jamieson & Talwalkar 2016, 1502.07943).

    fit_by_gradient(block, kernel)               # kernel: (o, i, k, k)
"""

import torch
from torch import Tensor, nn

# Fitting by gradient: how much work it may be (in multiply-adds; a passing over an entry of the kernel takes as long as
# FIT_ENTRY of them), how many draws take how many steps of Adam at which rates, and how many of them go on for how many
# iterations of L-BFGS, round by round.
FIT_WORK, FIT_ENTRY, FIT_DRAWS, FIT_STEPS, FIT_RATES = 2 * 10**10, 5, 36, 100, (0.1, 0.03)
FIT_ROUNDS = ((12, 150), (3, 600))


def fit_by_gradient(block: nn.Module, kernel: Tensor) -> None:
    """Minimises ‖weight() − kernel‖² of a `layers.base.Block` from the present parameters and from several draws.

    As many draws as `FIT_WORK` pays for take some steps of Adam, which find better valleys than L-BFGS does from a draw;
    the best of them and the present parameters go on by L-BFGS, then the best of those, and the nearest is kept.
    """
    evaluations = FIT_WORK // (FIT_ENTRY * kernel.numel() + block.weight_mult_adds())
    size = kernel.pow(2).sum().clamp(min=1e-30)
    parameters = list(block.parameters())

    @torch.enable_grad()
    def squared_error() -> Tensor:
        for parameter in parameters:
            parameter.grad = None
        error = (block.weight() - kernel).pow(2).sum() / size
        error.backward()
        return error.detach()

    def reached(order: int) -> tuple[float, int, list[Tensor]]:
        values = [parameter.detach().clone() for parameter in parameters]
        return squared_error().nan_to_num(torch.inf).item(), order, values

    present, found = reached(-1), []
    for draw in range(min(max(evaluations // (2 * FIT_STEPS), 1), FIT_DRAWS)):
        block.reset_parameters(torch.Generator().manual_seed(draw))
        adam = torch.optim.Adam(parameters, FIT_RATES[draw % len(FIT_RATES)])
        for _ in range(FIT_STEPS):
            adam.step(squared_error)
        found.append(reached(draw))
    for survivors, iterations in FIT_ROUNDS:
        survivors = min(max(evaluations // (4 * iterations), 1), survivors)
        iterations = min(max(evaluations // (4 * survivors), FIT_STEPS), iterations)
        starts, found = [present, *sorted(found)[:survivors]], []
        for _, order, values in starts:
            _put(parameters, values)
            torch.optim.LBFGS(
                parameters, max_iter=iterations, history_size=20, line_search_fn="strong_wolfe",
                tolerance_grad=1e-8, tolerance_change=1e-10,
            ).step(squared_error)  # fmt: skip
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
