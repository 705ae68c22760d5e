"""What tests of the queue start from."""

import time
from types import SimpleNamespace

import pytest

import schedules.job_queue


@pytest.fixture
def clock(monkeypatch):
    """The queue's own, which only a test moves."""
    now = [0.0]
    monkeypatch.setattr(schedules.job_queue, "time", SimpleNamespace(monotonic=lambda: now[0], time=time.time))

    def forward(seconds):
        now[0] += seconds

    return forward
