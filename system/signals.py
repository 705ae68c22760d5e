"""Requests to stop: Ctrl-C, the SIGTERM of a scheduler, the SIGUSR1 that SLURM sends before a time limit, a lost terminal.

    on_signal(end_at_once)          # while nothing has begun: one line and the exit status
    on_signal(interrupt)            # while something has: Interrupted, wherever the process is
    with Deferred() as stop:        # while an epoch is at stake: only noted
        fit(..., stopping=stop)     # stop() says whether to stop at the next occasion

Exit status: 130 after Ctrl-C, 143 after the others. Who has been told to stop takes no second request, except that another
Ctrl-C ends the process at once. Imports no torch.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from system.errors import Interrupted

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR1: "SIGUSR1", signal.SIGHUP: "SIGHUP"}


if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    del NAMES[signal.SIGHUP]  # by nohup, and it stays so


def exit_status(number: int) -> int:
    return 130 if number == signal.SIGINT else 143


def on_signal(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in NAMES:
        signal.signal(number, handler)


def stop_listening(for_good: bool = False) -> None:
    """From now on only Ctrl-C is heard, and ends the process as it always does. `for_good`: even as Python itself ends."""
    on_signal(signal.SIG_IGN if for_good else _pass_over)  # SIG_IGN at once would let Python complain of one on its way
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _pass_over(number: int, frame: FrameType | None) -> None: ...


def end_at_once(number: int, frame: FrameType | None = None) -> NoReturn:
    """For what is not to be unwound, such as an import that is half done."""
    _say(f"stopped by {NAMES[number]} before anything had begun\n")
    os._exit(exit_status(number))


def interrupt(number: int, frame: FrameType | None = None) -> NoReturn:
    stop_listening()
    raise Interrupted(f"stopped by {NAMES[number]}", exit_status(number))


def _say(text: str) -> None:
    with suppress(OSError):  # if nobody hears it, as when Ctrl-C has ended `| tee` too
        os.write(2, text.encode())


class Deferred:
    """Within this context a signal is noted, and `stop()` true from then on. A second Ctrl-C ends the process at once, as
    `notice` says, if there is one, when the first comes."""

    def __init__(self, notice: str = "stopping after this step; Ctrl-C again stops at once") -> None:
        self.received: int | None = None
        self.notice = notice

    def __call__(self) -> bool:
        return self.received is not None

    def interrupt(self) -> NoReturn:
        """Interrupted, by the signal that was received."""
        interrupt(self.received)

    def hear(self, number: int | None) -> None:
        """Of a signal that another process of the same run has received; 0 or None: of none."""
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
