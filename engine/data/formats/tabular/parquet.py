"""Parquet files → their cells, in the types that the file has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.data.formats.tabular.cells import Cells
from engine.data.reading.delimited import check_names
from engine.data.samples import Progress
from engine.errors import DataError, first_line


def read_parquet(file: Path, place: str, progress: Progress) -> Cells:
    """All rows of a file, counted from 1. Raises DataError."""
    import pyarrow as pa  # takes 0.2 s to import
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            total, groups = opened.metadata.num_rows, []
            check_names(opened.schema_arrow.names, str(file))
            for number in range(opened.num_row_groups):
                groups.append(opened.read_row_group(number))
                progress(f"reading {file.name}", sum(group.num_rows for group in groups), total)
    except pa.ArrowException as error:
        raise DataError(str(file), f"can't be read: {first_line(error)}", "Write it anew.") from error
    if not total:
        raise DataError(str(file), "has no rows", "Give it some.")
    table = pa.concat_tables(groups)
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(position, field.name, table.column(position).cast(field.type.value_type))
    return Cells(table, place, np.arange(1, total + 1))
