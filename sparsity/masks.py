"""Which weights stay: those above a threshold, or an exact number of the largest of several tensors.

largest([torch.tensor([1.0, -1, 1]), torch.tensor([5.0, -6, 7])], 3)      # [[F, F, F], [T, T, T]]
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def above(weights: Sequence[Tensor], threshold: float) -> list[Tensor]:
    """Return masks (bool, of the weights' shapes) of |w| > threshold, compared in the weights' own precision."""
    return [weight.detach().abs() > torch.tensor(threshold, dtype=weight.dtype) for weight in weights]


def largest(weights: Sequence[Tensor], count: int, among: Sequence[Tensor] = ()) -> list[Tensor]:
    """Return masks (bool, of the weights' shapes) of the `count` largest |w| of all of them together.

    Of equal ones the earlier tensor's stay, then those of the lower index (row by row). Args: among: masks outside of which
    none is chosen while there are others.
    """
    values = torch.cat([weight.detach().abs().flatten() for weight in weights])
    if among:
        values[~torch.cat([mask.flatten() for mask in among])] = -1.0
    count = max(0, min(count, len(values)))
    if count in (0, len(values)):
        mask = torch.full_like(values, count > 0, dtype=torch.bool)
    else:
        least = values.kthvalue(len(values) - count + 1).values
        mask = values > least
        mask[(values == least).nonzero()[: count - int(mask.sum()), 0]] = True
    parts = mask.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights)]
