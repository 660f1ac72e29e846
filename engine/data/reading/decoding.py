"""Bytes → text, and which encoding to try where the asked-for one is wrong."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.errors import DataError, RecipeError

_MARKS = (  # the longer ones first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_LOOKED_AT = 4096
_PIECE = 1 << 20  # bytes that are decoded at once: a few milliseconds, in which no other thread runs


class WrongEncoding(Exception):  # noqa: N818 - it says what the bytes are, and becomes an error or a bad sample
    """Bytes are not in the encoding they were read in. `line` counts from 1; `likely` is worth a try."""

    def __init__(self, encoding: str, line: int, what: str, likely: str) -> None:
        super().__init__(encoding, line, what, likely)
        self.line = line
        self.what = f"is not in {encoding} ({what})"
        self.remedy = f'Set encoding = "{likely}" in data.options.'

    def error(self, path: Path) -> DataError:
        """The same as an error that ends the reading."""
        return DataError(f"{path} line {self.line}", self.what, self.remedy)


def check_encoding(encoding: str) -> None:
    """Raise RecipeError for an encoding that Python does not know, or one that does not make text."""
    try:
        "a".encode(encoding)
    except (LookupError, TypeError, ValueError) as error:
        remedy = 'Try "utf-8", "cp1252" or "utf-16".'
        raise RecipeError("data.options.encoding", f"there is no text encoding '{encoding}'", remedy) from error


def decode(raw: bytes, encoding: str) -> str:
    """`raw` as text without a byte order mark. Raises WrongEncoding."""
    return "".join(decoded(raw, encoding))


def decoded(raw: bytes, encoding: str) -> Iterator[str]:
    """The same, some of it at a time."""
    codec = codecs.lookup(encoding).name
    if codec == "utf-8":
        codec = "utf-8-sig"
    elif codec in ("utf-16", "utf-32") and not raw.startswith(tuple(mark for mark, of in _MARKS if of == codec)):
        codec += "-le" if sys.byteorder == "little" else "-be"  # as the whole is read; in pieces it would be refused
    lines = 1
    try:
        for piece in _pieces(raw, codec):
            # UTF-16 of plain English is valid UTF-8, with a NUL beside each letter.
            if "\0" in piece and (better := _wide(raw)):
                line = lines + piece.count("\n", 0, piece.index("\0"))
                raise WrongEncoding(encoding, line, "every other byte is 0", better)
            lines += piece.count("\n")
            yield piece
    except UnicodeError as error:
        start = _first_wrong(raw, codec)
        what = f"byte 0x{raw[start]:02x}" if start < len(raw) else "cut off"
        raise WrongEncoding(encoding, raw[:start].count(b"\n") + 1, what, likely(raw, encoding)) from error


def with_plain_ends(pieces: Iterable[str]) -> Iterator[str]:
    r"""A text in pieces with `\n` at the end of each line, whichever system it is of."""
    ends = io.IncrementalNewlineDecoder(None, translate=True)
    for piece in pieces:
        yield ends.decode(piece)
    yield ends.decode("", final=True)


def lines(pieces: Iterable[str]) -> list[str]:
    r"""The lines of a text in pieces without the `\n` at their ends; at least one, which may be empty."""
    found: list[str] = []
    begun: list[str] = []  # of a line that goes on: to put it together with each piece would take the square of them
    for piece in pieces:
        first, *others = piece.split("\n")
        begun.append(first)
        if others:
            found += ["".join(begun), *others[:-1]]
            begun = others[-1:]
    last = "".join(begun)
    return [*found, last] if last or not found else found


def _pieces(raw: bytes, codec: str) -> Iterator[str]:
    """Raises UnicodeError."""
    if len(raw) <= _PIECE:
        yield raw.decode(codec)
        return
    decoder = codecs.getincrementaldecoder(codec)()
    for start in range(0, len(raw), _PIECE):
        yield decoder.decode(raw[start : start + _PIECE])
    yield decoder.decode(b"", final=True)


def _first_wrong(raw: bytes, codec: str) -> int:
    """Where the first byte lies that is no text, as only the whole tells."""
    try:
        raw.decode(codec)
    except UnicodeDecodeError as error:
        return error.start
    except UnicodeError:
        pass
    return 0


def likely(raw: bytes, wrong: str) -> str:
    """An encoding in which `raw` is text: by its mark, its zeros, or the first of the usual ones that fits."""
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return name
    if better := _wide(raw):
        return better
    for name in ("utf-8", "cp1252"):
        if codecs.lookup(name).name != codecs.lookup(wrong).name and _fits(raw, name):
            return name
    return "latin-1"


def _wide(raw: bytes) -> str:
    """UTF-16 without a mark, as most text shows it: one byte of each two is nearly always 0."""
    head = raw[: _LOOKED_AT - _LOOKED_AT % 2]
    if len(head) < 2:
        return ""
    even, odd = (head[first::2].count(0) / len(head[first::2]) for first in (0, 1))
    if max(even, odd) < 0.4 or min(even, odd) > 0.1:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _fits(raw: bytes, encoding: str) -> bool:
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        for start in range(0, len(raw), _PIECE):
            decoder.decode(raw[start : start + _PIECE])  # a character may be cut at the end
    except UnicodeError:
        return False
    return True
