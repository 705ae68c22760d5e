"""Requests to stop: Ctrl-C, SIGTERM of a scheduler, SIGUSR1 of SLURM before a time limit, SIGHUP of a lost terminal.

    on_signal(end_at_once)          # while nothing has begun: one line and the exit status
    on_signal(interrupt)            # while something has: Interrupted, wherever the process is
    with Deferred() as stop:        # while an epoch would be lost: only noted
        fit(..., stopping=stop)     # stop() returns whether to stop after this step

Exit status: 130 after Ctrl-C, 143 after the others. After the first request others are ignored, except that
another Ctrl-C ends the process at once. Imports no torch.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from system.errors import Interrupted

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR1: "SIGUSR1", signal.SIGHUP: "SIGHUP"}

if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup has set that, and it stays so
    del NAMES[signal.SIGHUP]


def exit_status(number: int) -> int:
    """Return the exit status of a process that this signal has stopped."""
    return 130 if number == signal.SIGINT else 143


def on_signal(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """Let `handler` receive each of the signals of NAMES."""
    for number in NAMES:
        signal.signal(number, handler)


def stop_listening(for_good: bool = False) -> None:
    """Ignore all signals but Ctrl-C, which ends the process as Python does by default.

    Args: for_good: whether they stay ignored while Python itself ends.
    """
    on_signal(signal.SIG_IGN if for_good else _pass_over)  # with SIG_IGN, Python would warn of a signal on its way
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _pass_over(number: int, frame: FrameType | None) -> None: ...


def end_at_once(number: int, frame: FrameType | None = None) -> NoReturn:
    """End the process without unwinding, as while an import is half done."""
    _say(f"stopped by {NAMES[number]} before anything was started\n")
    os._exit(exit_status(number))


def interrupt(number: int, frame: FrameType | None = None) -> NoReturn:
    """Raise Interrupted with the signal's name and exit status."""
    stop_listening()
    raise Interrupted(f"stopped by {NAMES[number]}", exit_status(number))


def _say(text: str) -> None:
    with suppress(OSError):  # no reader is left, as when Ctrl-C has ended `| tee` too
        os.write(2, text.encode())


class Deferred:
    """A context in which a signal is noted: `stop()` is true from then on. A second Ctrl-C ends the process at once.

    Args: notice: the line that the first Ctrl-C prints; empty: none.
    """

    def __init__(self, notice: str = "stopping after this step; Ctrl-C again stops at once") -> None:
        self.received: int | None = None
        self.notice = notice

    def __call__(self) -> bool:
        """Return whether a signal was received."""
        return self.received is not None

    def interrupt(self) -> NoReturn:
        """Raise Interrupted with the signal that was received."""
        interrupt(self.received)

    def hear(self, number: int | None) -> None:
        """Note a signal that another process of the same run has received; 0 or None: none."""
        if number and self.received is None:
            self.received = number
            stop_listening()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        stop_listening()
        if number == signal.SIGINT and self.notice:
            _say(f"\n{self.notice}\n")

    def __enter__(self) -> "Deferred":
        on_signal(self._note)
        return self

    def __exit__(self, *exception) -> None:
        if self.received is None:
            on_signal(interrupt)
