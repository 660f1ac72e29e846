"""What stands in a border."""

from __future__ import annotations

from engine.printable import printable_line


def plain(text: str) -> str:
    """A title that may quote a name of a file or a class: nothing in brackets is taken for a style."""
    return printable_line(text).replace("[", r"\[")
