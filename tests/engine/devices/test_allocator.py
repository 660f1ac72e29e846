"""Freed memory stays for the next step while a training runs, and goes back to the system when it is over."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.devices import allocator

PAGES = 48 * 256
SCRIPT = """
import ctypes, json, resource, threading
from contextlib import nullcontext
from engine.devices.allocator import give_back, memory_kept, one_arena

def faults():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1])

def steps(inside):
    with inside:
        for count in range(6):
            if count == 1:  # the first has to fetch its memory in any case
                before = faults()
            blocks = [bytearray(16 << 20) for _ in range(3)]
            del blocks
        return (faults() - before) / 5

def train():
    start = resident()
    found["usual"] = steps(nullcontext())
    found["kept"] = steps(memory_kept())
    found["held"] = resident() - start
    with memory_kept():
        block = libc.malloc(3 << 30)  # nothing of it is touched
        top = libc.sbrk(0)
        libc.free(block)
        found["shrunk"] = top - libc.sbrk(0)
    give_back()
    found["after"] = resident() - start
    found["again"] = steps(nullcontext())

libc, found = ctypes.CDLL(None), {}
libc.malloc.argtypes, libc.free.argtypes, libc.sbrk.argtypes = [ctypes.c_size_t], [ctypes.c_void_p], [ctypes.c_ssize_t]
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
one_arena()
thread = threading.Thread(target=train)
thread.start()
thread.join()
print(json.dumps(found))
"""


@pytest.mark.skipif(allocator._glibc() is None, reason="the allocator is not glibc's")
def test_freed_memory_is_fetched_once_while_it_is_kept_and_given_back_afterwards() -> None:
    root = Path(__file__).parents[3]
    said = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=root)
    found = json.loads(said.stdout)
    assert found["usual"] > PAGES / 2
    assert found["kept"] < PAGES / 50
    assert found["held"] > PAGES / 2 > 10 * found["after"]
    assert found["shrunk"] == 0
    assert found["again"] > PAGES / 2


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        pass

    allocator._glibc.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Musl())
    try:
        with allocator.memory_kept():
            assert allocator._glibc() is None
        allocator.give_back()
    finally:
        allocator._glibc.cache_clear()
