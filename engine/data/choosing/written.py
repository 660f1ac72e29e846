"""Which files of a dataset were written after a time: samples of the same names and labels may be others by then."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

from engine.data.samples import Listed, Loaded, Measured, Paired, Part

_MOST = 20_000
"""Files of a part whose time is asked for: each costs an answer of the disk, and a network's takes its time."""


def written_since(loaded: Loaded, when: float) -> str:
    """What to say of a person's files that were written after `when`, in seconds since 1970; empty if there are none.

    Of very many files some from all over the dataset are looked at.
    """
    if not loaded.source.path:
        return ""
    found: dict[str, None] = {}
    for name in _files(loaded):
        with contextlib.suppress(OSError, ValueError):  # a place that is no file: a line of a table, a row of an array
            if os.stat(os.path.join(loaded.source.path, name)).st_mtime > when:
                found[name] = None
    if not found:
        return ""
    first = next(iter(found))
    some = "1 file was" if len(found) == 1 else f"{len(found):,} files were"
    named = f": {first}" if len(found) == 1 else f", such as {first}"
    return f"{some} written since this run was split{named}. It goes on with what is there now"


def _files(loaded: Loaded) -> Iterator[str]:
    """Seen from the dataset's own folder."""
    path = Path(loaded.source.path)
    if not path.is_dir():
        yield str(path.absolute())
        return
    with contextlib.suppress(OSError):  # tables and arrays
        yield from (entry.name for entry in path.iterdir() if entry.is_file())
    for part in loaded.parts.values():
        yield from _places(part)


def _places(part: Part) -> Iterator[str]:
    if isinstance(part, (Listed, Measured)):
        step = math.ceil(len(part) / _MOST) or 1
        for number in range(0, len(part), step):
            yield part.places[number]
            if isinstance(part, Paired):
                yield part.partners[number]
