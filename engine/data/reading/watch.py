"""What was looked into while a dataset was read: the times of these tell later whether anything has changed."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

_MOST = 20_000
"""Times that are asked for at most, at every edit: 0.05 s of a core where the system knows them."""
_seen: ContextVar[dict[str | bytes, int] | None] = ContextVar("seen", default=None)


@contextlib.contextmanager
def watching() -> Iterator[Mapping[str | bytes, int]]:
    """Within it, this thread's `looked_into` is noted: the time of change of each folder or file."""
    seen: dict[str | bytes, int] = {}
    before = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(before)


def looked_into(path: str | bytes, changed: int | None = None) -> None:
    """A folder was listed, or a file read whole; `changed` is its time in ns, if that is known already."""
    seen = _seen.get()
    if seen is not None and len(seen) < _MOST:
        with contextlib.suppress(OSError):
            seen[path] = os.stat(path).st_mtime_ns if changed is None else changed


def unchanged(seen: Mapping[str | bytes, int]) -> bool:
    """Whether all of them have the times that they had."""
    try:
        return all(os.stat(path).st_mtime_ns == changed for path, changed in itertools.islice(seen.items(), _MOST))
    except OSError:
        return False
