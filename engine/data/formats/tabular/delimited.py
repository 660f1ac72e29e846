"""CSV and TSV files → their cells as text, with the line of every row; what is wrong is named with its line."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from engine.data.fetching.telling import Bytes
from engine.data.formats.tabular.cells import Cells
from engine.data.reading.decoding import WrongEncoding, likely
from engine.data.reading.delimited import BLOCK, DELIMITERS, check_names, ends_within, parsed, why_ragged
from engine.data.samples import BadSample, Progress
from engine.errors import DataError, RecipeError, nearest

_HEAD = 4 << 20  # bytes that are looked at to tell the delimiter; the header must be among them
_LOOKED_AT = 100  # rows, for that
_GUESSES = ("utf-8", "utf-16", "cp1252", "latin-1")


@dataclass(frozen=True)
class Dialect:
    """How a file is written. An empty delimiter is found out."""

    encoding: str = "utf-8"
    delimiter: str = ""
    header: bool = True

    def check(self) -> None:
        """Raise RecipeError for what can't be."""
        try:
            codecs.lookup(self.encoding)
        except LookupError as error:
            remedy = nearest(self.encoding, _GUESSES) or f"For example {', '.join(_GUESSES)}."
            what = f"there is no encoding '{self.encoding}'"
            raise RecipeError("data.options.encoding", what, remedy) from error
        if len(self.delimiter.encode()) > 1:
            what = f"'{self.delimiter}' is more than one ASCII character"
            raise RecipeError("data.options.delimiter", what, r'For example ";" or "\t".')


def read_delimited(file: Path, dialect: Dialect, place: str, progress: Progress) -> Cells:
    """All rows of a file. Ragged ones are among the bad; empty lines are none. Raises DataError."""
    if not file.stat().st_size:
        raise DataError(str(file), "is empty", "Give it a header and rows.")
    names, delimiter, skipped = _beginning(file, dialect)
    total = file.stat().st_size
    with file.open("rb") as opened:
        stream = _Utf8(opened, str(file), dialect.encoding)

        def tell(blocks: int) -> None:
            # Blocks are read ahead of the rows that are made of them.
            progress(f"reading {file.name}", Bytes(min(stream.read_so_far, blocks * BLOCK, total)), total)

        table, bad = parsed(stream, str(file), names, delimiter, skipped, tell=tell)
    if not table.num_rows and not bad:
        raise DataError(str(file), "has a header and no rows", "Give it rows.")
    cells = _placed(table, bad, skipped, place)
    if not len(cells):
        first = f"of {len(cells.bad):,} rows none is whole; {cells.bad[0]}" if cells.bad else "all rows are empty"
        raise DataError(str(file), first, "Is the delimiter another, or a name missing in the header?")
    return cells


def _beginning(file: Path, dialect: Dialect) -> tuple[list[str], str, int]:
    """The names of the columns, the delimiter, and how many lines stand before the first row. Raises DataError."""
    with file.open("rb") as opened:
        data = _Utf8(opened, str(file), dialect.encoding).read(_HEAD)
    if b"\0" in data:
        remedy = f'Set encoding = "{_likely(file, 0)}" in data.options.'
        remedy = remedy if dialect.encoding == "utf-8" else "Save it as CSV or Parquet."
        raise DataError(str(file), "has zero bytes, which no text has", remedy)
    head = data.decode("utf-8", errors="ignore")  # a character may be cut at the end
    if not head.strip():
        raise DataError(str(file), "has nothing but empty lines", "Give it a header and rows.")
    delimiter = dialect.delimiter or ("\t" if file.suffix.lower() == ".tsv" else _delimiter(head))
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
    try:
        first = next(row for row in reader if row)
    except csv.Error as error:
        raise DataError(f"{file}: line 1", "has a quote that is never closed", "Close it.") from error
    if not dialect.header:
        return [f"column {number}" for number in range(1, len(first) + 1)], delimiter, 0
    if all(map(_is_number, first)):
        what = f"the first line ({delimiter.join(first)[:40]}) looks like data, not like names of columns"
        raise DataError(str(file), what, "Set header = false, or write the names above it.")
    names = [name.strip() or f"column {number}" for number, name in enumerate(first, 1)]
    check_names(names, str(file))
    return names, delimiter, reader.line_num


