"""All gates of a network, and what is measured of them while it is tested.

gates = network.gates
gates.begin(); network(x); gates.observe(); gates.sums()     # sums over the images since `begin`
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from blocks import BlockAsLinear
from counting.shapes import plain_rule
from gates.gate import Gate, open_count
from gates.mult_adds import LayerCosts
from gates.selection import Selection
from gates.trace import Channels, Flow


class Gates(nn.ModuleDict):
    """The gates by the dotted names of their convolutions, in which `/` stands for the dots.

    Args: method: the name of the way to gate; left: convolutions that were chosen, but cannot be gated; exact: the multiply-adds per
    image of the network without gates.
    """

    def __init__(self, method: str, left: list[str], exact: float):
        super().__init__()
        self.method, self.left, self.exact = method, left, exact
        self.costs: list[tuple[LayerCosts, Selection | None, Gate | None]] = []  # None: no input, no output is closed
        self.hooks: dict[str, list[RemovableHandle]] = {}  # of convolutions, and of layers that keep channels closed
        self.fixed_scales = 0  # of batch-norms that FBS scales instead
        self._sums: Tensor | None = None

    def by_name(self) -> dict[str, Gate]:
        """Return the gates by the dotted names of their convolutions."""
        return {name.replace("/", "."): gate for name, gate in self.items()}

    def add(self, conv: str, gate: Gate) -> None:
        """Add the gate of a convolution."""
        self[conv.replace(".", "/")] = gate

    def selection(self, channels: Channels) -> Selection:
        """Return which of the channels of a feature are open."""
        return Selection(channels, self.by_name())

    def count(self, network: nn.Module, flow: Flow) -> None:
        """Note what each layer of the network costs that a gate can spare something, from what `follow` says with these gates."""
        gates, foreign = self.by_name(), getattr(network, "foreign", False)
        for read in flow.reads:
            module = network.get_submodule(read.name)
            if isinstance(module, nn.BatchNorm2d) or not (foreign or _has_rule(module)):  # nobody knows what it takes
                continue
            if any(read.channels) or read.name in gates:
                costs = LayerCosts(module, read)
                channels = self.selection(read.channels) if any(read.channels) else None
                self.costs.append((costs, channels, gates.get(read.name)))

    def share(self, batch: int, exact: float) -> None:
        """Let `batch` images share the forming of a matrix; `exact` are the multiply-adds of the network without gates then."""
        self.exact = exact
        for costs, _, _ in self.costs:
            costs.batch = batch

    @property
    def own_mult_adds(self) -> int:
        """The multiply-adds per image of the gates themselves."""
        return sum(gate.mult_adds for gate in self.values())

    def mult_adds(self) -> Tensor:
        """Return the exact multiply-adds of each image of the last batch (B,), the gates' own included, as float64."""
        mask = next(iter(self.values())).mask
        spared = mask.new_zeros(len(mask), dtype=torch.float64)
        for costs, channels, gate in self.costs:
            inputs = mask.new_ones(len(mask), costs.inputs) if channels is None else channels()
            spared += costs.whole - costs(inputs, None if gate is None else gate.mask)
        return self.exact + self.own_mult_adds - spared

    def planned(self) -> float:
        """Return the multiply-adds of an image where each gate opens the first of its channels, as many as its density says.

        That is exact in a network without sums; of a sum the channels are fewest if all that it adds closes the same ones.
        """
        for gate in self.values():
            gate.mask = torch.arange(gate.out_channels)[None] < open_count(gate.out_channels, gate.density)
        total = self.mult_adds().item()
        for gate in self.values():
            gate.mask = None
        return int(total) if total.is_integer() else total

    def planned_costs(self) -> dict:
        """Return what the gates cost and spare, for count.py: mult-adds per image, parameters and bytes that the network has more.

        An FBS gate takes the scale of a batch-norm from its parameters, which then has as many fewer.
        """
        parameters = sum(parameter.numel() for parameter in self.parameters()) - self.fixed_scales
        stored = sum(tensor.nbytes for tensor in self.state_dict().values())
        return {
            "mult_adds_gated": self.planned(), "gate_mult_adds": self.own_mult_adds, "gate_params": parameters,
            "gate_bytes": stored, "gates": len(self), "ungated": self.left,
        }  # fmt: skip

    def begin(self) -> None:
        """Forget what was measured."""
        self._sums = None

    @torch.no_grad()
    def observe(self) -> None:
        """Add what the last batch has shown."""
        gates = list(self.values())
        images = len(gates[0].mask)
        is_open = sum(gate.mask.sum() for gate in gates).double() / sum(gate.out_channels for gate in gates)
        loss = sum(gate.loss * gate.loss_weight for gate in gates).double() * images
        sums = torch.stack([is_open, loss, self.mult_adds().sum()])
        self._sums = sums if self._sums is None else self._sums + sums

    def sums(self) -> dict[str, Tensor]:
        """Return the sums over the images since `begin` of `gate_density`, `gate_loss` and `mult_adds_gated`."""
        sums = next(self.parameters()).new_zeros(3, dtype=torch.float64) if self._sums is None else self._sums
        return dict(zip(("gate_density", "gate_loss", "mult_adds_gated"), sums))


def _has_rule(module: nn.Module) -> bool:
    return isinstance(module, BlockAsLinear) or plain_rule(module, 1) is not None
