"""A table's rows as they were read, before anything is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from engine.data.samples import BadSample

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Cells:
    """The rows of a file: of CSV a column of text each, of Parquet columns of its own types.

    `numbers` (N,) say where each row is, as `place` puts it: "line 17". `bad` are rows that could not be read.
    """

    table: pa.Table
    place: str
    numbers: np.ndarray
    bad: Sequence[BadSample] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def where(self, row: int) -> str:
        """Where a row is found."""
        return f"{self.place} {self.numbers[row]}"

    def kept(self, keep: np.ndarray) -> Cells:
        """The rows where `keep` (N,) is true."""
        import pyarrow as pa  # takes 0.2 s to import

        return replace(self, table=self.table.filter(pa.array(keep)), numbers=self.numbers[keep])


class Places(Sequence[str]):
    """Where samples are found, put into words when somebody asks: `line 17`."""

    def __init__(self, place: str, numbers: np.ndarray) -> None:
        self._place, self._numbers = place, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Places: ...
    def __getitem__(self, index: int | slice) -> str | Places:
        if isinstance(index, slice):
            return Places(self._place, self._numbers[index])
        return f"{self._place} {self._numbers[index]}"

    def chosen(self, numbers: np.ndarray) -> Places:
        """Those of some samples."""
        return Places(self._place, self._numbers[numbers])


class RowTexts(Sequence[Mapping[str, str]]):
    """The cells of rows by column, as they stand in the file; made when somebody asks for a row."""

    def __init__(self, table: pa.Table, rows: np.ndarray) -> None:
        self._table, self._rows = table, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> RowTexts: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, str] | RowTexts:
        if isinstance(index, slice):
            return RowTexts(self._table, self._rows[index])
        row: dict[str, list[Any]] = self._table.slice(int(self._rows[index]), 1).to_pydict()
        return {name: "" if value is None else str(value) for name, (value,) in row.items()}

    def chosen(self, numbers: np.ndarray) -> RowTexts:
        """Those of some samples."""
        return RowTexts(self._table, self._rows[numbers])

    def __reduce__(self) -> tuple[type[tuple[()]], tuple[()]]:
        """Workers train, and need no text for it: it stays here."""
        return tuple, ()


class ByName(Mapping[str, np.ndarray]):
    """Every column of a table by its name, numbers where all its cells are; made when somebody asks for one."""

    def __init__(self, table: pa.Table, rows: np.ndarray) -> None:
        self._table, self._rows = table, rows
        self._names = tuple(table.column_names)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        values: np.ndarray = _values(self._table.column(name))[self._rows]
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def chosen(self, numbers: np.ndarray) -> ByName:
        """Those of some samples."""
        return ByName(self._table, self._rows[numbers])

    def __reduce__(self) -> tuple[type[dict[str, np.ndarray]], tuple[()]]:
        """Workers split nothing."""
        return dict, ()


def _values(column: Any) -> np.ndarray:
    import pyarrow as pa  # takes 0.2 s to import
    import pyarrow.compute as pc

    if pa.types.is_string(column.type):
        try:
            column = pc.cast(pc.if_else(pc.equal(column, ""), None, column), pa.float64())
        except pa.ArrowInvalid:
            return np.array(column.to_pylist(), dtype=object)
    kind = column.type
    if pa.types.is_temporal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        found: np.ndarray = column.to_numpy()
        return found
    return np.array(["" if value is None else str(value) for value in column.to_pylist()], dtype=object)
