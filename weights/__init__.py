"""Where trained weights come from, and where they go: `from weights import swap`."""

from system.lazy import offers

__getattr__ = offers(swap="weights.swapping:swap")
