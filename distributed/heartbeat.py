"""A heartbeat between processes that train together: within half a minute it tells that one was lost or has failed, and ends
the others. torch's own collectives would wait for it for many minutes.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from system.errors import MachineFault

BEAT = 1.0  # seconds between two heartbeats


GRACE = 10.0  # seconds in which one process may end by itself after another has failed


LOST = 30.0  # seconds after which a process that does not answer is taken for lost


class Heart(threading.Thread):
    """Meets those of the other processes once a second. Ends this process where one of them is lost or has failed."""

    def __init__(self, group: dist.ProcessGroup, rank: int):
        super().__init__(daemon=True, name="heartbeat")
        self.group, self.rank = group, rank
        self.done, self.status, self.beats = threading.Event(), 0, 0
        self.note: Callable[[int, str], Any] = lambda status, reason: None
        self.start()

    def check(self) -> None:
        """Return once all processes have been heard twice more. Where one was lost or has failed, this process ends instead."""
        heard = self.beats
        while self.is_alive() and self.beats < heard + 2:
            self.join(BEAT / 10)

    def stop(self, status: int) -> None:
        """The last beats: with status 0 all wait for each other, else the others end."""
        self.status = status
        self.done.set()
        self.join(LOST + 5 * BEAT)

    def run(self) -> None:
        members = dist.get_world_size(self.group)
        while True:
            self.done.wait(BEAT)
            done = self.done.is_set()
            pulse = torch.tensor([int(done and self.status == 0), self.status])
            try:
                gathered = [torch.empty_like(pulse) for _ in range(members)]
                dist.all_gather(gathered, pulse, group=self.group)
            except RuntimeError:
                if not done:
                    self._end(MachineFault.exit_status, "was lost", tell=True)
                return
            statuses = [int(status) for _, status in gathered]
            self.beats += not any(statuses)
            if any(statuses):
                if done:
                    time.sleep(BEAT / 2)  # until the others have this beat too
                elif not self.done.wait(GRACE):
                    self._end(next(filter(None, statuses)), "has failed", tell=False)
                return
            if all(finished for finished, _ in gathered):
                return
            if done:
                time.sleep(BEAT / 10)

    def _end(self, status: int, what: str, tell: bool) -> None:
        reason = f"another process of this run {what}"
        self.note(status, reason)
        if tell:
            where = f"process {self.rank} on {socket.gethostname()}"
            print(f"error: {reason}, so {where} ends; repeat the command with --resume", file=sys.stderr, flush=True)
        os._exit(status)
