"""Fixtures of the tests of schedules/."""

import time
from types import SimpleNamespace

import pytest

import schedules.job_queue


@pytest.fixture
def clock(monkeypatch):
    """The queue's clock, which only the test moves."""
    now = [0.0]
    monkeypatch.setattr(schedules.job_queue, "time", SimpleNamespace(monotonic=lambda: now[0], time=time.time))

    def forward(seconds):
        now[0] += seconds

    return forward
