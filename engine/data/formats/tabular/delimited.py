"""CSV and TSV files → their cells as text, with the line of every row; what is wrong is named with its line."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from engine.data.fetching.telling import Bytes
from engine.data.formats.tabular.cells import Cells
from engine.data.reading.decoding import likely
from engine.data.samples import BadSample, Progress
from engine.errors import DataError, RecipeError, first_line, nearest

DELIMITERS = ",;\t|"
_HEAD = 4 << 20  # bytes that are looked at to tell the delimiter; the header must be among them
_LOOKED_AT = 100  # rows, for that
_BLOCK = 8 << 20  # bytes read at a time: no row can be longer
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
    import pyarrow as pa  # takes 0.2 s to import
    from pyarrow import csv as arrow

    if not file.stat().st_size:
        raise DataError(str(file), "is empty", "Give it a header and rows.")
    names, delimiter, skipped = _beginning(file, dialect)
    bad: dict[int, Any] = {}

    def ragged(row: Any) -> str:
        bad[row.number] = row
        return "skip"

    batches, total, rows = [], file.stat().st_size, 0
    schema = pa.schema([(name, pa.string()) for name in names])
    with file.open("rb") as opened:
        stream = _Utf8(opened, str(file), dialect.encoding)
        try:
            reader = arrow.open_csv(
                pa.PythonFile(stream, mode="r"),
                # One thread: only it knows the number of a row that is ragged.
                read_options=arrow.ReadOptions(
                    use_threads=False, block_size=_BLOCK, column_names=names, skip_rows=skipped
                ),
                parse_options=arrow.ParseOptions(
                    delimiter=delimiter,
                    newlines_in_values=True,
                    ignore_empty_lines=False,  # they are counted
                    invalid_row_handler=ragged,
                ),
                convert_options=arrow.ConvertOptions(column_types=schema, strings_can_be_null=False),
            )
            for batch in reader:
                batches.append(batch)
                rows += batch.num_rows
                # Blocks are read ahead of the rows that are made of them.
                read = min(stream.read_so_far, len(batches) * _BLOCK, total)
                progress(f"reading {file.name}", Bytes(read), total)
        except pa.ArrowInvalid as error:
            # Nothing after the header's lines: the file ends there, or with them.
            if not any(each in str(error) for each in ("Empty CSV", "Could not skip")):
                raise DataError(str(file), f"can't be read: {_in_words(error)}", "Mend the file.") from error
    table = pa.Table.from_batches(batches, schema=schema)
    if not rows and not bad:
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
        remedy = _encodings(file, 0) if dialect.encoding == "utf-8" else "Save it as CSV or Parquet."
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


def check_names(names: Sequence[str], where: str) -> None:
    """Raise DataError for names that more than one column has."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        at = [str(number) for number, name in enumerate(names, 1) if name == twice[0]]
        what = f"{len(twice)} names stand for several columns: '{twice[0]}' is the name of columns {' and '.join(at)}"
        raise DataError(where, what, "Give each column a name of its own.")


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
    ends[records] = [bad[number].text.rstrip("\r\n").count("\n") for number in sorted(bad)]
    lines = skipped + 1 + np.arange(len(ends)) + np.cumsum(ends) - ends
    found = [
        BadSample(f"{place} {lines[record]}", _of_ragged(bad[record + skipped + 1], int(ends[record])))
        for record in records.tolist()
    ]
    return Cells(table.filter(pa.array(filled)), place, lines[there][filled], found)


def _of_ragged(row: Any, ends: int) -> str:
    what = f"has {row.actual_columns} cells, {row.expected_columns} were expected"
    return f"{what}; it goes on for {ends} more lines: is a quote not closed?" if ends else what


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _in_words(error: Exception) -> str:
    if "straddling" in str(error):
        return f"a row is longer than {_BLOCK >> 20} MB; is a quote not closed?"
    return first_line(error)


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
            before = iter(lambda: opened.read(min(_BLOCK, offset - opened.tell())), b"")
            line = 1 + sum(chunk.count(b"\n") for chunk in before)
            opened.seek(offset)
            byte = opened.read(1)
        what = f"byte {offset} (0x{byte.hex()}) is no {self._encoding}"
        return DataError(f"{self._name}: line {line}", what, _encodings(file, offset, self._encoding))


def _encodings(file: Path, offset: int, refused: str = "utf-8") -> str:
    """What to do about a wrong encoding: the likeliest in which the text around `offset` can be read."""
    with file.open("rb") as opened:
        head = opened.read(_HEAD)
        opened.seek(max(0, offset - _HEAD // 2))
        around = opened.read(_HEAD)
    if offset >= len(head) and not likely(head, refused).startswith("utf-16"):
        head = around.lstrip(bytes(range(0x80, 0xC0)))  # it may begin within a character
    return f'Set encoding = "{likely(head, refused)}".'
