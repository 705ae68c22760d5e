"""When several ranks agree to stop."""

import signal

import pytest

from distributed.process_group import ALONE
from distributed.stop import Stop


class OfMany:
    """As one of several ranks sees them, of which another one may have received a signal."""

    is_first, world_size = True, 2

    def __init__(self, slowest=0, others=0):
        self.slowest, self.others, self.exchanges = slowest, others, 0

    def all_reduce_max(self, *values):
        self.exchanges += 1
        return list(map(max, values, (self.others, self.slowest)))


@pytest.mark.parametrize("slowest, exchanges", [(0, 1 + 100 // 20), (50_000, 1 + 100 // 10), (700_000, 100)])
def test_ranks_seldom_ask_each_other_whether_to_stop(slowest, exchanges):
    """Once in 20 steps where they are quick, else once in half a second, and all stop at the same question."""
    ranks = OfMany(slowest)
    stop = Stop(ranks)  # not entered: it hears no signal
    assert not any(stop() for _ in range(100)) and abs(ranks.exchanges - exchanges) <= 1
    stop.received = signal.SIGTERM  # noted here alone
    answers = [stop() for _ in range(50)]
    assert answers == sorted(answers) and answers[20] and ranks.exchanges <= exchanges + 2
    alone = Stop(ALONE)
    alone.received = signal.SIGTERM
    assert alone()
