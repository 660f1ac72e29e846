"""The intra-op threads that torch keeps for every thread that has computed something, and how to let go of them.

GCC's OpenMP counts them all, idle ones too: where they are more than the cores, no thread spins while it waits, and a
training on two of two cores takes 1.2 times as long (W2 of benchmarks/).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SOFT = 1  # omp_pause_soft: the next parallel operation makes them anew, in 0.1 ms


class Threads(ThreadPoolExecutor):
    """Threads that let go of their intra-op threads after each piece of work."""

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        def done() -> T:
            try:
                return work(*args, **kwargs)
            finally:
                let_go()

        return super().submit(done)


def let_go() -> None:
    """End the intra-op threads of the thread that calls this; nothing happens where OpenMP is not GCC's."""
    if library := _library.found():
        library.omp_pause_resource_all(_SOFT)


class _Library:
    """GCC's OpenMP, as soon as torch has loaded it."""

    def __init__(self) -> None:
        self._it: Any = None

    def found(self) -> Any:
        if self._it is None and sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):  # not there, or older than OpenMP 5
                it = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
                it.omp_pause_resource_all.argtypes = (ctypes.c_int,)
                self._it = it
        return self._it


_library = _Library()
