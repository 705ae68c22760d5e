"""The factors on the learning rate of structured parameters, as --structured_lr asks.

structured = factors(network, asked(config, state))       # {parameter: factor}, for training/optim.py's groups
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

import blocks

MOST = 4  # dense kernels' steps that a step of a shared number may be as large as, where the gradients of its entries agree


def asked(config: Mapping[str, Any], begun: Mapping[str, Any] | None) -> float | str | None:
    """Return what a run asks for. Args: begun: the state in its checkpoint, None where there is none.

    One that began when no map had a factor of its own goes on with one rate for all, by which its optimizer has its groups.
    """
    rate = config["structured_lr"]
    if rate is None and begun and not any("lr_factor" in group for group in begun["optimizer"].get("param_groups", ())):
        return 1.0
    return rate


def factors(network: nn.Module, asked: float | str | None = None, adaptive: bool = False) -> dict[nn.Parameter, float]:
    """Return the factor on the learning rate of each structured parameter: what is asked, or the maps' own.

    Its own is 4/n, at most 1, for a stored number that serves n entries of a whole kernel, as those of `Hashed`, and 1 for
    all others. The number has the sum of their gradients: where these agree, its step is n times that of a dense kernel. With
    the whole rate the first steps make kernels several times as large, all filters alike, and the gradient is lost; about 4/n
    trains best (docs/results.md). Numbers of a 1×1 convolution take far smaller steps, and train best with the whole rate. Nor
    do the steps of an `adaptive` optimizer grow with the gradient. With "auto" each is divided by the degree too: a step of a
    map of d factors moves all of them, and so the map about d times as far as one of a single factor.
    """
    degrees = blocks.structured_parameters(network)
    if asked not in (None, "auto"):
        return dict.fromkeys(degrees, asked)
    served = {} if adaptive else blocks.entries_per_number(network)
    own = {
        each: float(f"{min(1, MOST / served[each]):.2g}") if each in served else 1.0 for each in degrees
    }  # in few groups
    return {each: own[each] / degree if asked == "auto" else own[each] for each, degree in degrees.items()}