def _delimiter(head: str) -> str:
    """The character by which most rows have as many cells as the first."""

    def score(delimiter: str) -> tuple[float, int]:
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
        try:
            counts = [len(row) for row in itertools.islice(reader, _LOOKED_AT) if row]
        except csv.Error:
            return 0.0, 0
        alike = sum(count == counts[0] for count in counts) / len(counts)
        return (alike, counts[0]) if counts[0] > 1 and alike >= 0.5 else (0.0, 0)

    return max(DELIMITERS, key=score)


def _placed(table: Any, bad: dict[int, Any], skipped: int, place: str) -> Cells:
    """The rows with their lines, without those that are empty. A row may take several lines: quotes hold line ends."""
    import pyarrow as pa  # takes 0.2 s to import
    import pyarrow.compute as pc

    there = np.ones(table.num_rows + len(bad), dtype=bool)
    records = np.array(sorted(bad), dtype=np.int64) - skipped - 1  # arrow counts the lines that it skipped
    there[records] = False
    ends = np.zeros(len(there), dtype=np.int64)
    filled = np.zeros(table.num_rows, dtype=bool)
    for column in table.columns:
        ends[there] += pc.count_substring(column, "\n").to_numpy()
        filled |= pc.not_equal(column, "").to_numpy()
    ends[records] = [ends_within(bad[number]) for number in sorted(bad)]
    lines = skipped + 1 + np.arange(len(ends)) + np.cumsum(ends) - ends
    found = [
        BadSample(f"{place} {lines[record]}", why_ragged(bad[record + skipped + 1])) for record in records.tolist()
    ]
    return Cells(table.filter(pa.array(filled)), place, lines[there][filled], found)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Utf8(io.RawIOBase):
    """A file's text as UTF-8, whatever it was written in. Reading raises DataError for bytes that are no text."""

    def __init__(self, file: BinaryIO, name: str, encoding: str) -> None:
        super().__init__()
        self._file, self._name, self._encoding = file, name, encoding
        plain = codecs.lookup(encoding).name == "utf-8"
        self._decoder = codecs.getincrementaldecoder("utf-8-sig" if plain else encoding)()  # sig: a mark at the start
        self._ready = b""
        self.read_so_far = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; none only at the end."""
        while not self._ready:
            chunk = self._file.read(size)
            self.read_so_far += len(chunk)
            try:
                self._ready = self._decoder.decode(chunk, final=not chunk).encode("utf-8", errors="surrogatepass")
            except UnicodeError as error:
                raise self._refused(error) from error
            if not chunk:
                break
        given, self._ready = (self._ready, b"") if size < 0 else (self._ready[:size], self._ready[size:])
        return given

    def _refused(self, error: UnicodeError) -> DataError:
        offset = 0
        if isinstance(error, UnicodeDecodeError):
            offset = self.read_so_far - len(error.object) + error.start
        file = Path(self._name)
        with file.open("rb") as opened:
            before = iter(lambda: opened.read(min(BLOCK, offset - opened.tell())), b"")
            line = 1 + sum(chunk.count(b"\n") for chunk in before)
            opened.seek(offset)
            byte = opened.read(1)
        likeliest = _likely(file, offset, self._encoding)
        return WrongEncoding(self._encoding, line, f"byte 0x{byte.hex()}", likeliest).error(file)


def _likely(file: Path, offset: int, refused: str = "utf-8") -> str:
    """The likeliest encoding in which the text around `offset` can be read."""
    with file.open("rb") as opened:
        head = opened.read(_HEAD)
        opened.seek(max(0, offset - _HEAD // 2))
        around = opened.read(_HEAD)
    if offset >= len(head) and not likely(head, refused).startswith("utf-16"):
        head = around.lstrip(bytes(range(0x80, 0xC0)))  # it may begin within a character
    return likely(head, refused)
