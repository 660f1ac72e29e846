"""Pictures in real pixels, in terminals that have Kitty's graphics or Sixel, by the library textual-image.

The library asks the terminal what it can when it is imported, and reads the answer from the keyboard: inside a running
application it would take keys away and wait in vain. So nothing is asked: the environment says which terminal it is,
the terminal's driver how large a cell is, and the library is imported with its questions answered. Where one of both is
not known there are half blocks. TORCH_TUI_GRAPHICS is kitty or sixel to insist on one, off for half blocks.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import struct
import sys
import termios
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from textual.app import App
    from textual.geometry import Size
    from textual.widget import Widget

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
    return known(os.environ)


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


def picture_widgets(kind: Graphics) -> Callable[[np.ndarray, Size], Widget]:
    """What makes a widget of a picture (H, W) or (H, W, 3) of bytes in so much room. To be called in a thread."""
    terminal: Any = importlib.import_module("textual_image._terminal")
    size = cell_size()
    assert size is not None
    terminal.get_cell_size._result = terminal.CellSize(*size)
    asked = terminal.capture_terminal_response
    if "textual_image.renderable" not in sys.modules:
        terminal.capture_terminal_response = _unasked(terminal.TerminalError)
    try:
        widgets = importlib.import_module("textual_image.widget")
    finally:
        terminal.capture_terminal_response = asked
    from PIL import Image  # only here, and 30 ms

    def make(picture: np.ndarray, room: Size) -> Widget:
        height, width = picture.shape[:2]
        factor = min(room.width * size[0] / width, room.height * size[1] / height)
        factor = max(1, int(factor)) if factor >= 1 else factor  # pixels stay squares where they are enlarged
        pixels = max(1, int(width * factor)), max(1, int(height * factor))
        way = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
        image = Image.fromarray(picture).convert("RGB").resize(pixels, way)
        widget: Widget = (widgets.TGPImage if kind == "kitty" else widgets.SixelImage)(image, classes="-pixels")
        widget.styles.width, widget.styles.height = -(-pixels[0] // size[0]), -(-pixels[1] // size[1])
        return widget

    return make


def _unasked(refusal: type[Exception]) -> Callable[..., Any]:
    """Stands for the question to the terminal: it is refused, and the library goes on without an answer."""

    def ask(*_: object, **__: object) -> Any:
        raise refusal("a running application can't ask its terminal")

    return ask
