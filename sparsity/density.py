"""How much of a network is left: its parameters that are not 0, in all and layer by layer.

counted(network).active_fraction               # of the prunable weights
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from counting.budget import resolve
from input.splits import is_tested
from layers.mixed import is_variational
from layers.user import of_module
from layers.variational import Variational
from models.build import build
from sparsity.prune import exact, kept_count
from sparsity.registry import check_unpruned, parse_prune
from sparsity.skipped import of_trained
from sparsity.weights import prunable
from training.callbacks import Callback

if TYPE_CHECKING:
    from training.step import TrainStep

NEAR_ZERO = 1e-3


class Density(Callback):
    """Count what is left after every epoch; after one that is tested, the multiply-adds without dead filters too.

    Args: where: of which layers, a regular expression; near_zero: say also which share of the weights is above 1e-3; config: of
    the run, without which no multiply-adds are counted.
    """

    def __init__(self, where: str = "", near_zero: bool = False, config: Mapping[str, Any] | None = None):
        self.where, self.near_zero, self.config = where, near_zero, config
        self.counted: dict[str, float] = {}

    def after_epoch(self, step: TrainStep) -> None:
        """Count."""
        found = counted(step.model, self.where)
        self.counted = {
            **found.metrics,
            **self._mult_adds(step),
            **({"active_fraction_above_0.001": found.above / found.prunable} if self.near_zero else {}),
            **{f"active_fraction/{name}": share for name, share in found.layers.items()},
        }

    def _mult_adds(self, step: TrainStep) -> dict[str, float]:
        """Return `active_mult_adds`; nothing between tests, where it is not known, and on the ranks that write no row."""
        if self.config is None or not step.ranks.is_first:
            return {}
        epochs, every = self.config["epochs"], self.config["test_every"] or 1  # where it is never tested, after each
        found = of_trained(step.model, self.config) if is_tested(round(step.t * epochs), epochs, every) else None
        return {} if found is None else {"active_mult_adds": found}

    def metrics(self) -> dict[str, float]:
        """Return the counts."""
        return dict(self.counted)

    def state_dict(self) -> dict:
        """Return the counts: an epoch that was trained, but not yet tested, is not counted again."""
        return {"counted": self.counted}

    def load_state_dict(self, state: dict) -> None:
        """Put back what `state_dict` returned."""
        self.counted = state["counted"]


class Counted(NamedTuple):
    """What is left of a network.

    prunable: weights that may be pruned; active: those of them that are not 0; above: with |w| > 1e-3; active_parameters: all
    parameters that are not 0; sparse_bytes: of a file of them; layers: the active share of each layer.
    """

    prunable: int
    active: int
    above: int
    active_parameters: int
    sparse_bytes: int
    layers: dict[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """What is said of it in all."""
        return {
            "active_fraction": self.active / self.prunable,
            "active_parameters": self.active_parameters,
            "sparse_bytes": self.sparse_bytes,
        }


def planned(config: Mapping[str, Any]) -> Counted:
    """Count what --prune will leave of the network of a configuration, if all else is not 0. Nothing is trained."""
    config, _ = resolve(config)
    if config["conv"] and is_variational(config["conv"]):
        check_unpruned(config, config["conv"])
    with of_module(config):
        network = build(config)
    layers = prunable(network, config["prune_where"] or "")
    sizes = [parameter.numel() for parameter in sum(layers.values(), [])]
    rest = sum(parameter.numel() for parameter in network.parameters()) - sum(sizes)
    kept = kept_count(exact(parse_prune(config["prune"]).number), sum(sizes))
    return Counted(sum(sizes), kept, kept, kept + rest, sparse_bytes(network, sizes, kept, rest), {})


@torch.no_grad()
def counted(network: nn.Module, where: str = "") -> Counted:
    """Count the parameters of a network that are not 0; of variational layers, the weights and biases that tests use."""
    layers, others = _tested(network, where)
    weights = sum(layers.values(), [])
    nonzero = [torch.count_nonzero(each) for each in weights]
    above = [torch.count_nonzero(each.abs() > NEAR_ZERO) for each in weights]
    of_others = [torch.count_nonzero(each) for each in others]
    active, large, rest = (_integers(each) for each in (nonzero, above, of_others))
    counts = iter(active)
    shares = {
        name: sum(next(counts) for _ in parameters) / sum(each.numel() for each in parameters)
        for name, parameters in layers.items()
    }
    size = sum(each.numel() for each in weights)
    stored = sparse_bytes(
        network, [each.numel() for each in weights], sum(active), sum(each.numel() for each in others)
    )
    return Counted(size, sum(active), sum(large), sum(active) + sum(rest), stored, shares)


def _tested(network: nn.Module, where: str) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
    """Return the weights by layer, and the other parameters, as tests use them."""
    layers: dict[str, list[Tensor]] = dict(prunable(network, where))
    known, biases = set(sum(layers.values(), [])), []
    for name, module in network.named_modules():
        if name in layers and isinstance(module, Variational):
            layers[name] = [module.weight()]
            known.update(module.parameters())
            biases += [] if (bias := module.effective_bias()) is None else [bias]
    return layers, [parameter for parameter in network.parameters() if parameter not in known] + biases


def _integers(counts: list[Tensor]) -> list[int]:
    """Return what lies on the device, read at once."""
    return torch.stack(counts).tolist() if counts else []


def sparse_bytes(network: nn.Module, sizes: list[int], active: int, rest: int) -> int:
    """Return the bytes of a file of a network with prunable tensors of these sizes and `rest` other parameters.

    It has a bit for each prunable entry, 4 bytes for each of them that is not 0 and for each other parameter, and the
    network's buffers (statistics of batch-norms) as they are.
    """
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    buffers = sum(each.nbytes for name, each in network.state_dict().items() if name not in parameters)
    return sum(-(-size // 8) for size in sizes) + 4 * (active + rest) + buffers
