"""The optimizers: SGD, Adam and AdamW in parameter groups, with compression-ratio scaled weight decay (CRS).

CRS (Gray, Crowley & Storkey 2019, 1906.00859, section 3): the parameters of structured maps decay with weight_decay ×
ratio, ratio = parameters of this network / of the same network with its ordinary convolutions. What has a prior of its own,
as variational weights have, does not decay. All else decays with weight_decay.

    groups = parameter_groups(model, {structured.weight: 0.5}, weight_decay=5e-4, scale=0.05)
    optimizer = SGD(groups, lr=0.1, momentum=0.9, nesterov=True)

torch.optim's classes do the same with the same state, but import torch's compiler when they are made: that takes as
long as `import torch`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd as update

BETA2, EPS = 0.999, 1e-8  # of Adam: Kingma & Ba 2015, algorithm 1


class Optimizer(ABC):
    """What the optimizers share: groups, rates, and a state by parameter, which is saved as torch.optim saves it.

    Args: groups: each a dict of `name`, `params`, `weight_decay` and, where its learning rate is not that of the
    schedule, `lr_factor`.
    """

    needs: tuple[str, ...]  # the tensors in the state of a parameter that has moved

    def __init__(self, groups: Iterable[dict], lr: float, momentum: float):
        self.param_groups = [{**group, "lr": lr, "momentum": momentum} for group in groups if group["params"]]
        set_learning_rate(self, lr)
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}
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
                [parameter for parameter in moved if parameter in self.state],
                [parameter for parameter in moved if parameter not in self.state],  # whose first gradient this is
            ):
                if parameters:
                    self._update(parameters, group, self._rate(number, parameters[0].device))
                    # fused kernels do not, and layers/kept.py looks at it
                    torch.autograd.graph.increment_version(parameters)

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

    @abstractmethod
    def _update(self, parameters: list[nn.Parameter], group: dict, lr: float | Tensor) -> None:
        """Move parameters that all have a state, or of which none has one yet; keep what the next step needs."""

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def state_dict(self) -> dict:
        """Return the groups, with numbers for their parameters, and the state by these numbers, as torch.optim does."""
        parameters = self._parameters()
        number = {parameter: position for position, parameter in enumerate(parameters)}
        groups = [{**group, "params": [number[each] for each in group["params"]]} for group in self.param_groups]
        moved = [parameter for parameter in parameters if parameter in self.state]
        return {"state": {number[each]: dict(self.state[each]) for each in moved}, "param_groups": groups}

    def load_state_dict(self, state: dict) -> None:
        """Put back what `state_dict` returned, of this class or of torch's. Raise ValueError where it is another network's."""
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            if len(group["params"]) != len(saved["params"]):
                raise ValueError(
                    f"{len(saved['params'])} parameters in the group {group['name']}, not {len(group['params'])}"
                )
            group |= {name: saved[name] for name in ("lr", "momentum", "weight_decay") if name in saved}
        parameters = self._parameters()
        self.state = {}
        for number, saved in state["state"].items():
            if any(saved[name] is None for name in self.needs):  # torch's, before the first step
                continue
            self.state[parameters[number]] = {name: _like(parameters[number], name, saved[name]) for name in self.needs}


def _like(parameter: nn.Parameter, name: str, saved: Tensor) -> Tensor:
    """Return a copy of a saved tensor where its parameter lies; fused kernels want equal strides."""
    if name == "step":
        return torch.empty((), dtype=torch.float32, device=parameter.device).copy_(saved)
    if saved.shape != parameter.shape:
        raise ValueError(
            f"a {name.replace('_buffer', '')} of {tuple(saved.shape)} for a parameter of {tuple(parameter.shape)}"
        )
    return torch.empty_like(parameter).copy_(saved)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: v ← μ·v + g + λ·w, w ← w − lr·v (Sutskever et al. 2013, as torch has it).

    With `nesterov` w ← w − lr·(g + λ·w + μ·v), which needs a momentum above 0.
    """

    needs = ("momentum_buffer",)

    def __init__(self, groups: Iterable[dict], lr: float, momentum: float, nesterov: bool = False):
        super().__init__(groups, lr, momentum)
        self.nesterov = nesterov

    def _update(self, parameters: list[nn.Parameter], group: dict, lr: float | Tensor) -> None:
        velocity = [self.state.get(parameter, {}).get("momentum_buffer") for parameter in parameters]
        update(
            parameters, [parameter.grad for parameter in parameters], velocity, fused=True,
            weight_decay=group["weight_decay"], momentum=group["momentum"], lr=lr,
            dampening=0.0, nesterov=self.nesterov, maximize=False,
        )  # fmt: skip
        if group["momentum"]:
            self.state.update((each, {"momentum_buffer": its}) for each, its in zip(parameters, velocity))


