"""A signal to stop that reaches one process and stops all of them.

with Stop(ranks) as stop:
    fit(..., should_stop=stop)
"""

from time import monotonic

from distributed.process_group import Ranks
from system.signals import Deferred

INTERVAL = 0.5  # seconds between two exchanges, as far as the last questions tell how long the next ones take
MOST = 20  # questions between two exchanges, where questions are quick: those that follow may be slower


class Stop(Deferred):
    """Within this context a signal to any rank is noted. `stop()` is true of a run alone from then on.

    Of several ranks it is true on all of them from the same question on, which comes within about a second or MOST questions:
    ranks that exchanged what they noted at every question would wait for each other after every step.
    """

    def __init__(self, ranks: Ranks):
        super().__init__(*() if ranks.is_first else ("",))
        self.ranks, self.agreed = ranks, False
        self.asked, self.next, self.since = 0, 1, monotonic()

    def __call__(self) -> bool:
        """Say whether all ranks are to stop. All ranks ask at the same moments."""
        if self.ranks.world_size == 1:
            return super().__call__()
        self.asked += 1
        if self.asked >= self.next and not self.agreed:
            self._exchange()
        return self.agreed

    def _exchange(self) -> None:
        """Hear what any rank has noted, and agree on the number of questions until the next exchange."""
        microseconds = int(1e6 * (monotonic() - self.since) / self.asked) + 1
        number, slowest = self.ranks.all_reduce_max(self.received or 0, microseconds)
        self.hear(number)
        self.agreed = number > 0
        self.asked, self.next, self.since = 0, max(1, min(MOST, int(1e6 * INTERVAL) // slowest)), monotonic()
