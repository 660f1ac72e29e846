"""A table that says of each picture what it shows: the name of a file, a label or numbers, and columns to group by."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.data.formats.tabular.delimited import Dialect, read_delimited
from engine.data.pictures.names import Names, shown
from engine.data.samples import BadSample, Progress
from engine.errors import DataError, nearest
from engine.recipe import TaskName

_LABELS = ("label", "class", "target", "category", "y")
TABLES = (b".csv", b".tsv")
_TRIED = 50  # rows in which the column of files is looked for


@dataclass(frozen=True)
class Labelled:
    """Which pictures have a label: their numbers, and beside each its label (as text, or numbers to predict).

    `columns` are all other columns of the table.
    """

    numbers: np.ndarray
    labels: Sequence[str] | np.ndarray
    columns: Mapping[str, np.ndarray]
    bad: Sequence[BadSample]


def labelled(
    file: Path,
    names: Names,
    task: TaskName,
    file_column: str,
    label_columns: Sequence[str],
    encoding: str,
    progress: Progress,
) -> Labelled:
    """Read the table `file` and find its pictures among `names`. Raises DataError for a table that can't be used.

    A row without a picture or a label, a picture without a row and one with two are told of one by one.
    """
    table = read_delimited(file, Dialect(encoding), f"{file.name} line", progress)
    header = table.table.column_names
    if len(header) < 2:
        raise DataError(str(file), f"has one column, {header[0]!r}", "Give it one of files and one of labels.")
    rows = list(zip(*(column.to_pylist() for column in table.table.columns), strict=True))
    known = _by_name(names)
    files = (
        _column(file, header, file_column, "data.options.file_column")
        if file_column
        else _files(file, header, rows, known)
    )
    wanted = [_column(file, header, name, "data.options.label_column") for name in label_columns]
    wanted = wanted or [_labels(file, header, files)]
    bad = list(table.bad)
    numbers: list[int] = []
    labels: list[list[str]] = []
    lines: list[Sequence[str]] = []
    taken: dict[int, int] = {}
    mentioned: set[int] = set()
    for row, (line, cells) in enumerate(zip(table.numbers.tolist(), rows, strict=True)):
        place = table.where(row)
        number = known.get(_key(cells[files]))
        label = [cells[column].strip() for column in wanted]
        if number is not None:
            mentioned.add(number)
        if number is None:
            bad.append(BadSample(place, f"names {cells[files]!r}, which is no picture in the folder"))
        elif number in taken:
            bad.append(BadSample(place, f"names {cells[files]!r} again, as line {taken[number]} does"))
        elif why := _unfit(label, task):
            bad.append(BadSample(place, why))
        else:
            taken[number] = line
            numbers.append(number)
            labels.append(label)
            lines.append(cells)
    without = sorted(set(range(len(names))) - mentioned)
    bad.extend(BadSample(names[number], f"has no line in {file.name}") for number in without)
    if not numbers:
        first = f", the first of them: {bad[0]}" if bad else ""
        raise DataError(
            str(file), f"none of its {len(rows)} lines has a picture and a label{first}", "Look at its columns."
        )
    others = {name: column for column, name in enumerate(header) if column != files and column not in wanted}
    return Labelled(
        np.array(numbers),
        np.array(labels, dtype=np.float64) if task == "regression" else [label[0] for label in labels],
        {name: np.array([cells[column] for cells in lines]) for name, column in others.items()},
        bad,
    )


def _key(cell: str) -> bytes:
    """A cell as the name of a file, relative to the folder. Whatever leads out of it is found nowhere."""
    return os.path.normpath(os.fsencode(cell.strip().replace("\\", "/")))


def _by_name(names: Names) -> dict[bytes, int]:
    """Each picture's number by where it lies; without suffix and folders too, where that names one alone."""
    exact = {names.relative(number): number for number in range(len(names))}
    found: dict[bytes, int] = {}
    twice: set[bytes] = set()
    for name, number in exact.items():
        stem, base = os.path.splitext(name)[0], os.path.basename(name)
        for each in {stem, base, os.path.splitext(base)[0]} - {name}:
            if each in found:
                twice.add(each)
            found[each] = number
    return {name: number for name, number in found.items() if name not in twice} | exact


def _column(file: Path, header: Sequence[str], name: str, where: str) -> int:
    if name in header:
        return header.index(name)
    raise DataError(
        where, f"{file.name} has no column {name!r}", nearest(name, header) or f"It has {', '.join(header)}."
    )


def _files(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]], known: Mapping[bytes, int]) -> int:
    """The column that names the most pictures of the folder."""
    counts = [sum(_key(cells[column]) in known for cells in rows[:_TRIED]) for column in range(len(header))]
    if not any(counts):
        what = f"no column names pictures of the folder: it has {', '.join(header)}"
        raise DataError(str(file), what, "Name files as they lie in the folder, such as cats/1.jpg.")
    return counts.index(max(counts))


def _labels(file: Path, header: Sequence[str], files: int) -> int:
    """The column of labels: the only other one, or the one that is called so."""
    others = [column for column in range(len(header)) if column != files]
    named = [column for column in others if header[column].lower() in _LABELS]
    chosen = others if len(others) == 1 else named
    if len(chosen) != 1:
        raise DataError(
            str(file), f"has several columns: {', '.join(header)}", "Say which are labels: options.label_column."
        )
    return chosen[0]


def _unfit(label: Sequence[str], task: TaskName) -> str:
    """Why a line's labels can't be learned; empty where they can."""
    if not all(label):
        return "has no label"
    if task != "regression":
        return ""
    for cell in label:
        try:
            number = float(cell)
        except ValueError:
            return f"{cell!r} is no number"
        if not math.isfinite(number):
            return f"{cell} is no number to learn"
    return ""


def find_labels(folder: Path, given: str, others: Sequence[bytes]) -> Path:
    """The table of labels: the one that is `given`, else the only CSV in the folder, else one beside it.

    `others` are the files in the folder that are no pictures. Raises DataError.
    """
    if given:
        tried = [folder / given, folder.parent / given]
    else:
        tables = [shown(name) for name in others if name.lower().endswith(TABLES)]
        if len(tables) > 1:
            raise DataError(
                f"data.path: {folder}", f"has several tables: {', '.join(tables)}", "Say which: options.labels."
            )
        tried = [
            *(folder / name for name in tables),
            folder.parent / f"{folder.name}.csv",
            folder.parent / "labels.csv",
        ]
    found = next((file for file in tried if file.is_file()), None)
    if found is not None:
        return found
    if given:
        raise DataError("data.options.labels", f"there is no {given} in {folder} or beside it", "Check the name.")
    raise DataError(
        f"data.path: {folder}",
        "has pictures, but nothing says what they show: no folder for each class, no table of labels",
        "Make a folder for each class, or a labels.csv with a column of files and one of labels.",
    )
