"""CSV, TSV and Parquet files of one's own: a row a sample, a column to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.data.formats.tabular.cells import Cells
from engine.data.formats.tabular.columns import MISSING, Chosen, Coded, Parsed, Roles, Writing, infer
from engine.data.formats.tabular.delimited import Dialect, read_delimited
from engine.data.formats.tabular.parquet import read_parquet
from engine.data.formats.tabular.rows import Categories, Missing, Rows, Settings
from engine.data.formats.tabular.targets import Targets, class_targets, counted, number_targets, target_columns
from engine.data.reading.parts import PARTS
from engine.data.samples import BadSample, Loaded, Progress
from engine.data.sources import unread
from engine.errors import DataError, RecipeError
from engine.recipe import Data, TaskName

_SUFFIXES = (".csv", ".tsv", ".parquet")


def open_table(
    path: Path,
    task: TaskName,
    progress: Progress,
    *,
    target: str | tuple[str, ...] = "",
    numeric: tuple[str, ...] = (),
    categorical: tuple[str, ...] = (),
    ignore: tuple[str, ...] = (),
    missing: Missing = "mean",
    indicators: bool = False,
    categories: Categories = "one-hot",
    most_categories: int = 200,
    classes: tuple[str, ...] = (),
    missing_values: tuple[str, ...] = MISSING,
    encoding: str = "utf-8",
    delimiter: str = "",
    decimal: str = ".",
    thousands: str = "",
    header: bool = True,
) -> Loaded:
    """A table, or a folder with tables called train, val and test: a row a sample.

    Raises RecipeError for options that do not fit the table, DataError for a table that can't be read or learned from.

    Args:
        target: the column to predict, or several numbers to predict; empty is one called target, label, class or y,
            else the last
        numeric: columns that are numbers, where they do not look like it
        categorical: columns that are categories, where they do not look like it
        ignore: columns that are not learned from
        missing: what stands for a missing number, measured on the training rows; "most frequent" does for categories,
            too, which are else a category of their own; "drop" leaves such rows out, "stop" refuses them
        indicators: whether each column with missing numbers gets one beside it that says where
        categories: a column of zeros and ones a category, or one number a column for a ColumnEmbedding
        most_categories: of a column, the most frequent so many are told apart; the others are as unknown ones
        classes: the names of the classes in order, of values or of numbers from 0; empty is all values in order
        missing_values: cells that are as empty
        encoding: in which the text was written: utf-8, cp1252, latin-1, utf-16
        delimiter: between cells; empty is found out
        decimal: the mark before decimals, "." or ","
        thousands: the mark between thousands, as ","
        header: whether the first line names the columns
    """
    writing, dialect = Writing(missing_values, decimal, thousands), Dialect(encoding, delimiter, header)
    writing.check()
    dialect.check()
    if task not in ("classification", "regression"):
        raise RecipeError("task", f"a table is not for {task}", 'Try "classification" or "regression".')
    if most_categories < 1:
        raise RecipeError("data.options.most_categories", f"{most_categories} are too few", "Try 200.")
    read = {part: _read(file, part, dialect, progress) for part, file in _files(path).items()}
    parts = {part: Parsed(cells, writing, progress) for part, cells in read.items()}
    main = "train" if "train" in parts else "all"
    columns = read[main].table.column_names
    targets, how = target_columns(target, columns)
    if task == "classification" and len(targets) > 1:
        raise RecipeError("data.options.target", "classification has one target", "Name one column.")
    chosen = Chosen(numeric, categorical, ignore)
    chosen.check(columns, targets)
    where = str(path)
    roles = infer(parts[main], targets, chosen, where)
    if len(columns) == 1:
        what = f"has one column, '{columns[0]}', and nothing to tell it by"
        raise DataError(where, what, "Set delimiter in data.options, if it is another.")
    if not roles.numeric and not roles.categorical:
        why = "; ".join(f"'{name}' is {reason}" for name, reason in roles.left_out.items())
        raise DataError(where, f"has no column to learn from ({why})", "Name one in numeric or categorical.")
    parts, absent = _with_columns(parts, (*roles.numeric, *roles.categorical), targets, where)
    names: tuple[str, ...] = ()
    if task == "classification":
        names, told = class_targets(parts, targets[0], classes, where)
    else:
        told = number_targets(parts, targets, where)
    settings = Settings(missing, indicators, categories, most_categories)
    cleaned = {part: _Cleaned.of(parts[part], told[part], roles, settings) for part in parts}
    for part, each in cleaned.items():
        if not len(each.rows):
            first = f", the first: {each.bad[0]}" if each.bad else ""
            raise DataError(where, f"no row of {part} is left of {len(parts[part]):,}{first}", "Mend the rows.")
    notes = [*absent, *(note for each in cleaned.values() for note in each.notes)]
    if task == "classification":
        told_targets = {part: each.rows.targets for part, each in cleaned.items()}
        notes += counted(names, told_targets, f"{where}: column '{targets[0]}'")
    found = ", ".join(f"'{name}'" for name in targets)
    source = replace(
        unread(Data(path=str(path)), task),
        about="; ".join([f"target {found} ({how})", *_said(roles), *notes]),
        shape=(len(roles.numeric) + len(roles.categorical),),
        outputs=len(names) or len(targets),
        sizes={part: len(each.rows) for part, each in cleaned.items()},
        classes=names,
        columns=(*roles.numeric, *roles.categorical),
    )
    bad = [sample for part in parts for sample in (*read[part].bad, *cleaned[part].bad)]
    return Loaded(source, {part: each.rows for part, each in cleaned.items()}, bad)


@dataclass(frozen=True)
class _Cleaned:
    """The rows of a part that can be learned from, and what is to be said of the others."""

    rows: Rows
    bad: Sequence[BadSample]
    notes: Sequence[str]

    @classmethod
    def of(cls, parsed: Parsed, targets: Targets, roles: Roles, settings: Settings) -> _Cleaned:
        """Raises DataError where a cell is missing that must not be."""
        cells = parsed.cells
        numeric = {name: parsed.numbers(name) for name in roles.numeric}
        categorical = {name: parsed.categories(name) for name in roles.categorical}
        wrong = dict(targets.wrong)
        for name, column in numeric.items():
            for row in np.flatnonzero(column.stray).tolist():
                wrong.setdefault(row, f"'{parsed.column(name)[row].as_py()}' in column '{name}' is no number")
        keep = np.ones(len(cells), dtype=bool)
        keep[list(wrong)] = False
        bad = [BadSample(cells.where(row), wrong[row]) for row in sorted(wrong)]
        notes = []
        empty = {name: np.isnan(column.values) for name, column in numeric.items()}
        empty |= {name: column.codes < 0 for name, column in categorical.items()}
        if settings.missing == "stop":
            for name, absent in empty.items():
                if count := int((absent & keep).sum()):
                    what = f"{count:,} cells are missing, the first in {cells.where(int((absent & keep).argmax()))}"
                    raise DataError(f"column '{name}'", what, 'Fill them in, or set missing to "mean" or "drop".')
        elif settings.missing == "drop":
            dropped = keep & np.any(list(empty.values()), axis=0)
            keep &= ~dropped
            if dropped.any():
                notes.append(f"{int(dropped.sum()):,} rows with missing cells are left out")
        elif count := sum(int((absent & keep).sum()) for absent in empty.values()):
            notes.append(f"{count:,} cells are missing")
        rows = Rows(
            cells.kept(keep),
            {name: column.values[keep] for name, column in numeric.items()},
            {name: Coded(column.codes[keep], column.names) for name, column in categorical.items()},
            targets.values[keep],
            settings,
        )
        return cls(rows, bad, notes)


def _files(path: Path) -> dict[str, Path]:
    """The file of each part. Raises DataError for a folder that does not say which is which."""
    if not path.is_dir():
        return {"all": path}
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
    if len(files) == 1:
        return {"all": files[0]}
    found: dict[str, Path] = {}
    for file in files:
        part = PARTS.get(file.stem.casefold())
        if part in found:
            what = f"{found[part].name} and {file.name} are both its {part} part"
            raise DataError(str(path), what, "Keep one of them.")
        if part is not None:
            found[part] = file
    if "train" not in found:
        there = ", ".join(file.name for file in files[:5]) or "no table"
        what = f"has no table that says that it is for training ({there})"
        raise DataError(str(path), what, "Call them train, val and test, or let path be one of them.")
    return found


def _read(file: Path, part: str, dialect: Dialect, progress: Progress) -> Cells:
    parquet = file.suffix.lower() == ".parquet"
    place = "row" if parquet else "line"
    place = place if part == "all" else f"{file.name} {place}"
    return read_parquet(file, place, progress) if parquet else read_delimited(file, dialect, place, progress)


def _with_columns(
    parts: Mapping[str, Parsed], inputs: Sequence[str], targets: Sequence[str], where: str
) -> tuple[dict[str, Parsed], list[str]]:
    """The parts that have all columns, and what is to be said of one without a target. Raises DataError."""
    found, notes = dict[str, Parsed](), list[str]()
    for part, parsed in parts.items():
        names = parsed.cells.table.column_names
        if lacking := [name for name in inputs if name not in names]:
            what = f"the {part} part has no column '{lacking[0]}'"
            raise DataError(where, what, "Give it the columns of the train part, or name the column in ignore.")
        if any(name not in names for name in targets):
            notes.append(f"the {part} part does not say '{targets[0]}' and is left out")
        else:
            found[part] = parsed
    return found, notes


def _said(roles: Roles) -> list[str]:
    """What was found out about the columns."""
    said = []
    for kind, names in (("numeric", roles.numeric), ("categorical", roles.categorical)):
        if names:
            said.append(f"{len(names)} {kind} ({_few(names)})")
    if roles.left_out:
        said.append(f"left out {_few([f'{name} ({why})' for name, why in roles.left_out.items()])}")
    return said


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
