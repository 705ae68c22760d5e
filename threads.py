"""How many threads torch computes with, and how they wait for each other.

    threads.configure()                                  # before torch is imported
    threads.sleep_when_busy(torch.get_num_threads())     # once it is
    threads.cpus()                                       # that this process may use

torch's threads meet after every operation, and OpenMP lets those that arrive first spin: on a machine of its own that is the
fastest way. On a machine that others use too, one of them may have no CPU just then, and the others burn theirs until its
turn comes, many times in a step. So a thread looks twice a second how long this process waited for a CPU; while that is long,
OpenMP's threads sleep instead (benchmarks/busy.py measures what that gains and costs). Which of both is used changes no
result. What the user has set stays. Imports no torch.
"""

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

# One of these is set: the user has decided how threads wait.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
LOOK = 0.5  # seconds between two looks at how long this process waited for a CPU
# Of the time in which its first thread ran or could have run, the part in which it waited: about 0.01 on an idle machine, 0.3
# and more beside one busy process on two CPUs, whichever way threads wait for each other (research-log.md, 2026-11-25).
BUSY, FREE = 0.10, 0.05
CGROUPS = Path("/sys/fs/cgroup")
CLOCK = Path("/proc/self/schedstat")


def configure() -> None:
    """Set in the environment what OpenMP reads when torch is loaded; processes that this one starts inherit it."""
    for name in (*WAITING, "OMP_NUM_THREADS"):
        if not os.environ.get(name, "").strip():  # empty counts as not set, which OpenMP would complain of
            os.environ.pop(name, None)
    allowed = len(os.sched_getaffinity(0))
    if not os.environ.get("OMP_NUM_THREADS") and (share := cpus()) < allowed:
        os.environ["OMP_NUM_THREADS"] = str(share)


def sleep_when_busy(computing: int) -> None:
    """Let OpenMP's threads sleep while they wait for each other, as long as other processes want the CPUs.

    Args: computing: the threads that torch computes with. Does nothing where that is one, where the user has set how threads
    wait, and where torch was built with another OpenMP than GCC's.
    """
    library = _openmp()
    if computing > 1 and library is not None and not any(os.environ.get(name) for name in WAITING):
        threading.Thread(target=_watch, args=(Crowd(library, computing),), name="watch", daemon=True).start()


class Crowd:
    """Threads that do nothing. GCC's OpenMP spins about 100 times instead of 300,000 while it has more threads than there are
    CPUs (libgomp, `gomp_throttled_spin_count_var`), and takes notice of them at once: so a few that sleep are added."""

    def __init__(self, library: ctypes.CDLL, computing: int):
        self.library, self.missing = library, max(1, library.omp_get_num_procs() - computing + 1)
        self.leave: threading.Event | None = None

    def turn(self, on: bool) -> None:
        if on and self.leave is None:
            self.leave = threading.Event()
            threading.Thread(target=self._stay, args=(self.leave,), name="crowd", daemon=True).start()
        elif not on and self.leave is not None:
            self.leave.set()
            self.leave = None

    def _stay(self, leave: threading.Event) -> None:
        """OpenMP keeps the threads of a region that this thread opens until this thread ends."""
        nothing = ctypes.cast(self.library.omp_get_thread_num, ctypes.c_void_p)
        self.library.GOMP_parallel(nothing, None, self.missing + 1, 0)
        leave.wait()


def _watch(crowd: Crowd) -> None:
    try:
        clock = os.open(CLOCK, os.O_RDONLY)
    except OSError:
        return  # a kernel that keeps no such times
    before = _times(clock)
    while True:
        time.sleep(LOOK)
        now = _times(clock)
        ran, waited = (new - old for new, old in zip(now, before))
        part = waited / (ran + waited) if ran + waited else 0.0
        if part > BUSY or part < FREE:
            crowd.turn(part > BUSY)
        before = now


def _times(clock: int) -> tuple[int, int]:
    """The time that this process's first thread has run and waited for a CPU, in nanoseconds."""
    ran, waited, _ = os.pread(clock, 100, 0).split()
    return int(ran), int(waited)


def _openmp() -> ctypes.CDLL | None:
    """GCC's OpenMP, where this process has loaded it."""
    try:
        loaded = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[-1] for line in loaded if "libgomp" in line}
    return ctypes.CDLL(min(paths)) if paths else None


def cpus() -> int:
    """The CPUs that this process may use, at least 1: those that it is allowed to run on, or its control group's share of
    time where that is less, rounded down."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(int(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """CPUs' worth of time that each control group of this process allows it: its own group and those above, in either version
    of control groups (cpu.max holds `QUOTA PERIOD` in microseconds, or `max PERIOD`)."""
    for kind, path in _groups():
        for folder in (path, *path.parents):
            try:
                if kind == "v2":
                    quota, period = (folder / "cpu.max").read_text().split()
                else:
                    quota, period = ((folder / f"cpu.cfs_{of}_us").read_text() for of in ("quota", "period"))
                if quota != "max" and int(quota) > 0:  # −1 stands for no limit
                    yield int(quota) / int(period)
            except (OSError, ValueError, ZeroDivisionError):
                pass  # no such file here: this group sets no limit
            if folder == CGROUPS:
                break


def _groups() -> Iterator[tuple[str, Path]]:
    """The control groups that limit this process's CPU time. Within a container the root may be its own group."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield "v2", CGROUPS / path.lstrip("/")
        elif "cpu" in controllers.split(","):
            for mount in (controllers, "cpu"):
                yield "v1", CGROUPS / mount / path.lstrip("/")
                yield "v1", CGROUPS / mount
