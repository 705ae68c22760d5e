"""`Seeded`: a module whose pseudo-random structure is recomputed from one integer and never stored.

class Shuffled(Seeded):
    def _find_structure(self):
        return (permutation(64, self.key, self.weight.device),)
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from layers.tracing import untraced


class Seeded(nn.Module, ABC):
    """A module with a pseudo-random structure, a pure function of its integer `key`."""

    key: int
    _structure: tuple[Tensor, ...] | None = None

    @abstractmethod
    def _find_structure(self) -> tuple[Tensor, ...]:
        """Return the structure as index tensors on the module's device."""

    def structure(self) -> tuple[Tensor, ...]:
        """Return the structure; compute it at the first call, after a move to another device and in a copy."""
        if self._structure is None:
            # outside any graph: compiled kernels were seen to get wrapping 64-bit products wrong (torch 2.15, CPU)
            with torch.inference_mode(False), untraced():
                find = self._find_structure
                if torch.compiler.is_compiling():  # else the call alone would import the compiler, which takes seconds
                    find = torch.compiler.disable(find)
                self._structure = find()
        return self._structure

    def _apply(self, fn, recurse=True) -> "Seeded":
        self._structure = None
        return super()._apply(fn, recurse)

    def _replicate_for_data_parallel(self) -> "Seeded":
        replica = super()._replicate_for_data_parallel()
        replica._structure = None
        return replica

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_structure": None}
