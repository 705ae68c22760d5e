"""How much memory this process may still take, of the machine and of the control groups that limit it; and keeping what it has.

memory.free()                                # bytes
memory.keep_freed()                          # once, before tensors come and go

Imports no torch.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")
# Parameters of mallopt(3), and what they are set to here: blocks of any size come from the heap, and its end stays.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
# Bytes of such a block at the most: older versions of the library take no more than the second.
HEAP = (2**30, 2**25)
KEEPING = {TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**26}
# With one of these in the environment the user has decided.
ALLOCATOR = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


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


def keep_freed() -> None:
    """Let the C library keep what this process frees, for its next tensors, instead of giving it back to the system.

    A training step frees as many megabytes of features as the next one takes. Each page that comes back from the system is
    cleared and mapped anew, which took a quarter of a step of separable layers on a CPU (benchmarks/freed.py). The process
    keeps the most that it ever had. It does nothing where the user has set how memory is given back, and with other C
    libraries than GNU's.
    """
    if any(os.environ.get(name) for name in ALLOCATOR):
        return
    with suppress(OSError, ValueError, AttributeError):  # not on Linux, or another library
        if os.confstr("CS_GNU_LIBC_VERSION"):
            library = ctypes.CDLL(None)
            if not any(library.mallopt(MMAP_THRESHOLD, most) for most in HEAP):
                return  # any other setting would fix the threshold at 128 kB
            for parameter, value in KEEPING.items():
                library.mallopt(parameter, value)
