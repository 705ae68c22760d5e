"""Where the processes of one start meet: a store of their own, whatever earlier starts have left in that of who starts them.

    store = meet(rank=0, count=4)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=4)

torchrun gives its workers one store for all their restarts, and torch reads there the addresses of processes that are no
more (its issue 135712). So the first process names the start anew, and only those get the name that ask for it now.
"""

import time
import uuid
from datetime import timedelta

import torch.distributed as dist

from system.errors import MachineFault

PATIENCE = 600.0  # seconds for all to come: one may still import what it needs from a slow disk


def meet(rank: int, count: int) -> dist.Store:
    """The store that the processes of this start share. MachineFault where not all of them come."""
    store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=PATIENCE)))
    return dist.PrefixStore(_name_a_start(store, count) if rank == 0 else _ask(store), store)


def _name_a_start(store: dist.Store, count: int) -> str:
    """Answers all who ask, those too that asked an earlier start and never will ask again, until as many as there have to be
    have heard it."""
    name, answered, deadline = uuid.uuid4().hex, 0, time.monotonic() + PATIENCE
    while (heard := store.add(f"{name}/heard", 0)) < count - 1:
        asked = store.add("asked", 0)
        for ticket in range(answered + 1, asked + 1):
            store.set(f"answer/{ticket}", name)
        answered = asked
        if time.monotonic() > deadline:
            raise MachineFault(f"{count - 1 - heard} of {count} processes have not come in {PATIENCE:g} s")
        time.sleep(0.02)
    return name


def _ask(store: dist.Store) -> str:
    name = store.get(f"answer/{store.add('asked', 1)}").decode()
    store.add(f"{name}/heard", 1)
    return name
