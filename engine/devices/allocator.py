"""Memory that one training step frees is there for the next: else glibc gives much of it back to the system in between.

The kernel clears every page that it hands out. Measured on two cores, steps with and without that in turn: 2,000 pages
are 12 to 19 % of a small CNN's step (W2 of benchmarks/), 5,000 to 9,000 up to 12 % of resnet18's on 32 pixels, 52,000
are 7 % of its step on 224.
https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
_NEVER = -1
_USUALLY = {_TRIM_THRESHOLD: 16 << 20, _MMAP_THRESHOLD: 8 << 20, _MMAP_MAX: 65536}
_KEPT = {_TRIM_THRESHOLD: _NEVER, _MMAP_MAX: 0}

_lock = threading.Lock()
_keeping = 0


@cache
def one_arena() -> None:
    """Let all threads share one arena: those of other threads end at 64 MB and give back whatever is empty.

    Of use before there are other threads. Does nothing where the allocator is not glibc's.
    """
    _set({_ARENA_MAX: 1})


@contextmanager
def memory_kept() -> Iterator[None]:
    """What is freed inside stays with the process, until somebody calls `give_back`. Does nothing without glibc."""
    global _keeping
    with _lock:
        _keeping += 1
        _set(_KEPT)
    try:
        yield
    finally:
        with _lock:
            _keeping -= 1
            if not _keeping:
                _set(_USUALLY)


def give_back() -> None:
    """Return to the system whatever is free."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _set(options: dict[int, int]) -> None:
    if libc := _glibc():
        for option, value in options.items():
            libc.mallopt(option, value)


@cache
def _glibc() -> Any:
    """The C library of this process; None where it is not glibc."""
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version, libc.mallopt, libc.malloc_trim  # noqa: B018
    except (AttributeError, OSError, TypeError):  # TypeError: Windows
        return None
    return libc
