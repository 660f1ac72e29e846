"""CSV from a stream of UTF-8 → a column of text each, and the rows that have too few or too many cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import DataError, first_line

DELIMITERS = ",;\t|"
BLOCK = 8 << 20  # bytes read at a time: no row can be longer


def parsed(
    stream: Any,
    where: str,
    names: Sequence[str],
    delimiter: str,
    skipped: int,
    *,
    quotes: bool = True,
    block: int = BLOCK,
    tell: Callable[[int], None] = lambda blocks: None,
) -> tuple[Any, dict[int, Any]]:
    """All rows after the first `skipped` lines, as a pyarrow table, and those that are left out as ragged by number.

    Rows are numbered from `skipped` + 1, empty lines too; a row may take several lines. `tell` is told how many blocks
    were read. Raises DataError, and what reading the stream raises.
    """
    import pyarrow as pa  # takes 0.2 s to import
    from pyarrow import csv

    bad: dict[int, Any] = {}

    def ragged(row: Any) -> str:
        bad[row.number] = row
        return "skip"

    batches: list[Any] = []
    schema = pa.schema([(name, pa.string()) for name in names])
    try:
        reader = csv.open_csv(
            pa.PythonFile(stream, mode="r"),
            # One thread: only it knows the number of a row that is ragged.
            read_options=csv.ReadOptions(use_threads=False, block_size=block, column_names=names, skip_rows=skipped),
            parse_options=csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quotes else False,
                newlines_in_values=quotes,
                ignore_empty_lines=False,  # they are counted
                invalid_row_handler=ragged,
            ),
            convert_options=csv.ConvertOptions(column_types=schema, strings_can_be_null=False),
        )
        for batch in reader:
            batches.append(batch)
            tell(len(batches))
    except pa.ArrowInvalid as error:
        # Nothing after the header's lines: the file ends there, or with them.
        if not any(each in str(error) for each in ("Empty CSV", "Could not skip")):
            raise DataError(where, f"can't be read: {_in_words(error, block)}", "Mend the file.") from error
    return pa.Table.from_batches(batches, schema=schema), bad


def ends_within(row: Any) -> int:
    """How many ends of lines a ragged row has in its cells."""
    return int(row.text.rstrip("\r\n").count("\n"))


def why_ragged(row: Any) -> str:
    """What is wrong with a ragged row."""
    what, ends = f"has {row.actual_columns} cells, {row.expected_columns} were expected", ends_within(row)
    return f"{what}; it goes on for {ends} more lines: is a quote not closed?" if ends else what


def check_names(names: Sequence[str], where: str) -> None:
    """Raise DataError for names that more than one column has."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        at = [str(number) for number, name in enumerate(names, 1) if name == twice[0]]
        more = f", and {len(twice) - 1} more names stand for several" if len(twice) > 1 else ""
        what = f"'{twice[0]}' is the name of columns {' and '.join(at)}{more}"
        raise DataError(where, what, "Give each column a name of its own.")


def _in_words(error: Exception, block: int) -> str:
    if "straddling" in str(error):
        return f"a row is longer than {block >> 20} MB; is a quote not closed?"
    return first_line(error)