class Adam(Optimizer):
    """Adam: Kingma & Ba 2015 (1412.6980), algorithm 1, with β₁ the momentum. The weight decay is a part of the gradient."""

    needs = ("step", "exp_avg", "exp_avg_sq")
    decoupled = False

    def _update(self, parameters: list[nn.Parameter], group: dict, lr: float | Tensor) -> None:
        for parameter in parameters:
            if parameter not in self.state:
                step = torch.zeros((), dtype=torch.float32, device=parameter.device)
                means = (torch.zeros_like(parameter), torch.zeros_like(parameter))
                self.state[parameter] = dict(zip(self.needs, (step, *means)))
        steps, means, squares = ([self.state[each][name] for each in parameters] for name in self.needs)
        adam(
            parameters, [parameter.grad for parameter in parameters], means, squares, [], steps, fused=True,
            decoupled_weight_decay=self.decoupled, amsgrad=False, beta1=group["momentum"], beta2=BETA2, lr=lr,
            weight_decay=group["weight_decay"], eps=EPS, maximize=False,
        )  # fmt: skip


class AdamW(Adam):
    """Adam with w ← w − lr·λ·w apart from the gradient: Loshchilov & Hutter 2019 (1711.05101), algorithm 2."""

    decoupled = True


def parameter_groups(
    model: nn.Module, structured: Mapping[nn.Parameter, float], weight_decay: float, scale: float,
    undecayed: Iterable[nn.Parameter] = (),
) -> list[dict]:  # fmt: skip
    """Return all parameters of a model in groups that decay, and learn, alike.

    Args: structured: the structured parameters, which decay with weight_decay × scale, each with the factor on its
    learning rate; undecayed: those that do not decay. All others decay with weight_decay. All but the structured ones
    learn at the rate of the schedule.
    """
    undecayed = dict.fromkeys(undecayed)
    rest = [parameter for parameter in model.parameters() if parameter not in structured and parameter not in undecayed]
    groups = [{"name": "plain", "params": rest, "weight_decay": weight_decay}]
    for factor in dict.fromkeys([1.0, *sorted(structured.values(), reverse=True)]):
        alike = [parameter for parameter, its in structured.items() if its == factor]
        slow = {} if factor == 1 else {"lr_factor": factor}
        groups.append({"name": "structured", "params": alike, "weight_decay": weight_decay * scale, **slow})
    if undecayed:
        groups.append({"name": "undecayed", "params": list(undecayed), "weight_decay": 0.0})
    return groups


def sgd(
    model: nn.Module, structured: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float, scale: float
) -> SGD:
    """Return SGD without Nesterov, in two groups: `structured` decays with weight_decay × scale, all else with weight_decay."""
    return SGD(parameter_groups(model, dict.fromkeys(structured, 1.0), weight_decay, scale), lr, momentum)


def optimizer_of(config: Mapping[str, Any], groups: Iterable[dict]) -> Optimizer:
    """Return the optimizer that a configuration asks for."""
    match config["optimizer"]:
        case "adam":
            return Adam(groups, config["lr"], config["momentum"])
        case "adamw":
            return AdamW(groups, config["lr"], config["momentum"])
    return SGD(groups, config["lr"], config["momentum"], nesterov=bool(config["nesterov"]))


def kept_tensors(config: Mapping[str, Any]) -> int:
    """Return how many tensors of the size of a parameter the optimizer of a configuration keeps for it."""
    return 2 if config["optimizer"] else 1 if config["momentum"] else 0


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every group the schedule's rate times its factor; its weight decay stays its own."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)
