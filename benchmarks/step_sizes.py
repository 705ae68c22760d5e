"""How far a step of gradient descent can move the 1×1 kernel of each family, as it is drawn.

    OMP_NUM_THREADS=1 python benchmarks/step_sizes.py [--convs Tucker_0.5,ACDC] [--channels 64 128] [--json FILE]

A step of rate η on parameters θ moves the kernel W(θ) by −η·J·Jᵀ·G, with J = ∂W/∂θ and G the gradient of W. Printed are the
largest eigenvalue of J·Jᵀ, how many times as far as a dense kernel, the baseline, W moves along the worst direction (the median
and the largest of the seeds), and in how many directions it moves more than 25 times as far (the median); then both with the
factors of `--structured_lr shared`. Hashed is slowed in kernels of k > 1 alone.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from tabulate import tabulate
from torch import Tensor

from blocks import block, slowed_parameters
from layers.spec import ConvSpec

CONVS = [
    "Sep", "Generic_0.1", "LR_0.1", "Hashed_0.02", "SepHashed_0.1", "ACDC_4", "ACDC_23", "OriginalACDC_4", "OriginalACDC_23",
    "PermutedACDC_23", "TensorTrain_0.22", "TensorTrain_0.41_4", "Tucker_0.21", "Tucker_0.7_4", "CP_0.5", "Shuffle_4",
    "SepHashedDecimate", "Butterfly", "Monarch_4", "BTT_2", "Kronecker_3",
]  # fmt: skip
FAR = 25


def eigenvalues(jacobian: Tensor) -> Tensor:
    """Return those of J·Jᵀ that may differ from 0."""
    smaller = jacobian if jacobian.shape[0] <= jacobian.shape[1] else jacobian.t()
    return torch.linalg.eigvalsh(smaller @ smaller.t())


def measure(conv: str, channels: list[int], seed: int) -> list[tuple[float, int]]:
    """Return the largest eigenvalue and how many are above 25, with the whole and with the shared rate."""
    made = block(conv, ConvSpec(*channels, 1), seed, name="a").double()
    parameters, slowed = list(made.parameters()), slowed_parameters(made)
    entries = made.weight().flatten()
    rows = [
        torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        for entry in entries
    ]
    columns = [torch.stack([part.flatten() for part in of_one]) for of_one in zip(*rows)]
    rates = [slowed.get(parameter, 1.0) for parameter in parameters]
    found = (
        eigenvalues(torch.cat([part * factor for part, factor in zip(columns, factors)], 1))
        for factors in ([1.0] * len(rates), [rate**0.5 for rate in rates])
    )
    return [(each.max().item(), int((each > FAR).sum())) for each in found]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--convs", default=",".join(CONVS))
    parser.add_argument("--channels", nargs=2, type=int, default=[32, 32], metavar=("I", "O"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for conv in given.convs.split(","):
        row = {"conv": conv}
        for rate, each in zip(
            ("", ", shared"), zip(*(measure(conv, given.channels, seed) for seed in range(given.seeds)))
        ):
            sizes, directions = zip(*each)
            row |= {f"median{rate}": median(sizes), f"most{rate}": max(sizes), f"> {FAR}{rate}": median(directions)}
        rows.append(row)
    print(tabulate(rows, "keys", floatfmt=".3g"))
    if given.json:
        given.json.write_text(json.dumps({"channels": given.channels, "seeds": given.seeds, "rows": rows}))


if __name__ == "__main__":
    main()
