"""One thread at a time, where what the others wait for may take long: they can be called off while they wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.data.samples import Progress  # which loads torch

_LOOKS_AGAIN_S = 0.1


@contextmanager
def turn(lock: Lock, what: str, progress: Progress) -> Iterator[None]:
    """Hold `lock`. Until it is free, `progress` is told that nothing of `what` is done; it may raise to cancel."""
    while not lock.acquire(timeout=_LOOKS_AGAIN_S):
        progress(what, 0, 0)
    try:
        yield
    finally:
        lock.release()
