"""What the columns of a table are: numbers, categories, or nothing to learn from; and their cells as such."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.data.formats.tabular.cells import Cells
from engine.data.samples import Progress
from engine.errors import DataError, RecipeError, nearest

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
_MOSTLY = 0.95  # share of a column's cells that are numbers, from which on the others are mistakes
_GAPS = 1.1  # how far numbers of rows may go beyond the rows: some were left out
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
# 1,5 and 1.234,5; then 1,234,567.8 and 1,234.
_COMMA = r"^[+-]?\d{1,3}(\.?\d{3})*,\d+$"
_GROUPED = r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"
_ID = re.compile(r"(?i:(^|[_\W])(id|index|key)$)|[a-z]I[dD]$")
_DATE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?$"


@dataclass(frozen=True)
class Writing:
    """How cells are written: what stands for none, and the marks in numbers."""

    missing: tuple[str, ...] = MISSING
    decimal: str = "."
    thousands: str = ""

    def check(self) -> None:
        """Raise RecipeError for marks that can't be told apart."""
        if self.decimal not in (".", ","):
            raise RecipeError("data.options.decimal", f"'{self.decimal}' is no decimal mark", 'Try "," or ".".')
        if len(self.thousands) > 1 or self.thousands == self.decimal or self.thousands.isalnum():
            what = f"'{self.thousands}' is no mark beside the decimal '{self.decimal}'"
            raise RecipeError("data.options.thousands", what, 'For example "," or "".')


@dataclass(frozen=True)
class Coded:
    """A column of categories: `codes` (N,) are places in `names`, -1 where a cell is missing."""

    codes: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, (N,) float64, NaN where there is none. `stray`: a cell has something else."""

    values: np.ndarray
    stray: np.ndarray


@dataclass(frozen=True)
class Chosen:
    """What a person says of columns; the others are found out."""

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def check(self, names: Sequence[str], targets: Sequence[str]) -> None:
        """Raise RecipeError for a column that is not there, or is said to be two things."""
        said: dict[str, str] = dict.fromkeys(targets, "target")
        for option in ("numeric", "categorical", "ignore"):
            for name in getattr(self, option):
                where = f"data.options.{option}"
                if name not in names:
                    raise no_column(where, name, names)
                if said.setdefault(name, option) != option:
                    raise RecipeError(where, f"'{name}' is in {said[name]}, too", "Name it once.")


@dataclass(frozen=True)
class Roles:
    """The columns that are learned from, and why the others are not."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


def no_column(where: str, name: str, names: Sequence[str]) -> RecipeError:
    """There is no such column."""
    return RecipeError(where, f"there is no column '{name}'", nearest(name, names) or f"There are {_few(names)}.")


def texts(column: Any, writing: Writing) -> Any:
    """A column as an array of trimmed text, null where a cell is missing."""
    import pyarrow as pa  # takes 0.2 s to import
    import pyarrow.compute as pc

    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_finite(column), pc.cast(column, pa.float64()), None)
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**53))
        column = pc.cast(column, pa.int64()) if pc.all(whole).as_py() else column  # 1.0 is "1", as it stands in a CSV
    text = pc.utf8_trim_whitespace(pc.cast(column, pa.string()))
    return pc.if_else(pc.is_in(text, value_set=pa.array(writing.missing, pa.string())), None, text)


def numbers(column: Any, writing: Writing) -> Numbers:
    """A column as numbers; dates are days since 1970."""
    import pyarrow as pa  # takes 0.2 s to import
    import pyarrow.compute as pc

    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    there = column.is_valid()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = texts(column, writing)
        there = text.is_valid()
        parsed = _parsed(text, writing)
    elif pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        parsed = _days(column)
    else:
        parsed = pc.cast(pc.cast(column, pa.uint8()) if pa.types.is_boolean(column.type) else column, pa.float64())
    values = np.array(parsed.to_numpy(zero_copy_only=False), dtype=np.float64)
    huge = np.abs(np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)) > np.finfo(np.float32).max
    values[huge] = np.nan
    said_nan = np.isnan(values) & parsed.is_valid().to_numpy(zero_copy_only=False) & ~huge
    stray = there.to_numpy(zero_copy_only=False) & np.isnan(values) & ~said_nan
    return Numbers(values, stray)


def categories(text: Any) -> Coded:
    """Trimmed text as categories, in the order in which they come."""
    coded = text.dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return Coded(codes, tuple(coded.dictionary.to_pylist()))


def in_order(names: Sequence[str]) -> list[str]:
    """Sorted: numbers by their value, other names by their letters."""
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)


class Parsed:
    """The columns of a part as numbers or as categories, each made when it is asked for, and once."""

    def __init__(self, cells: Cells, writing: Writing, progress: Progress) -> None:
        self.cells, self.writing = cells, writing
        self._progress = progress
        self._numbers: dict[str, Numbers] = {}
        self._categories: dict[str, Coded] = {}

    def __len__(self) -> int:
        return len(self.cells)

    def column(self, name: str) -> Any:
        """The cells of a column as they were read."""
        return self.cells.table.column(name)

    def texts(self, name: str) -> Any:
        """A column as trimmed text, null where a cell is missing."""
        return texts(self.column(name), self.writing)

    def numbers(self, name: str) -> Numbers:
        """A column as numbers."""
        if name not in self._numbers:
            self._tell(self._numbers)
            self._numbers[name] = numbers(self.column(name), self.writing)
        return self._numbers[name]

    def categories(self, name: str) -> Coded:
        """A column as categories."""
        if name not in self._categories:
            self._tell(self._categories)
            self._categories[name] = categories(self.texts(name))
        return self._categories[name]

    def _tell(self, done: Mapping[str, object]) -> None:
        self._progress("making sense of the columns", len(done), self.cells.table.num_columns)


