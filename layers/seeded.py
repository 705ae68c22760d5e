"""`Seeded`: a module whose pseudo-random structure is recomputed from one integer and never stored.

class Shuffled(Seeded):
    def _find_structure(self):
        return (permutation(64, self.key, self.weight.device),)
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from layers.tracing import untraced


def smallest(places: Tensor) -> Tensor:
    """Return places, none below 0, as unsigned integers of 8 or 16 bits where they hold them, else as int32."""
    last = int(places.max())
    return places.to(torch.uint8 if last < 1 << 8 else torch.uint16 if last < 1 << 16 else torch.int32)


class Seeded(nn.Module, ABC):
    """A module with a pseudo-random structure, a pure function of its integer `key`."""

    key: int
    _structure: tuple[Tensor, ...] | None = None
    _packed: tuple[Tensor, ...] = ()

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

    def pack(self) -> None:
        """Keep the structure in the smallest integers that hold it, for the file of a graph that torch.export records."""
        self._packed = tuple(map(smallest, self.structure()))

    def recorded_structure(self, place: int) -> Tensor:
        """Return one tensor of the structure that `pack` keeps, as a graph computes with it: int32."""
        return self._packed[place].int()

    def _apply(self, fn, recurse=True) -> "Seeded":
        self._structure = None
        return super()._apply(fn, recurse)

    def _replicate_for_data_parallel(self) -> "Seeded":
        replica = super()._replicate_for_data_parallel()
        replica._structure = None
        return replica

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_structure": None, "_packed": ()}
