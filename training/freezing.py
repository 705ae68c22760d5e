"""Train some parameters of a network and leave the others as they are: --train_where.

freeze(network, "layer4|linear")             # in place: only these learn, and what `always_trains`, as gates do
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from system.errors import RequestError, did_you_mean
from training.registry import GATES_ALONE


def trained(network: nn.Module, where: str) -> list[str]:
    """Return the dotted names of the parameters that are trained: those in which `where` is found, and all of what `always_trains`.

    Raise RequestError where it is found in no name, unless it is GATES_ALONE and there is something that always trains.
    """
    always = tuple(f"{name}." for name, module in network.named_modules() if getattr(module, "always_trains", False))
    names = [name for name, _ in network.named_parameters()]
    chosen = {name for name in names if re.search(where, name)}
    if not chosen and not (where == GATES_ALONE and always):
        such = did_you_mean(where, names) or f", such as {names[0]!r}"
        raise RequestError(f"--train_where {where!r} matches none of the parameters{such}")
    return [name for name in names if name in chosen or name.startswith(always)]


def freeze(network: nn.Module, where: str) -> None:
    """Have training change only what `trained` says. A batch-norm of which no parameter is trained tests always.

    So its running statistics neither move nor are replaced by those of a batch. Raise what `trained` raises.
    """
    chosen = set(trained(network, where))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in chosen)
    for name, module in network.named_modules():
        if isinstance(module, _NormBase):
            own = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
            if not (any(own) if own else re.search(where, name)):
                module.train = partial(_test_always, module)


@contextmanager
def thawed(network: nn.Module) -> Iterator[None]:
    """Within the context every parameter has a gradient, as a fit of a layer needs."""
    frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _test_always(module: nn.Module, mode: bool = True) -> nn.Module:
    """Stand for `module.train`."""
    module.training = False
    return module
