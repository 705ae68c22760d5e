"""An integer for what a draw is for, the same on every machine. Imports no torch, as hashing.py does.

key(0, "crop", 12)                                     # of epoch 12
"""

import hashlib


def key(*parts: int | str) -> int:
    """Return a signed 64-bit integer for `parts`, the same on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
