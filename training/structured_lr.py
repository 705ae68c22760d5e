"""The factors on the learning rate of structured parameters, as --structured_lr asks.

structured = factors(network, "shared")       # {parameter: factor}, for the groups of training/optim.py
"""

from torch import nn

import blocks

MOST = 4  # dense kernels' steps: as large may a step of a shared number be where the gradients of its entries agree


def factors(network: nn.Module, asked: float | str | None) -> dict[nn.Parameter, float]:
    """Return the factor on the learning rate of each structured parameter.

    Args: asked: the factor of all (None: 1), or
    - "auto": 1 / its degree. A step of a map of d factors moves all of them, and so the map about d times as far as one of a
      single factor.
    - "shared": at most 4/n for a stored number that n entries of a k×k kernel share (k > 1), and 1 for all others. The number
      has the sum of their gradients: where these agree, its step is n times that of a dense kernel. With the whole rate the
      first steps of small shares make kernels several times as large, all filters alike, and the gradient is lost; 4/n is a
      fit to two shares in 3×3 kernels (docs/results.md). Steps of an adaptive optimizer do not grow with the gradient.
    """
    degrees = blocks.structured_parameters(network)
    if asked == "auto":
        return {parameter: 1 / degree for parameter, degree in degrees.items()}
    if asked != "shared":
        return dict.fromkeys(degrees, 1.0 if asked is None else asked)
    served = blocks.entries_per_number(network)
    # to two digits, so that layers with about as many entries are in one group of the optimizer
    return {each: float(f"{min(1.0, MOST / served.get(each, 1)):.2g}") for each in degrees}
