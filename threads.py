"""How many threads torch computes with, and how they wait for each other.

    threads.configure()          # before torch is imported
    threads.cpus()               # that this process may use

torch's threads meet after every operation, and OpenMP lets those that arrive first spin. On a machine that others use too, one of
them may have no CPU just then: the others burn theirs until its turn comes, many times in a step. So here they soon sleep instead
(benchmarks/busy.py measures what that gains and costs). What the user has set stays. Imports no torch.
"""

import os
from collections.abc import Iterator
from pathlib import Path

# One of these is set: the user has decided how threads wait.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# How often a thread looks whether the others have come before it sleeps: long enough for a machine of its own, where they come
# within microseconds, short enough for one that is shared (research-log.md, 2026-11-25).
CHOSEN = ("GOMP_SPINCOUNT", "1000")
CGROUPS = Path("/sys/fs/cgroup")


def configure() -> None:
    """Set in the environment what OpenMP reads when torch is loaded; processes that this one starts inherit it."""
    for name in (*WAITING, "OMP_NUM_THREADS"):
        if not os.environ.get(name, "").strip():  # empty counts as not set, which OpenMP would complain of
            os.environ.pop(name, None)
    if not any(os.environ.get(name) for name in WAITING):
        os.environ[CHOSEN[0]] = CHOSEN[1]
    allowed = len(os.sched_getaffinity(0))
    if not os.environ.get("OMP_NUM_THREADS") and (share := cpus()) < allowed:
        os.environ["OMP_NUM_THREADS"] = str(share)


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
