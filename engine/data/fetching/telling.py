"""How far the reading of a dataset is, in words."""

from __future__ import annotations

from engine.printable import printable_line


def untold(what: str, done: int, total: int) -> None:
    """Nobody wants to know how far it is."""


class Bytes(int):
    """A number of bytes among those that Progress is told; a plain number counts samples, files or rows."""


class Fetched(Bytes):
    """Bytes that came over the network, of a download: others are read from a file, or written to one."""


def reading_text(what: str, done: int, total: int) -> str:
    """`train-images: 3.2 of 11.6 MB` of Bytes, else `photos: 3 of 20`; while it waits or can't say, `photos`."""
    what = printable_line(what)  # it has names of files in it
    if isinstance(done, Bytes) or isinstance(total, Bytes):
        return f"{what}: {done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"{what}: {done / 1e6:.1f} MB"
    if not done and not total:
        return what
    return f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,}"