def infer(parsed: Parsed, targets: Sequence[str], chosen: Chosen, where: str) -> Roles:
    """What each column is, as a person says or as its cells look. Raises DataError for numbers written otherwise."""
    cells = parsed.cells
    names = [name for name in cells.table.column_names if name not in targets]
    numeric, categorical, left_out = list[str](), list[str](), dict[str, str]()
    for name in names:
        if name in chosen.ignore:
            left_out[name] = "as you say"
        elif name in chosen.numeric:
            numeric.append(name)
        elif name in chosen.categorical:
            categorical.append(name)
        elif (why := _useless(parsed, name)) is not None:
            left_out[name] = why
        elif _is_numeric(parsed, name, where):
            numeric.append(name)
        else:
            categorical.append(name)
    ids = [name for name in names if name not in (*left_out, *chosen.numeric, *chosen.categorical)]
    for name in ids:
        if name in numeric and len(numeric) + len(categorical) > 1 and _numbers_rows(parsed, name):
            numeric.remove(name)
            left_out[name] = "numbers the rows"
        elif name in categorical and _all_differ(parsed, name):
            categorical.remove(name)
            left_out[name] = "different in every row"
    return Roles(tuple(numeric), tuple(categorical), left_out)


def _useless(parsed: Parsed, name: str) -> str | None:
    """Why nothing can be learned of a column, None where something may."""
    import pyarrow as pa  # takes 0.2 s to import
    import pyarrow.compute as pc

    column = parsed.column(name)
    kind = column.type
    if pa.types.is_null(kind) or column.null_count == len(column):
        return "empty"
    if pa.types.is_nested(kind):
        return "lists in its cells"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_duration(kind):
        return f"cells of {kind}"
    if pa.types.is_temporal(kind):
        return "dates"
    text = parsed.texts(name)
    if text.null_count == len(text):
        return "empty"
    if not text.null_count and pc.all(pc.equal(text, text[0])).as_py():
        return "the same in every row"
    return "dates" if pc.all(pc.match_substring_regex(text, _DATE)).as_py() else None


def _is_numeric(parsed: Parsed, name: str, where: str) -> bool:
    import pyarrow as pa  # takes 0.2 s to import

    column = parsed.column(name)
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        return not pa.types.is_boolean(column.type)
    text = parsed.texts(name)
    known = len(text) - text.null_count
    right = known - int(parsed.numbers(name).stray.sum())
    if right >= _MOSTLY * known:
        return True
    _check_marks(parsed.cells, name, text, right, where)
    return False


def _check_marks(cells: Cells, name: str, text: Any, plain: int, where: str) -> None:
    """Raise DataError for a column of numbers with marks that were not told: as categories they would be nonsense."""
    import pyarrow.compute as pc

    known = len(text) - text.null_count
    for pattern, marks, remedy in (
        (_GROUPED, "commas between thousands", 'Set thousands = ","'),
        (_COMMA, "decimal commas", 'Set decimal = ","'),
    ):
        marked = pc.fill_null(pc.match_substring_regex(text, pattern), False).to_numpy(zero_copy_only=False)
        if marked.sum() + plain >= _MOSTLY * known and marked.any():
            row = int(marked.argmax())
            if "." in (shown := text[row].as_py()) and marks == "decimal commas":
                remedy += ' and thousands = "."'
            what = f"{int(marked.sum()):,} numbers have {marks}, as '{shown}' in {cells.where(row)}"
            raise DataError(f"{where}: column '{name}'", what, f"{remedy}, or name the column in categorical.")


def _numbers_rows(parsed: Parsed, name: str) -> bool:
    """Whether whole numbers are different in every row, and count the rows or are called an id."""
    values = parsed.numbers(name).values
    if len(values) < 2 or not (values == np.floor(values)).all():  # NaN is not even itself
        return False
    counts = values.max() - values.min() < _GAPS * len(values)
    return bool(counts or _ID.search(name)) and len(np.unique(values)) == len(values)


def _all_differ(parsed: Parsed, name: str) -> bool:
    coded = parsed.categories(name)
    absent = int((coded.codes < 0).sum())
    return absent <= 1 and len(coded.names) + absent == len(coded.codes) > 1


def _parsed(text: Any, writing: Writing) -> Any:
    """Text as float64, null where it is no number."""
    import pyarrow as pa  # takes 0.2 s to import
    import pyarrow.compute as pc

    if writing.thousands:
        mark, decimal = (f"[{each}]" if each != "^" else r"\^" for each in (writing.thousands, writing.decimal))
        grouped = pc.match_substring_regex(text, rf"^[+-]?\d{{1,3}}({mark}\d{{3}})+({decimal}\d+)?$")
        text = pc.if_else(grouped, pc.replace_substring(text, writing.thousands, ""), text)
    if writing.decimal == ",":
        text = pc.if_else(pc.match_substring(text, "."), "a number has a comma", text)
        text = pc.replace_substring(text, ",", ".")
    try:
        return pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        if pc.all(pc.match_substring_regex(text, _DATE)).as_py():
            with contextlib.suppress(pa.ArrowInvalid):  # 2024-02-30
                return _days(pc.cast(text, pa.timestamp("us")))
        fits = pc.match_substring_regex(text, _NUMBER)
        return pc.cast(pc.if_else(fits, text, None), pa.float64())


def _days(column: Any) -> Any:
    """Days since 1970, with their fractions."""
    import pyarrow as pa  # takes 0.2 s to import
    import pyarrow.compute as pc

    return pc.divide(pc.cast(pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64()), pa.float64()), 86.4e9)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown
