"""Memory: what a process frees stays with it, unless the user has decided otherwise."""

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from small_runs import ROOT

from system import memory

PROBE = """
import ctypes, resource
from system import memory
memory.keep_freed()
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    blocks = [library.malloc(2**24) for _ in range(4)]
    for block in blocks:
        library.memset(block, 1, 2**24)
    for block in blocks:
        library.free(block)
use()
before = pages()
use()
print(pages() - before)
"""


@pytest.mark.skipif(not os.confstr("CS_GNU_LIBC_VERSION"), reason="another C library")
@pytest.mark.parametrize("name", ["", *memory.ALLOCATOR])
def test_what_is_freed_is_taken_again(name):
    """Four blocks of 16 MB come and go: the second time no page comes from the system, but where the user has decided."""
    own = {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072", "MALLOC_MMAP_THRESHOLD_": "1048576"}
    environment = {each: value for each, value in os.environ.items() if each not in memory.ALLOCATOR}
    environment |= {name: own.get(name, "131072")} if name else {}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert (int(done.stdout) < 200) == (not name)


@pytest.mark.skipif(not os.confstr("CS_GNU_LIBC_VERSION"), reason="another C library")
@pytest.mark.parametrize(("most", "count"), [(2**30, 3), (2**25, 4), (0, 2)])
def test_libraries_that_take_no_large_threshold(monkeypatch, most, count):
    """Older ones take 32 MiB; where none is taken nothing else is set, since that would end the library's own adaptation."""
    asked = []

    def mallopt(parameter, value):
        asked.append(parameter)
        return int(parameter != memory.MMAP_THRESHOLD or value <= most)

    for name in memory.ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    memory.keep_freed()
    assert len(asked) == count and (memory.TRIM_THRESHOLD in asked) == bool(most)
