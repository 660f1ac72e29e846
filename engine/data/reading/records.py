"""Rows of CSV, TSV, JSONL and Parquet files as columns, each row with its place; what is wrong with a row is told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.data.reading.decoding import WrongEncoding, decoded, lines
from engine.data.reading.delimited import BLOCK, DELIMITERS, check_names, parsed, why_ragged
from engine.data.samples import BadSample
from engine.errors import DataError, first_line, nearest, with_article

RECORDS = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
_PIECE = 10_000  # rows
_CELLS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Records:
    """`columns` have one value a row, all as text where the file has no types; `places` say where each row is."""

    columns: Mapping[str, Sequence[Any]]
    places: Sequence[str]
    bad: Sequence[BadSample] = field(default=())


def read_records(path: Path, place: str, encoding: str) -> Records:
    """The rows of a file by its suffix; its own name is told as `place`. Raises DataError."""
    if path.suffix.lower() == ".parquet":
        return _parquet(path, place)
    text = decoded(path.read_bytes(), encoding)
    try:
        return (_jsonl if path.suffix.lower() == ".jsonl" else _delimited)(path, text, place)
    except WrongEncoding as error:
        raise error.error(path) from error


def _delimited(path: Path, text: Iterable[str], place: str) -> Records:
    """CSV with whatever its first line is divided by; a .tsv has tabs and, as its standard says, no quotes."""
    data = b"".join(piece.encode("utf-8", "replace") for piece in text)
    data = (data if b"\n" in data else data.replace(b"\r", b"\n")).lstrip(b"\r\n")  # an old Macintosh ends lines by \r
    head = data[: data.find(b"\n") % (len(data) + 1)].decode().rstrip("\r")
    tabs = path.suffix.lower() == ".tsv"
    delimiter = "\t" if tabs else max(DELIMITERS, key=head.count)
    names = next(
        csv.reader([head], delimiter=delimiter, quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL),
        [],
    )
    check_names(names, str(path))
    if not names:
        raise DataError(str(path), "can't be read: it is empty", "Give it a first line of names, and rows.")
    block = min(max(BLOCK, len(data) + 1), 1 << 30)  # a row must lie within it
    table, ragged = parsed(io.BytesIO(data), str(path), names, delimiter, 1, quotes=not tabs, block=block)
    numbers = [number for number in range(2, table.num_rows + len(ragged) + 2) if number not in ragged]
    return Records(
        {name: _values(table.column(name)) for name in table.column_names},
        [f"{place} row {number}" for number in numbers],
        [BadSample(f"{place} row {number}", why_ragged(row)) for number, row in ragged.items()],
    )


def _jsonl(path: Path, text: Iterable[str], place: str) -> Records:
    columns: dict[str, list[Any]] = {}  # in the order in which their names come
    places: list[str] = []
    bad: list[BadSample] = []
    for number, line in enumerate(lines(text), 1):
        if not line.strip():
            continue
        at = f"{place} line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            bad.append(BadSample(at, f"is no JSON: {first_line(error)}"))
            continue
        if not isinstance(row, dict):
            bad.append(BadSample(at, f"is a JSON {type(row).__name__}, not an object with names"))
            continue
        for name in row:
            if name not in columns:
                columns[name] = [None] * len(places)
        for name, values in columns.items():
            values.append(row.get(name))
        places.append(at)
    if not places:
        what = f"has no line that is a JSON object: {bad[0]}" if bad else "is empty"
        raise DataError(str(path), what, 'A line is such as {"text": "…", "label": "…"}.')
    return Records(columns, places, bad)


def _parquet(path: Path, place: str) -> Records:
    # Not at the top: pyarrow takes a tenth of a second to import, and only tables need it.
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        flat = [each.name for each in file.schema_arrow if not pyarrow.types.is_nested(each.type)]
        table = file.read(columns=flat)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(str(path), f"can't be read: {first_line(error)}", "Is it Parquet?") from error
    columns = {name: _values(table.column(name)) for name in flat}
    return Records(columns, [f"{place} row {number}" for number in range(1, table.num_rows + 1)])


def _values(column: Any) -> list[Any]:
    """A column's cells, made some at a time: other threads run in between."""
    return [cell for start in range(0, len(column), _PIECE) for cell in column.slice(start, _PIECE).to_pylist()]


def cell_text(value: object) -> str:
    """A cell as a person would write it; nothing is an empty text. Raises ValueError for a list or an object."""
    if not isinstance(value, _CELLS):
        raise ValueError(f"is {with_article(type(value).__name__)}")
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def column_named(
    path: Path, columns: Mapping[str, Sequence[object]], named: str, what: str, usual: Sequence[str]
) -> str:
    """The column that the person named, or that has a usual name; else nothing."""
    if named and named not in columns:
        remedy = nearest(named, columns) or f"There are {', '.join(columns)}."
        raise DataError(f"data.options.{what}", f"{path.name} has no column '{named}'", remedy)
    folded = {name.lower(): name for name in columns}
    return named or next((folded[name] for name in usual if name in folded), "")
