"""How much memory this process may still take: that of the machine, and of the control groups that limit it.

memory.free()                                # bytes

Imports no torch.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


def free() -> int:
    """Return the bytes that can be had without swapping, caches of files that can be dropped included.

    Where the system does not say, that is all memory of the machine.
    """
    return max(0, min([_of_machine(), *_of_groups()]))


def _of_machine() -> int:
    with suppress(OSError, KeyError, ValueError, IndexError):
        lines = (PROC / "meminfo").read_text().splitlines()
        return int(dict(line.split(":") for line in lines)["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_groups() -> Iterator[int]:
    """Yield what each control group (version 2) of this process leaves: its own and those above it."""
    own = CGROUPS
    with suppress(OSError):
        for line in (PROC / "self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                own = CGROUPS / line.removeprefix("0::").lstrip("/")
    for folder in (own, *own.parents):
        with suppress(OSError, KeyError, ValueError):  # no such file here, or "max": this group sets no limit
            limit, used = (int((folder / f"memory.{of}").read_text()) for of in ("max", "current"))
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            yield limit - used + int(statistics["inactive_file"])
        if folder == CGROUPS:
            break
