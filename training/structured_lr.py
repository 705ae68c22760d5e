"""The factors on the learning rate of structured parameters, as --structured_lr asks.

structured = factors(network, "shared")       # {parameter: factor}, for the groups of training/optim.py
"""

from torch import nn

import blocks


def factors(network: nn.Module, asked: float | str | None) -> dict[nn.Parameter, float]:
    """Return the factor on the learning rate of each structured parameter.

    Args: asked: the factor of all (None: 1), or
    - "auto": 1 / its degree. A step of a map of d factors moves all of them, and so the map about d times as far as one of a
      single factor.
    - "shared": what the `slowed_parameters()` of Hashed, OriginalACDC and Tucker say, and 1 for all others. With the whole
      rate one step moves such a kernel many times as far as a dense one (docs/results.md). Steps of an adaptive optimizer
      do not grow with the gradient.
    """
    degrees = blocks.structured_parameters(network)
    if asked == "auto":
        return {parameter: 1 / degree for parameter, degree in degrees.items()}
    if asked != "shared":
        return dict.fromkeys(degrees, 1.0 if asked is None else asked)
    slowed = blocks.slowed_parameters(network)
    return {each: slowed.get(each, 1.0) for each in degrees}
