"""Memory: how much this process may still take, and whether what it frees stays with it.

memory.free()                                # bytes, of the machine and of the control groups that limit this process
memory.keep_freed()                          # before training

Imports no torch.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Of glibc's malloc.h, and the sizes in bytes. Older versions refuse BLOCK and take OLD_BLOCK at most.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
BLOCK, OLD_BLOCK, UNUSED = 1 << 30, 1 << 25, (1 << 31) - 1
ALLOCATOR = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")  # a user's
CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


def free() -> int:
    """Return the bytes that can be had without swapping, caches of files that can be dropped included.

    Where the system does not say, that is all memory of the machine.
    """
    return max(0, min([_of_machine(), *_of_groups()]))


def keep_freed() -> None:
    """Let glibc's allocator keep what is freed, in blocks up to BLOCK bytes, for what is allocated next.

    By default it gives the memory of a large tensor back to the system, which fills it with zeros, page by page, when
    the next tensor takes it: 5 to 20 % of a training step's CPU time (benchmarks/freed.py). The most memory that
    is ever needed stays the same; of what is unused, at most UNUSED bytes are kept. It does nothing where the user has
    set how memory is allocated, and with another C library.
    """
    if any(os.environ.get(name) for name in ALLOCATOR) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with suppress(AttributeError, OSError):
        setting = ctypes.CDLL(None).mallopt
        if setting(MMAP_THRESHOLD, BLOCK) or setting(MMAP_THRESHOLD, OLD_BLOCK):
            setting(TRIM_THRESHOLD, UNUSED)  # alone it would fix the other one at 128 kB


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
