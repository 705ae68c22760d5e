"""How many threads torch computes with, and how they wait for each other.

    threads.configure()                                  # before torch is imported
    threads.sleep_when_busy(torch.get_num_threads())     # after that
    threads.cpus()                                       # that this process may use

Torch's threads wait for each other after every operation, and OpenMP lets those that are early spin: that is fastest on
a machine of its own. On a machine that others use too, a thread may have no CPU just then, and the others waste theirs
until its turn comes, many times in a step. So a thread measures twice a second how long the process's first thread
waited for a CPU; while that is long, OpenMP's threads sleep instead (benchmarks/busy.py measures what that gains and
costs). No result changes, and whatever the user has set stays. Imports no torch.
"""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Where one of these is set, the user has decided how threads wait.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
INTERVAL = 0.5  # seconds between two measurements of how long this process waited for a CPU
# Time for which the first thread waited for a CPU, as a share of that in which it ran or waited: at most 0.014 on an
# idle machine, 0.3 and more beside one busy process on two CPUs, whether threads spin or sleep (research-log.md,
# 2026-11-26).
BUSY, FREE = 0.10, 0.05
LEAST = 0.1 * INTERVAL  # seconds of running and waiting that a share needs: a thread that is idle says nothing
LARGEST = 64  # threads that are added at most; where more are needed, none is
CGROUPS = Path("/sys/fs/cgroup")
CLOCK = Path("/proc/self/schedstat")
MAPS = Path("/proc/self/maps")


def configure() -> None:
    """Set in the environment what OpenMP reads when torch is loaded; processes that this one starts inherit it."""
    for name in (*WAITING, "OMP_NUM_THREADS"):
        if not os.environ.get(name, "").strip():  # empty counts as not set; OpenMP would print a complaint
            os.environ.pop(name, None)
    allowed = len(os.sched_getaffinity(0))
    if not os.environ.get("OMP_NUM_THREADS") and (share := cpus()) < allowed:
        os.environ["OMP_NUM_THREADS"] = str(share)


def sleep_when_busy(computing: int) -> None:
    """Let OpenMP's threads sleep while they wait for each other, as long as other processes want the CPUs.

    Args: computing: the threads that torch computes with from now on.

    It does nothing where that is one, where the user has set how threads wait, where torch uses another OpenMP than
    GCC's, where more than LARGEST threads would have to be added (this process computes with far fewer than the machine
    has CPUs), and where the system keeps no times or gives no threads.
    """
    library = _openmp()
    if computing == 1 or library is None or any(os.environ.get(name) for name in WAITING):
        return
    missing = library.omp_get_num_procs() - computing + 1
    if 1 <= missing <= LARGEST:
        with suppress(RuntimeError):  # no thread can be started
            threading.Thread(target=_watch, args=(IdleThreads(library, missing),), name="watch", daemon=True).start()


class IdleThreads:
    """Threads that do nothing, whose number makes OpenMP's other threads sleep while they wait.

    GCC's OpenMP spins about 100 times instead of 300,000 while it has more threads than there are CPUs (libgomp's
    `gomp_throttled_spin_count_var`), and compares the two whenever a thread waits. So `missing` sleeping threads are
    added.
    """

    def __init__(self, library: ctypes.CDLL, missing: int):
        self.library, self.missing = library, missing
        self.over: threading.Event | None = None

    def switch(self, on: bool) -> None:
        """Start the threads, or end them.

        Raises RuntimeError where the system gives no more threads. OpenMP would end the process then, so ordinary ones
        are tried first.
        """
        if on and self.over is None:
            self._check_threads()
            over = threading.Event()
            threading.Thread(target=self._hold, args=(over,), name="idle threads", daemon=True).start()
            self.over = over
        elif not on and self.over is not None:
            self.over.set()
            self.over = None

    def _check_threads(self) -> None:
        """Start and end as many ordinary threads at once as OpenMP will start, and some more."""
        over, threads = threading.Event(), []
        try:
            for _ in range(2 * self.missing + 4):
                threads.append(threading.Thread(target=over.wait, daemon=True))
                threads[-1].start()
        finally:
            over.set()
        for thread in threads:
            thread.join()

    def _hold(self, over: threading.Event) -> None:
        """Keep OpenMP's threads: those of a region that this thread opens live as long as this thread."""
        nothing = ctypes.cast(self.library.omp_get_thread_num, ctypes.c_void_p)
        self.library.GOMP_parallel(nothing, None, self.missing + 1, 0)
        over.wait()


def _watch(idle: IdleThreads) -> None:
    """Switch idle threads on and off until the process ends.

    This thread and those that it starts take no signals: those are for the first thread.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with suppress(OSError, ValueError, RuntimeError):  # the system has no such times, or no more threads
        clock = os.open(CLOCK, os.O_RDONLY)
        before = _times(clock)
        while True:
            time.sleep(INTERVAL)
            now = _times(clock)
            ran, waited = (new - old for new, old in zip(now, before))
            before = now
            if ran + waited < LEAST:
                continue
            share = waited / (ran + waited)
            if share > BUSY or share < FREE:
                idle.switch(share > BUSY)


def _times(clock: int) -> tuple[float, float]:
    """Return how long this process's first thread has run and has waited for a CPU, in seconds."""
    ran, waited, _ = os.pread(clock, 100, 0).split()
    return int(ran) / 1e9, int(waited) / 1e9


def _openmp() -> ctypes.CDLL | None:
    """Return the OpenMP that torch uses; None where torch is not loaded or uses another one than GCC's."""
    try:
        lines = MAPS.read_text(errors="surrogateescape").splitlines()
        loaded = {Path(line.split(maxsplit=5)[5]) for line in lines if line.count("/")}
        if any(path.name.startswith(("libiomp", "libomp")) for path in loaded):
            return None
        (torch,) = (path for path in loaded if path.name == "libtorch_cpu.so")
        library = ctypes.CDLL(str(torch))  # symbols are looked up in the libraries that it needs, too
        return library if hasattr(library, "GOMP_parallel") and hasattr(library, "omp_get_thread_num") else None
    except (OSError, ValueError, IndexError):
        return None


def cpus() -> int:
    """Return the number of CPUs that this process may use, at least 1.

    These are the CPUs that it is allowed to run on, or its control group's share of time where that is less, rounded
    down.
    """
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(int(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """Yield the CPU time, in CPUs, that each control group of this process allows: its own and those above it.

    In version 2 cpu.max holds `QUOTA PERIOD` in microseconds, or `max PERIOD`; version 1 has a file for each.
    """
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
    """Yield the control groups that limit this process's CPU time. In a container the root may be its own group."""
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
