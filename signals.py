"""Requests to stop: Ctrl-C, the SIGTERM of a scheduler, the SIGUSR1 that SLURM sends before a time limit.

    on_signal(end_at_once)          # while nothing has begun: one line and the exit status
    on_signal(interrupt)            # while something has: Interrupted, wherever the process is
    with Deferred() as stop:        # while an epoch is at stake: only noted
        fit(..., stopping=stop)     # stop() says whether to stop at the next occasion

Exit status: 130 after Ctrl-C, 143 after the others. Imports no torch.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from errors import Interrupted

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR1: "SIGUSR1"}


def exit_status(number: int) -> int:
    return 130 if number == signal.SIGINT else 143


def on_signal(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in NAMES:
        signal.signal(number, handler)


def end_at_once(number: int, frame: FrameType | None = None) -> NoReturn:
    """For what is not to be unwound, such as an import that is half done."""
    os.write(2, f"stopped by {NAMES[number]} before anything had begun\n".encode())
    os._exit(exit_status(number))


def interrupt(number: int, frame: FrameType | None = None) -> NoReturn:
    raise Interrupted(f"stopped by {NAMES[number]}", exit_status(number))


class Deferred:
    """Within this context a signal is noted, and `stop()` true from then on. A second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __call__(self) -> bool:
        return self.received is not None

    def interrupt(self) -> NoReturn:
        """Interrupted, by the signal that was received."""
        interrupt(self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if number == signal.SIGINT:
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __enter__(self) -> "Deferred":
        self._before = {number: signal.getsignal(number) for number in NAMES}
        on_signal(self._note)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
