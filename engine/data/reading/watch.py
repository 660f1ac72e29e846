"""What was looked into while a dataset was read: the times of these tell later whether anything has changed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar

_MOST = 20_000
"""Times that are asked for at most, at every edit: 0.05 s of a core where the system knows them."""
_SLOW_S, _REST = 0.1, 10  # after a look as slow as over a network the next has time, so many times as long as it took


class Seen:
    """Folders that were listed and files that were read whole, with the time of change of each."""

    def __init__(self) -> None:
        self.times: dict[str | bytes, int] = {}
        self._rests_until = 0.0

    def unchanged(self) -> bool:
        """Whether all of them have the times that they had, by a look just now or a moment ago."""
        began = time.monotonic()
        if began < self._rests_until:
            return True
        try:
            same = all(os.stat(path).st_mtime_ns == changed for path, changed in self.times.items())
        except OSError:
            same = False
        now = time.monotonic()
        if now - began > _SLOW_S:
            self._rests_until = now + _REST * (now - began)
        return same


_seen: ContextVar[Seen | None] = ContextVar("seen", default=None)


@contextlib.contextmanager
def watching() -> Iterator[Seen]:
    """Within it, this thread's `looked_into` is noted."""
    seen = Seen()
    before = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(before)


def looked_into(path: str | bytes, changed: int | None = None) -> None:
    """A folder was listed, or a file read whole; `changed` is its time in ns, if that is known already."""
    seen = _seen.get()
    if seen is not None and len(seen.times) < _MOST:
        with contextlib.suppress(OSError):
            seen.times[path] = os.stat(path).st_mtime_ns if changed is None else changed
