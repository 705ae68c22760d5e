"""The rendezvous of the processes of one start: a store of their own, whatever earlier starts have left behind.

    store = meet(rank=0, world_size=4)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=4)

torchrun gives its workers one store for all their restarts, and torch reads there the addresses of processes that no longer
exist (its issue 135712). So rank 0 names each start anew and answers those alone that ask for the name now.
"""

import time
import uuid
from datetime import timedelta

import torch.distributed as dist

from system.errors import MachineFault

PATIENCE = 600.0  # seconds for all processes to come: one may still import what it needs from a slow disk


def meet(rank: int, world_size: int) -> dist.Store:
    """Return the store that the processes of this start share. Raise MachineFault where not all of them come."""
    store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=PATIENCE)))
    return dist.PrefixStore(_name_start(store, world_size) if rank == 0 else _ask(store), store)


def _name_start(store: dist.Store, world_size: int) -> str:
    """Name this start, and answer every process that asks until all ranks have heard the name.

    Processes of an earlier start may have asked too. They never ask again, so they are answered and not waited for.
    """
    name, answered, deadline = uuid.uuid4().hex, 0, time.monotonic() + PATIENCE
    while (heard := store.add(f"{name}/heard", 0)) < world_size - 1:
        asked = store.add("asked", 0)
        for ticket in range(answered + 1, asked + 1):
            store.set(f"answer/{ticket}", name)
        answered = asked
        if time.monotonic() > deadline:
            raise MachineFault(f"{world_size - 1 - heard} of {world_size} processes have not come in {PATIENCE:g} s")
        time.sleep(0.02)
    return name


def _ask(store: dist.Store) -> str:
    name = store.get(f"answer/{store.add('asked', 1)}").decode()
    store.add(f"{name}/heard", 1)
    return name
