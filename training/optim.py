"""The optimizer: SGD in parameter groups, with compression-ratio scaled weight decay (CRS).

CRS (Gray, Crowley & Storkey 2019, 1906.00859, section 3): the parameters of structured maps decay with weight_decay ×
ratio, ratio = parameters of this network / of the same network with its ordinary convolutions. All else decays with
weight_decay.

    optimizer = sgd(model, structured_parameters(model), lr=0.1, momentum=0.9, weight_decay=5e-4, scale=0.05)
"""

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd as update


class SGD:
    """Stochastic gradient descent with momentum: v ← μ·v + g + λ·w, w ← w − lr·v (Sutskever et al. 2013, as torch.optim.SGD has it).

    torch.optim.SGD does the same with the same state, but imports torch's compiler when it is made: that takes as long as
    `import torch`.

    Args: groups: each a dict of `name`, `params` and `weight_decay`.
    """

    def __init__(self, groups: list[dict], lr: float, momentum: float):
        self.param_groups = [{**group, "lr": lr, "momentum": momentum} for group in groups if group["params"]]
        self.velocity: dict[nn.Parameter, Tensor] = {}
        self._rates: dict[int, tuple[float, Tensor]] = {}  # by the number of a group, as `_rate` keeps them

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient, in one fused kernel a group."""
        for number, group in enumerate(self.param_groups):
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameters in (
                [parameter for parameter in moved if parameter in self.velocity],
                [parameter for parameter in moved if parameter not in self.velocity],  # whose first gradient this is
            ):
                if parameters:
                    self._update(parameters, group, self._rate(number, parameters[0].device))

    def _rate(self, number: int, device: torch.device) -> float | Tensor:
        """Return a group's rate: on a GPU a tensor that stays where it is, so that a captured graph reads what it is by then.

        It is written where the rate changes, which waits for nothing.
        """
        lr = self.param_groups[number]["lr"]
        if device.type != "cuda":
            return lr
        written, rate = self._rates.get(number) or (None, torch.empty((), device=device))
        if written != lr:
            self._rates[number] = (lr, rate.fill_(lr))
        return rate

    def _update(self, parameters: list[nn.Parameter], group: dict, lr: float | Tensor) -> None:
        velocity = [self.velocity.get(parameter) for parameter in parameters]
        update(
            parameters, [parameter.grad for parameter in parameters], velocity, fused=True,
            weight_decay=group["weight_decay"], momentum=group["momentum"], lr=lr,
            dampening=0.0, nesterov=False, maximize=False,
        )  # fmt: skip
        if group["momentum"]:
            self.velocity.update(zip(parameters, velocity))
        torch.autograd.graph.increment_version(parameters)  # fused kernels do not, and layers/kept.py looks at it

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def state_dict(self) -> dict:
        """Return the groups, with numbers for their parameters, and `momentum_buffer` by these numbers, as torch.optim.SGD does."""
        parameters = self._parameters()
        number = {parameter: position for position, parameter in enumerate(parameters)}
        groups = [{**group, "params": [number[each] for each in group["params"]]} for group in self.param_groups]
        moved = [parameter for parameter in parameters if parameter in self.velocity]
        return {
            "state": {number[each]: {"momentum_buffer": self.velocity[each]} for each in moved},
            "param_groups": groups,
        }

    def load_state_dict(self, state: dict) -> None:
        """Put back what `state_dict` returned, of this class or of torch.optim.SGD. Raise ValueError where it is another network's."""
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            if len(group["params"]) != len(saved["params"]):
                raise ValueError(
                    f"{len(saved['params'])} parameters in the group {group['name']}, not {len(group['params'])}"
                )
            group |= {name: saved[name] for name in ("lr", "momentum", "weight_decay")}
        parameters = self._parameters()
        self.velocity = {}
        for number, saved in state["state"].items():
            parameter, velocity = parameters[number], saved["momentum_buffer"]
            if velocity is None:  # torch's, before the first step
                continue
            if velocity.shape != parameter.shape:
                raise ValueError(f"a momentum of {tuple(velocity.shape)} for a parameter of {tuple(parameter.shape)}")
            self.velocity[parameter] = torch.empty_like(parameter).copy_(velocity)  # fused kernels want equal strides


def sgd(
    model: nn.Module, structured: list[nn.Parameter], lr: float, momentum: float, weight_decay: float, scale: float
) -> SGD:
    """Return SGD without Nesterov, in two groups: `structured` decays with weight_decay × scale, all else with weight_decay."""
    chosen = {id(parameter) for parameter in structured}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    groups = [
        {"name": "plain", "params": rest, "weight_decay": weight_decay},
        {"name": "structured", "params": structured, "weight_decay": weight_decay * scale},
    ]
    return SGD(groups, lr, momentum)


def set_learning_rate(optimizer: SGD, lr: float) -> None:
    """Give every group the schedule's rate; its weight decay stays its own."""
    for group in optimizer.param_groups:
        group["lr"] = lr
