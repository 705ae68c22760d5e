"""Which of a layer's input channels are open, from the masks of the gates that may close them.

open_channels = Selection(channels, gates)     # of what `follow` says of a layer's input
open_channels()                                # (B, C) bool, of the last batch
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from gates.gate import Gate
from gates.trace import Channels


class Selection:
    """The mask of the channels of a feature, of each image: one is open where it always is, or any of its gated sources is open."""

    def __init__(self, channels: Channels, gates: Mapping[str, Gate]):
        names = sorted({name for sources in channels if sources for name, _ in sources})
        self.channels, self.gates = channels, [gates[name] for name in names]
        self._first = dict(zip(names, self._offsets()))
        self._rows: Tensor | None = None

    def _offsets(self) -> list[int]:
        offsets = [0]
        for gate in self.gates:
            offsets.append(offsets[-1] + gate.out_channels)
        return offsets

    @cached_property
    def _is_one(self) -> bool:
        """Whether the channels are those of one gate, in order."""
        own = [frozenset([(name, number)]) for name in self._first for number in range(self.gates[0].out_channels)]
        return len(self.gates) == 1 and self.channels == own

    def __call__(self) -> Tensor:
        """Return the mask (B, C)."""
        if self._is_one:
            return self.gates[0].mask
        masks = [gate.mask for gate in self.gates]
        every = torch.cat([*masks, torch.ones_like(masks[0][:, :1])], 1)
        if self._rows is None or self._rows.device != every.device:
            self._rows = torch.tensor(self._numbers(every.shape[1] - 1), device=every.device)
        return every[:, self._rows].any(2)

    def _numbers(self, always: int) -> list[list[int]]:
        """Return for each channel the columns of the concatenated masks that open it; `always` is one of ones."""
        found = [
            [always] if sources is None else sorted(self._first[name] + number for name, number in sources)
            for sources in self.channels
        ]
        longest = max(map(len, found))
        return [each + each[-1:] * (longest - len(each)) for each in found]
