"""A picture as the terminal takes it, by the library textual-image.

The library asks the terminal what it can when it is imported, and it writes Kitty's pictures to the terminal by itself,
amid what Textual's thread is writing. So it is imported with its questions answered, and what it would send is kept.
"""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.segment import ControlType, Segment

from tui.widgets.picture import Row

if TYPE_CHECKING:
    import numpy as np

_COLOUR = re.compile(r"#\d+;2;\d+;\d+;\d+")
_CELL = 4  # characters of one of Kitty's cells: a placeholder, its row, its column, a byte of the picture's number


@dataclass(frozen=True)
class Encoded:
    """Rows of cells that show a picture once `sent` has gone to the terminal; `freed` has it forget the picture."""

    rows: list[Row]
    sent: str = ""
    freed: str = ""


def encode(kind: Literal["kitty", "sixel"], picture: np.ndarray, cell: tuple[int, int]) -> Encoded:
    """Bytes (H, W, 3) for cells of so many pixels. Takes up to 40 ms for each 100,000 pixels: call it in a thread."""
    from PIL import Image  # only here, and 30 ms

    height, width = picture.shape[:2]
    columns, rows = -(-width // cell[0]), -(-height // cell[1])
    with _ENCODING:
        library = _library(cell)
        if kind == "sixel":
            return Encoded(_sixel_rows(_colours_first(library.sixel(Image.fromarray(picture))), columns, rows))
        # Kitty stretches a picture over its cells: what it does not fill is transparent.
        padded = Image.new("RGBA", (columns * cell[0], rows * cell[1]))
        padded.paste(Image.fromarray(picture))
        image = library.kitty(padded, columns, rows)
        console = Console(width=columns, height=rows, file=sys.__stdout__)
        lines = list(image.__rich_console__(console, console.options))
        sent = "".join(library.sent)
        number = image.terminal_image_id
    cells = [
        [Segment(line.text[at : at + _CELL], line.style) for at in range(0, _CELL * columns, _CELL)] for line in lines
    ]
    return Encoded(cells, sent, f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\")


def _sixel_rows(sixels: str, columns: int, rows: int) -> list[Row]:
    """Blanks, and behind the last the way back to the first, the picture, and the way here again.

    There it is painted after all of its cells were: what is written over a sixel picture wipes it off. And it goes to
    the terminal only when that row does.
    """
    up = f"\x1b[{rows - 1}A" if rows > 1 else ""
    painted = Segment(f"\x1b7{up}\x1b[{columns}D{sixels}\x1b8", None, [(ControlType.CURSOR_FORWARD, 0)])
    blank = Segment(" " * columns)
    return [*([blank] for _ in range(rows - 1)), [blank, painted]]


def _colours_first(sixels: str) -> str:
    """Every colour before the first pixel: xterm paints over specks of what a colour meant when it was met last."""
    known = _COLOUR.findall(sixels)
    head, mark, rest = sixels.partition("#")
    return head + "".join(known) + _COLOUR.sub(lambda found: found.group().partition(";")[0], mark + rest)


@dataclass(frozen=True)
class _Library:
    """The parts of textual-image that are used here."""

    sixel: Callable[[Any], str]
    kitty: Callable[[Any, int, int], Any]
    sent: list[str]


_ENCODING = threading.Lock()  # the library's messages go to one list


def _library(cell: tuple[int, int]) -> _Library:
    terminal: Any = importlib.import_module("textual_image._terminal")
    terminal.get_cell_size._result = terminal.CellSize(*cell)
    asked = terminal.capture_terminal_response
    if "textual_image.renderable" not in sys.modules:
        terminal.capture_terminal_response = _unasked(terminal.TerminalError)
    try:
        kitty: Any = importlib.import_module("textual_image.renderable.tgp")
        sixel: Any = importlib.import_module("textual_image._sixel")
    finally:
        terminal.capture_terminal_response = asked
    sent: list[str] = []

    def keep(*, payload: str | None = None, **settings: int | str | None) -> None:
        said = ",".join(f"{key}={value}" for key, value in settings.items() if value is not None)
        sent.append(f"\x1b_G{said}{f';{payload}' if payload else ''}\x1b\\")

    kitty._send_tgp_message = keep
    return _Library(sixel.image_to_sixels, kitty.Image, sent)


def _unasked(refusal: type[Exception]) -> Callable[..., Any]:
    """Stands for the question to the terminal: it is refused, and the library goes on without an answer."""

    def ask(*_: object, **__: object) -> Any:
        raise refusal("a running application can't ask its terminal")

    return ask
