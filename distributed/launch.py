"""Several processes of main.py, one for each GPU: which of them this one is, and how to start them.

    torchrun --nproc_per_node=4 main.py ...       # starts them, on one machine or with --nnodes on several
    python main.py ... --GPU 0,1,2,3              # starts them by itself, by start_on_each
    sys.exit(start_on_each([0, 1, 2, 3]))

The environment tells each process its RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, and by MASTER_ADDR and MASTER_PORT where
they meet, as torchrun does. Imports no torch.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from system import signals, threads
from system.errors import Elsewhere, MachineFault, RequestError, SwapconvError
from system.processes import end_with_parent

ADVICE = "start the processes with torchrun, or unset the variable to train in one process"
NEEDED = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # by each of several processes
LAST = 60  # seconds in which the others end after one has; the heartbeat ends them earlier


def rank() -> int:
    """Return which of the processes this one is, from 0."""
    return _variable("RANK", 0)


def world_size() -> int:
    """Return how many processes train together."""
    return _variable("WORLD_SIZE", 1)


def local_rank() -> int:
    """Return which of the processes on this machine this one is, from 0."""
    return _variable("LOCAL_RANK", 0)


def local_world_size() -> int:
    """Return how many of those are on this machine."""
    return _variable("LOCAL_WORLD_SIZE", 1)


def _variable(name: str, alone: int) -> int:
    """Return a whole number of the environment; where it is not set or empty, `alone`: that of a process that trains alone."""
    text = os.environ.get(name, "").strip()
    if not text:
        return alone
    if not re.fullmatch("[0-9]{1,9}", text):
        raise RequestError(f"the environment has {name}={text!r}, which is not a whole number: {ADVICE}")
    return int(text)


def check() -> None:
    """Raise RequestError where the variables that tell processes apart contradict each other, or some are missing."""
    needed = NEEDED if world_size() > 1 else ()
    numbers = (
        ("WORLD_SIZE", world_size(), 1, 10**6),
        ("RANK", rank(), 0, world_size() - 1),
        ("LOCAL_WORLD_SIZE", local_world_size(), 1, world_size()),
        ("LOCAL_RANK", local_rank(), 0, local_world_size() - 1),
        ("MASTER_PORT", _variable("MASTER_PORT", 0), 1 if needed else 0, 2**16 - 1),
    )
    if missing := [name for name in needed if not os.environ.get(name, "").strip()]:
        raise RequestError(f"the environment has WORLD_SIZE={world_size()}, but no {', '.join(missing)}: {ADVICE}")
    for name, number, least, most in numbers:
        if not least <= number <= most:
            raise RequestError(f"the environment has {name}={number}, {least} to {most} is allowed here: {ADVICE}")


@contextmanager
def printed_once(on_each_machine: bool = False) -> Iterator[None]:
    """Let rank 0 alone print an error that all ranks find alike; `on_each_machine`: rank 0 of each machine."""
    try:
        yield
    except SwapconvError as error:
        raise error if (local_rank() if on_each_machine else rank()) == 0 else Elsewhere(error.exit_status)


def start_on_each(gpus: Sequence[int]) -> int:
    """Run this very command once for each GPU. Return the exit status of the first that ended badly, 0 if none did.

    A signal to this process is passed on. A terminal's Ctrl-C reaches the others only through it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = max(1, threads.cpus() // len(gpus))
    common = {
        **os.environ,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(own),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    common |= {key: str(len(gpus)) for key in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    started: list[subprocess.Popen] = []
    signals.on_signal(lambda number, frame: [each.send_signal(number) for each in started])
    try:
        for number in range(len(gpus)):
            environment = common | {"RANK": str(number), "LOCAL_RANK": str(number)}
            command = [sys.executable, *sys.argv]
            prepare = end_with_parent()
            started.append(subprocess.Popen(command, env=environment, process_group=0, preexec_fn=prepare))
    except OSError as error:
        for each in started:
            each.kill()
        raise MachineFault(f"the process for GPU {gpus[len(started)]} cannot be started: {error}")
    return _status(started)


def _status(started: list[subprocess.Popen]) -> int:
    """Wait until all have ended, and kill those that do not after another one has failed."""
    deadline = None
    while any(each.poll() is None for each in started):
        if deadline is None and any(each.returncode for each in started):
            deadline = time.monotonic() + LAST
        if deadline is not None and time.monotonic() > deadline:
            for each in started:
                each.kill()
        time.sleep(0.05)
    bad = [each.returncode for each in started if each.returncode]
    stopped = [signals.exit_status(-status) for status in bad if -status in signals.NAMES]
    return next((status for status in bad if status > 0), *stopped[:1] or [MachineFault.exit_status]) if bad else 0
