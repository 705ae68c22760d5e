"""Lay the jobs of a study out on the GPUs of some machines, and say how long that takes. Imports no torch.

    pieces = {"t": Piece(2.0), "s": Piece(1.0, needs=("t",)), "a": Piece(1.5)}
    hours(pieces, machines=1, gpus=2)                     # 3.0: t, then s; a beside t

A job begins as soon as those that it needs have ended and a machine has enough free GPUs. Of those that can begin, the one
that takes longest does, with the longest chain of jobs that wait for it. (Of independent jobs, one on each of m GPUs, that
is at most 4/3 - 1 / (3 m) of the shortest time there is: Graham 1969, Bounds on multiprocessing timing anomalies.)
"""

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import NamedTuple


class Piece(NamedTuple):
    """A job: the hours that it takes, on so many GPUs of one machine, and the jobs of the study that it waits for."""

    hours: float
    gpus: int = 1
    needs: tuple[str, ...] = ()


class _Machines:
    """The free GPUs of machines with equally many."""

    def __init__(self, machines: int, gpus: int):
        self._free = [gpus] * machines
        self._with: dict[int, set[int]] = {gpus: {*range(machines)}}  # the machines by how many free GPUs they have

    def take(self, gpus: int) -> int | None:
        """Take GPUs of the machine that has the fewest of those with enough, and return it; None where none has."""
        enough = [free for free, machines in self._with.items() if free >= gpus and machines]
        if not enough:
            return None
        machine = next(iter(self._with[min(enough)]))
        self.give(machine, -gpus)
        return machine

    def give(self, machine: int, gpus: int) -> None:
        """Give GPUs back to a machine."""
        self._with[self._free[machine]].remove(machine)
        self._free[machine] += gpus
        self._with.setdefault(self._free[machine], set()).add(machine)


def hours(pieces: Mapping[str, Piece], machines: int, gpus: int) -> float | None:
    """Return the hours from the beginning of the first job to the end of the last; None where a job asks for more GPUs.

    Args: pieces: by the names of their jobs, in an order in which a job comes after those that it needs; what they need
    and what is not among them has ended. gpus: of each machine.
    """
    if any(piece.gpus > gpus for piece in pieces.values()):
        return None
    waits = {name: {*piece.needs} & pieces.keys() for name, piece in pieces.items()}
    needed_by: dict[str, list[str]] = {}
    for name, needs in waits.items():
        for need in needs:
            needed_by.setdefault(need, []).append(name)
    chains: dict[str, float] = {}  # of each job with the longest chain that waits for it
    for name in reversed(pieces):
        chains[name] = pieces[name].hours + max((chains[each] for each in needed_by.get(name, [])), default=0.0)
    ready: dict[int, list[tuple[float, str]]] = {}  # by GPUs, the longest first
    running: list[tuple[float, str, int]] = []  # the end of each job, its name and its machine
    of_machines, now = _Machines(min(machines, len(pieces)), gpus), 0.0  # a job is on one machine
    begins = [name for name, needs in waits.items() if not needs]
    while True:
        for name in begins:
            heappush(ready.setdefault(pieces[name].gpus, []), (-chains[name], name))
        _start(ready, running, of_machines, pieces, now)
        if not running:  # all GPUs are free, and nothing that is ready is left
            return now
        now, begins = running[0][0], []
        while running and running[0][0] == now:
            _, ended, machine = heappop(running)
            of_machines.give(machine, pieces[ended].gpus)
            for name in needed_by.get(ended, []):
                waits[name].remove(ended)
                begins += [] if waits[name] else [name]


def _start(
    ready: dict[int, list[tuple[float, str]]],
    running: list[tuple[float, str, int]],
    machines: _Machines,
    pieces: Mapping[str, Piece],
    now: float,
) -> None:
    """Start the jobs that are ready, the longest first, as long as one of them fits a machine."""
    open_sizes = {size for size, jobs in ready.items() if jobs}
    while open_sizes:
        size = min(open_sizes, key=lambda each: ready[each][0])
        machine = machines.take(size)
        if machine is None:
            open_sizes.remove(size)
            continue
        _, name = heappop(ready[size])
        heappush(running, (now + pieces[name].hours, name, machine))
        open_sizes -= set() if ready[size] else {size}
