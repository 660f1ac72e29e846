"""Large numbers as a person reads them, and shares as bars."""

from __future__ import annotations

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bytes_text(count: float) -> str:
    """`438 kB`, in units of a thousand."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size * 0.9995:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def count_text(count: float) -> str:
    """`3.6 M`: a number of operations, with a unit to be written behind it."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size * 0.9995:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} "


def bar(share: float, width: int) -> str:
    """`share` of 1 as a bar of `width` columns, in eighths."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    eighths = max(eighths, 1) if share > 0 else 0
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(width)
