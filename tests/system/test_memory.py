"""What is freed stays with the process, unless the user has set how memory is allocated."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from system import memory

TAKE_AND_FREE = """if True:
    import resource, sys
    from system import memory

    memory.keep_freed()
    for size in (20, 24, 20, 24):  # MB; larger than what glibc keeps by itself at first
        b"x" * (size << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size in (20, 24) * 4:
        b"x" * (size << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(memory.ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
@pytest.mark.parametrize(
    "variables", [{}, {"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
def test_freed_memory_is_not_given_back_and_taken_again(variables):
    clean = {name: value for name, value in os.environ.items() if name not in (*memory.ALLOCATOR, "GLIBC_TUNABLES")}
    command, root = [sys.executable, "-c", TAKE_AND_FREE], Path(memory.__file__).parents[1]
    faults = int(subprocess.check_output(command, cwd=root, env={**clean, **variables}))
    assert faults > 10_000 if variables else faults < 1_000


@pytest.mark.parametrize(("most", "calls"), [(2**30, 2), (2**25, 3), (0, 2)])
def test_libraries_that_take_no_large_blocks(monkeypatch, most, calls):
    """Older ones take 32 MB; where none is taken nothing else is set, since that would end the library's own adaptation."""
    asked = []

    def mallopt(parameter, value):
        asked.append(parameter)
        return int(parameter != memory.MMAP_THRESHOLD or value <= most)

    for name in (*memory.ALLOCATOR, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    memory.keep_freed()
    assert len(asked) == calls and (memory.TRIM_THRESHOLD in asked) == bool(most)
