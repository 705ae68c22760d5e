"""Durations as people read them.

duration(750)         # 12.5 min
"""


def duration(seconds: float) -> str:
    """Return `45 s`, `12.5 min`, `3.2 h` or `4.1 days`."""
    for unit, size, upto in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 72)):
        if seconds < upto * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"
