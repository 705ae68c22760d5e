"""One integer hash, from which hashed layers take their order and the input pipeline its draws.

    bits = hash64(torch.arange(8), key(0, "crop", 12))     # eight draws of epoch 12
    rows = below(9, bits, field=0)                         # each 0..8

A draw that is a pure function of what it is for does not change with a resume, the batch size, the number of processes
or whatever else was built before it. The hash is the finaliser of SplitMix64 (Steele, Lea & Flood 2014, "Fast
splittable pseudorandom number generators"), on the wrapping 64-bit integers of any torch device.
"""

import torch
from torch import Tensor

from system.keys import key

__all__ = ["FIELD_BITS", "below", "hash64", "hash_order", "key", "permutation"]

FIELD_BITS = 21  # three independent draws of 21 bits from one hash
IN_CACHE = 1 << 15  # positions that a CPU's cache holds: what is mixed piece by piece takes 0.4 of the time


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >> 63 else constant


def _xor_shift(x: Tensor, bits: int) -> None:
    x ^= (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)  # torch shifts int64 arithmetically: mask the sign's copies


def _mixed(position: Tensor, key: int) -> Tensor:
    x = position * _signed(0x9E3779B97F4A7C15)
    x += key
    _xor_shift(x, 30)
    x *= _signed(0xBF58476D1CE4E5B9)
    _xor_shift(x, 27)
    x *= _signed(0x94D049BB133111EB)
    _xor_shift(x, 31)
    return x


def hash64(position: Tensor, key: int) -> Tensor:
    """Return pseudo-random int64 of the shape of `position` (int64), a pure function of each position and the key.

    With one key no two positions have the same hash: each step can be undone.
    """
    if position.device.type != "cpu" or position.numel() <= IN_CACHE:
        return _mixed(position, key)
    return torch.cat([_mixed(part, key) for part in position.flatten().split(IN_CACHE)]).view(position.shape)


def below(limit: int, bits: Tensor, field: int) -> Tensor:
    """Return draws 0 <= d < limit (int64) from one of the three 21-bit fields (0, 1, 2) of hashed `bits`."""
    return ((bits >> (field * FIELD_BITS)) & ((1 << FIELD_BITS) - 1)) * limit >> FIELD_BITS


def hash_order(position: Tensor, key: int) -> Tensor:
    """Return where the hashes of `position` (n,) are in rising order (int64): a permutation of 0..n-1."""
    return torch.argsort(hash64(position, key), stable=True)


def permutation(n: int, key: int, device: torch.device | str | None = None) -> Tensor:
    """Return a permutation of 0..n-1 (int64): the positions sorted by their hash."""
    return hash_order(torch.arange(n, device=device), key)
