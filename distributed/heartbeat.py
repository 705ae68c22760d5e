"""A heartbeat between processes that train together: it ends them all when one of them is lost or has failed.

    heartbeat = Heartbeat(rank=0)                # in every process, after init_process_group
    heartbeat.stop(status=0)

torch's own collectives would wait for a lost process for many minutes; the heartbeat knows within half a minute.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from system.errors import MachineFault

BEAT = 1.0  # seconds between two heartbeats
GRACE = 10.0  # seconds in which a process may end by itself after another one has failed
LOST = 30.0  # seconds after which a process that does not answer is taken for lost


class Heartbeat(threading.Thread):
    """Exchange a message with all other processes once a second; end this process where one of them is lost or has failed."""

    def __init__(self, rank: int):
        super().__init__(daemon=True, name="heartbeat")
        self.rank = rank
        self.group = dist.new_group(backend="gloo", timeout=timedelta(seconds=LOST))
        self.done, self.status, self.beats = threading.Event(), 0, 0
        self.on_peer_loss: Callable[[int, str], Any] = lambda status, reason: None
        self.start()

    def check(self) -> None:
        """Return after two more heartbeats of all processes. Where one was lost or has failed, this process ends instead."""
        heard = self.beats
        while self.is_alive() and self.beats < heard + 2:
            self.join(BEAT / 10)

    def stop(self, status: int) -> None:
        """Send the last heartbeats: with status 0 all processes wait for each other, with another one the others end."""
        self.status = status
        self.done.set()
        self.join(LOST + 5 * BEAT)

    def run(self) -> None:
        """Beat until all processes are done."""
        world_size = dist.get_world_size(self.group)
        while True:
            self.done.wait(BEAT)
            done = self.done.is_set()
            own = torch.tensor([int(done and self.status == 0), self.status])
            try:
                gathered = [torch.empty_like(own) for _ in range(world_size)]
                dist.all_gather(gathered, own, group=self.group)
            except RuntimeError:
                if not done:
                    self._end(MachineFault.exit_status, "was lost", tell=True)
                return
            statuses = [int(status) for _, status in gathered]
            self.beats += not any(statuses)
            if any(statuses):
                if done:
                    time.sleep(BEAT / 2)  # until the others have this heartbeat too
                elif not self.done.wait(GRACE):
                    self._end(next(filter(None, statuses)), "has failed", tell=False)
                return
            if all(finished for finished, _ in gathered):
                return
            if done:
                time.sleep(BEAT / 10)

    def _end(self, status: int, what: str, tell: bool) -> None:
        reason = f"another process of this run {what}"
        self.on_peer_loss(status, reason)
        if tell:
            where = f"process {self.rank} on {socket.gethostname()}"
            print(f"error: {reason}, so {where} ends; repeat the command with --resume", file=sys.stderr, flush=True)
        os._exit(status)
