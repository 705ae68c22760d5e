"""A signal to stop that reaches one process and stops all of them.

with Stop(ranks) as stop:
    fit(..., should_stop=stop)
"""

from distributed.process_group import Ranks
from system.signals import Deferred


class Stop(Deferred):
    """Within this context a signal to any rank is noted, and `stop()` is true on all of them from their next question on."""

    def __init__(self, ranks: Ranks):
        super().__init__(*() if ranks.is_first else ("",))
        self.ranks = ranks

    def __call__(self) -> bool:
        """Say whether any rank was told to stop. All ranks ask at the same moments."""
        self.hear(self.ranks.all_reduce_max(self.received or 0))
        return super().__call__()
