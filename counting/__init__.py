"""What a network costs: `from counting import count`."""

from system.lazy import offers

__getattr__ = offers(count="counting.measure:count")
