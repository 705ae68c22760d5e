"""Trained weights: where they come from, and networks in Python: `from weights import load, swap`."""

from system.lazy import offers

__getattr__ = offers(load="weights.classifier:load", swap="weights.swapping:swap")
