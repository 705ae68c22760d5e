"""How far a step of gradient descent can move the 1×1 kernel of each family, as it is drawn.

    python benchmarks/step_sizes.py [--convs Tucker_0.5,ACDC] [--seeds 3] [--json FILE]

A step of rate η on parameters θ moves the kernel W(θ) by −η·J·Jᵀ·G, with J = ∂W/∂θ and G the gradient of W. Printed is the
largest eigenvalue of J·Jᵀ, by power iteration: how many times as far as a dense kernel, the baseline, it moves along the worst
direction. First with the whole rate, then with the factors of `--structured_lr shared`; the median and the largest of the seeds.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from tabulate import tabulate
from torch import Tensor, nn

from blocks import block, slowed_parameters
from layers.spec import ConvSpec

CONVS = [
    "Sep", "Generic_0.1", "LR_0.1", "Hashed_0.02", "SepHashed_0.1", "ACDC_4", "ACDC_23", "OriginalACDC_4", "OriginalACDC_23",
    "TensorTrain_0.22", "TensorTrain_0.41_4", "Tucker_0.21", "Tucker_0.7_4", "CP_0.5", "Shuffle_4", "SepHashedDecimate",
    "Butterfly", "Monarch_4", "BTT_2", "Kronecker_3",
]  # fmt: skip
SHAPES = [(32, 32), (64, 64), (64, 128)]
ITERATIONS, APART = 40, 1e-5


def largest(made: nn.Module, rates: list[float]) -> float:
    """Return the largest eigenvalue of J·R·Jᵀ, R the factors on the rates of the parameters."""
    parameters = list(made.parameters())

    def transposed(direction: Tensor) -> list[Tensor]:
        return torch.autograd.grad(made.weight(), parameters, direction, allow_unused=True, materialize_grads=True)

    @torch.no_grad()
    def moved(step: list[Tensor], by: float) -> Tensor:
        """Return the kernel with all parameters moved by a part of the step, which are put back."""
        before = [parameter.clone() for parameter in parameters]
        for parameter, part in zip(parameters, step):
            parameter.add_(by * part)
        kernel = made.weight().clone()
        for parameter, old in zip(parameters, before):
            parameter.copy_(old)
        return kernel

    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(made.weight().shape, generator=generator, dtype=torch.double)
    for _ in range(ITERATIONS):
        direction = direction / direction.norm()
        step = [rate * part for rate, part in zip(rates, transposed(direction))]
        direction = (moved(step, APART) - moved(step, -APART)) / (2 * APART)
    return direction.norm().item()


def measure(conv: str, shape: tuple[int, int], seeds: int) -> list[tuple[float, float]]:
    """Return the largest eigenvalue with the whole and with the shared rate, of each seed."""
    found = []
    for seed in range(seeds):
        made = block(conv, ConvSpec(*shape, 1), seed, name="a").double()
        slowed = slowed_parameters(made)
        rates = [slowed.get(parameter, 1.0) for parameter in made.parameters()]
        found.append((largest(made, [1.0] * len(rates)), largest(made, rates)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--convs", default=",".join(CONVS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for conv in given.convs.split(","):
        row = [conv]
        for shape in SHAPES:
            row += [f"{median(each):.3g} ({max(each):.3g})" for each in zip(*measure(conv, shape, given.seeds))]
        rows.append(row)
    headers = ["conv", *(f"{i} -> {o}{rate}" for i, o in SHAPES for rate in ("", ", shared"))]
    print(tabulate(rows, headers))
    if given.json:
        given.json.write_text(json.dumps({"seeds": given.seeds, "rows": [dict(zip(headers, row)) for row in rows]}))


if __name__ == "__main__":
    main()
