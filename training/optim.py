"""The optimizer: parameter groups with compression-ratio scaled weight decay (CRS).

CRS (Gray, Crowley & Storkey 2019, 1906.00859, section 3): the parameters of structured maps decay with weight_decay ×
ratio, ratio = parameters of this network / of the same network with its ordinary convolutions. All else decays with
weight_decay.

    optimizer = sgd(model, structured_parameters(model), lr=0.1, momentum=0.9, weight_decay=5e-4, scale=0.05)
"""

import torch
from torch import nn


def sgd(
    model: nn.Module, structured: list[nn.Parameter], lr: float, momentum: float, weight_decay: float, scale: float
) -> torch.optim.SGD:
    """Return SGD without Nesterov, in two groups: `structured` decays with weight_decay × scale, all else with weight_decay."""
    chosen = {id(parameter) for parameter in structured}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    groups = [
        {"name": "plain", "params": rest, "weight_decay": weight_decay},
        {"name": "structured", "params": structured, "weight_decay": weight_decay * scale},
    ]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=lr, momentum=momentum, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the schedule's rate; its weight decay stays its own."""
    for group in optimizer.param_groups:
        group["lr"] = lr
