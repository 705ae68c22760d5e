"""Schedules that change at every step, by reference values; test_optim.py compares them with torch's."""

import pytest

from cli import options
from training.rates import Linear, changes_within, describe, schedule_of

# "epoch": factor of the full rate with cycles of 10, 20, 40 … epochs (the specification's reference values).
SGDR = {0: 1.0, 1: 0.9755282581, 5: 0.5, 9.5: 0.0061558297, 15: 0.8535533906, 20: 0.5, 30: 1.0, 50: 0.5, 110: 0.5,
        150: 1.0}  # fmt: skip


def asked(*flags):
    return options.training(["cifar10", "teacher", "-t", "x", *flags])


@pytest.mark.parametrize("epochs", [151, 200, 310])
def test_sgdr_is_the_reference(epochs):
    schedule = schedule_of(asked("--schedule", "sgdr", "--lr", "0.05", "--epochs", str(epochs)))
    for epoch, factor in SGDR.items():
        assert schedule(epoch / epochs) == pytest.approx(0.05 * factor, abs=1e-11)


def test_which_change_within_an_epoch():
    for schedule, flags in {
        "step": [],
        "cosine": [],
        "sgdr": ["--restart_epochs", "4"],
        "linear": ["--lr_points", "[[0,0.1],[7,0.2]]"],
    }.items():
        config = asked("--schedule", schedule, *flags, "--epochs", "12")
        assert changes_within(schedule_of(config)) == bool(describe(config)) == (schedule in ("sgdr", "linear"))
    assert (
        describe(config)
        == "learning rate by epoch 0.1 at 0, 0.2 at 7, 0.2 from there on, straight between at every step"
    )
    assert describe(asked("--schedule", "sgdr", "--epochs", "80")) == (
        "learning rate 0.1, by a cosine to 0 from the start, 10, 30 and 70 on, at every step"
    )
    assert Linear([[0, 0.3]], 5)(0.7) == Linear([[0, 0.3]], 5)(1.0) == 0.3
