"""Studies: `from schedules import frame, draw`."""

from system.lazy import offers

__getattr__ = offers(frame="schedules.frames:frame", draw="schedules.frames:draw")
