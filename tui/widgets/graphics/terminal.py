"""Whether the terminal has Kitty's graphics or Sixel, and how large its cells are.

Inside a running application a terminal can't be asked: its answer would come among the keys. So the environment says
which one it is, and the terminal's driver how large a cell is; where one of both is not known there are half blocks.
TORCH_TUI_GRAPHICS is kitty or sixel to insist on one, off for half blocks.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import termios
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from textual.app import App

Graphics = Literal["kitty", "sixel", ""]
VARIABLE = "TORCH_TUI_GRAPHICS"

# What ssh passes on (TERM, and LC_TERMINAL of iTerm2) comes first. tmux and screen let through what they please.
_TERMS: Mapping[str, Graphics] = {
    "xterm-kitty": "kitty",
    "xterm-ghostty": "kitty",
    "foot": "sixel",
    "foot-extra": "sixel",
}
_PROGRAMS: Mapping[str, Graphics] = {"ghostty": "kitty", "WezTerm": "sixel", "iTerm.app": "sixel", "iTerm2": "sixel"}


def graphics(app: App[Any]) -> Graphics:
    """What the terminal can; nothing in tests, where there is no terminal, without colour, and under tmux or screen."""
    if app.is_headless or app.no_color or cell_size() is None:
        return ""
    kind = known(os.environ)
    # Kitty finds a picture by the colour of its cells, which must not be rounded to one of 256.
    return "" if kind == "kitty" and app.console.color_system != "truecolor" else kind


def known(environment: Mapping[str, str]) -> Graphics:
    """What the terminal that the environment speaks of can."""
    wanted = environment.get(VARIABLE, "").lower()
    if wanted in ("kitty", "sixel"):
        return "kitty" if wanted == "kitty" else "sixel"
    term = environment.get("TERM", "")
    if wanted or "TMUX" in environment or term.startswith(("screen", "tmux")):
        return ""
    programs = (environment.get("TERM_PROGRAM", ""), environment.get("LC_TERMINAL", ""))
    if term in _TERMS:
        return _TERMS[term]
    return next((_PROGRAMS[name] for name in programs if name in _PROGRAMS), "")


def cell_size() -> tuple[int, int] | None:
    """Pixels across and down a cell as the terminal's driver knows them; None where it does not."""
    stream = sys.__stdout__
    if stream is None or not stream.isatty():
        return None
    try:
        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(stream, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return None
    return (width // columns, height // rows) if rows and columns and width >= columns and height >= rows else None
