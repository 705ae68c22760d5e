"""Processes that end with the process that started them, however that one ends (Linux only), and waiting for descriptors.

    subprocess.Popen(command, preexec_fn=end_with_parent())
    follow(parent)                                # in a process that has been started already
    readable([3, 4])                              # the descriptors that have something to read

They get SIGTERM, at which main.py writes a checkpoint. Imports no torch.
"""

import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable

PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> Callable[[], None]:
    """Return the function that a process which this one starts has to call first (subprocess's preexec_fn)."""
    libc, parent = (
        ctypes.CDLL(None),
        os.getpid(),
    )  # before the fork: after it, another thread's lock may be held for ever
    return lambda: _follow(parent, libc)


def follow(parent: int) -> None:
    """Let this process end with `parent`, which has started it."""
    _follow(parent, ctypes.CDLL(None))


def _follow(parent: int, libc: ctypes.CDLL) -> None:
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # gone already
            os._exit(143)


def readable(descriptors: Iterable[int], seconds: float | None = None) -> list[int]:
    """Return the descriptors that can be read or are closed at the other end; wait so long for the first of them."""
    poll = select.poll()  # select.select takes no descriptor above 1023
    for each in descriptors:
        poll.register(each, select.POLLIN)
    return [each for each, _ in poll.poll(None if seconds is None else 1000 * seconds)]
