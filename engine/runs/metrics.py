"""metrics.sqlite, the file of a run's series, events and facts: its tables, and how they are read and changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import RunError
from engine.insight.histograms import Spread
from engine.paths import to_disk
from engine.runs.history import Event, Series

_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS points (
    series INTEGER NOT NULL, step INTEGER NOT NULL, value REAL, PRIMARY KEY (series, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (step INTEGER NOT NULL, time REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS samples (time REAL NOT NULL, sample TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
# What the points of a long series come to, up to some step of it: a million rows take seconds to read. Runs of before
# have no such table.
CURVES = "CREATE TABLE IF NOT EXISTS curves (series INTEGER PRIMARY KEY, curve BLOB NOT NULL)"
# How layers were spread at some steps, of which there are never many. Runs of before have no such table either.
SPREADS = """CREATE TABLE IF NOT EXISTS spreads (
    step INTEGER NOT NULL, layer TEXT NOT NULL, packed BLOB NOT NULL, PRIMARY KEY (step, layer)
)"""
SET_CURVE = "INSERT OR REPLACE INTO curves VALUES (?, ?)"
SET_FACT = "INSERT OR REPLACE INTO facts VALUES (?, ?)"
_POINT = [("step", "<i8"), ("value", "<f8")]
_FIRST, _LAST = -(2**63), 2**63 - 1
_ROWS = 256  # at most, in one statement


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for reading. Raises RunError when the file is missing or not what it should be."""
    with _understood(path), closing(_connect_to_read(path)) as connection:
        yield connection


@contextmanager
def _changing(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection with a transaction, to a file that nobody else writes. Raises RunError."""
    with _understood(path):
        try:
            with closing(connect(path)) as connection, connection:
                yield connection
        except sqlite3.OperationalError as error:
            raise RunError(str(path), f"can't be written: {error}", "Make room, or mend the folder.") from error


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    if not path.is_file():
        raise RunError(str(path), "is missing", "Check the run's name; see: torch-tui runs.")
    try:
        yield
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:  # sqlite keeps text in columns of numbers
        raise RunError(str(path), f"can't be read: {error}", "The run may be damaged.") from error


def read_facts(path: Path) -> dict[str, Any]:
    """The run's facts. Raises RunError."""
    with reading(path) as connection:
        return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM facts")}


def read_points(path: Path, *, without: str = "\0") -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, steps, values) of each series, but of none that begins with `without`; NULL comes back as NaN.

    Raises RunError.
    """
    with reading(path) as connection:
        for number, name in _series(connection):
            if not name.startswith(without):
                steps, values = _points(connection, number)
                if len(steps):
                    yield name, steps, values


def read_curves(path: Path, *, without: str = "\0") -> dict[str, Series]:
    """The curve of each series that has points, but of none that begins with `without`. Raises RunError."""
    with reading(path) as connection:
        connection.execute("BEGIN")  # another process may be writing: all is read as it is at this moment
        curves = dict(connection.execute("SELECT series, curve FROM curves")) if _has(connection, "curves") else {}
        named = [(number, name) for number, name in _series(connection) if not name.startswith(without)]
        read = {name: _curve(connection, number, curves.get(number)) for number, name in named}
        return {name: series for name, series in read.items() if series.count}


def read_spreads(path: Path) -> dict[int, dict[str, Spread]]:
    """How each layer was spread, by step, ascending; what is damaged is left out. Raises RunError."""
    with reading(path) as connection:
        found: dict[int, dict[str, Spread]] = {}
        if _has(connection, "spreads"):
            for step, layer, packed in connection.execute("SELECT step, layer, packed FROM spreads ORDER BY step"):
                if (spread := Spread.unpacked(packed)) is not None:
                    found.setdefault(int(step), {})[str(layer)] = spread
        return found


def read_last(path: Path, within: str) -> Iterator[tuple[str, int, float]]:
    """(name, step, value) of the last point of each series that begins with `within`. Raises RunError."""
    with reading(path) as connection:
        for number, name in _series(connection):
            last = _last_step(connection, number) if name.startswith(within) else None
            if last is not None:
                yield name, last, float(_points(connection, number, last)[1][0])


def read_events(path: Path) -> list[Event]:
    """The run's events, oldest first. Raises RunError."""
    with reading(path) as connection:
        return [Event(*row) for row in connection.execute("SELECT step, kind, text, time FROM events ORDER BY rowid")]


def forget_after(path: Path, step: int) -> None:
    """Remove what a run recorded after `step`, so that a resumed run records it anew."""
    with _changing(path) as connection:
        forget(connection, step)


def copy_until(source: Path, target: Path, step: int, facts: Mapping[str, Any]) -> None:
    """Make `target`, which is new, hold what `source` recorded up to `step`, with `facts` in place of its own.

    Raises RunError or OSError.
    """
    with reading(source) as connection, closing(connect(target, synchronous="OFF")) as copy, copy:
        connection.backup(copy)
        forget(copy, step)
        copy.execute("DELETE FROM facts")
        copy.execute("DELETE FROM samples")
        copy.executemany(SET_FACT, fact_rows(facts))
    to_disk(target)


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Set facts of a run that nobody trains. Raises RunError."""
    with _changing(path) as connection:
        connection.executemany(SET_FACT, fact_rows(facts))


def _has(connection: sqlite3.Connection, table: str) -> bool:
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone())


def forget(connection: sqlite3.Connection, step: int) -> None:
    """Remove what was recorded after `step`."""
    connection.execute(CURVES)
    connection.execute(SPREADS)
    for number, packed in connection.execute("SELECT series, curve FROM curves").fetchall():
        _cut(connection, number, packed, step)
    for number, _ in _series(connection):  # one by one: over all of them sqlite would look at every row
        connection.execute("DELETE FROM points WHERE series = ? AND step > ?", (number, step))
    connection.execute("DELETE FROM events WHERE step > ?", (step,))
    connection.execute("DELETE FROM spreads WHERE step > ?", (step,))


def _cut(connection: sqlite3.Connection, number: int, packed: object, step: int) -> None:
    """Make a series' curve what its points come to up to `step`; those after it must still be there."""
    series, last = Series.unpacked(packed), _last_step(connection, number, step)
    if series is None or series.last_step is None or last is None:
        connection.execute("DELETE FROM curves WHERE series = ?", (number,))
    elif series.last_step > step:
        ended, first = series.last_step, series.cut(last)
        counted = "SELECT count(*) FROM points WHERE series = ? AND step BETWEEN ? AND ?"
        series.count -= connection.execute(counted, (number, first, ended)).fetchone()[0]
        series.extend(*_points(connection, number, first, last))
        if series.fits_finer:  # what is left of a long run, in its wide buckets: all points are looked at once more
            connection.execute("DELETE FROM curves WHERE series = ?", (number,))
        else:
            connection.execute(SET_CURVE, (number, series.packed()))


def _curve(connection: sqlite3.Connection, number: int, packed: object) -> Series:
    """One series: as it was packed and the points since, or of all its points where that can't be had."""
    series = Series.unpacked(packed)
    if series is not None and series.last_step is not None:
        steps, values = _points(connection, number, series.last_step)
        if len(steps) and steps[0] == series.last_step:
            series.last = float(values[0])
            series.extend(steps[1:], values[1:])
            return series
    series = Series()
    series.extend(*_points(connection, number))
    return series


def _series(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    """(id, name) of each series, in the order of their making."""
    return connection.execute("SELECT id, name FROM series ORDER BY id").fetchall()


def _points(
    connection: sqlite3.Connection, number: int, first: int = _FIRST, last: int = _LAST
) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of a series from step `first` to `last`."""
    rows = "SELECT step, value FROM points WHERE series = ? AND step BETWEEN ? AND ? ORDER BY step"
    table = np.fromiter(connection.execute(rows, (number, first, last)), _POINT)  # a list of them is 130 bytes a row
    return table["step"], table["value"]


def _last_step(connection: sqlite3.Connection, number: int, until: int = _LAST) -> int | None:
    """The last step of a series that is not after `until`."""
    greatest = "SELECT max(step) FROM points WHERE series = ? AND step <= ?"
    (step,) = connection.execute(greatest, (number, until)).fetchone()
    return None if step is None else int(step)


def insert(connection: sqlite3.Connection, number: int, steps: list[int], values: list[float]) -> None:
    """Write the points of a series, in few statements.

    sqlite3 gives Python's lock away in each, and a thread that computes may keep it for 5 ms: beside one, a statement a
    row was seen to fall to 1,300 rows a second, a hundred rows in one to 17,000. With nobody there it is 1 and 2.6
    million.
    """
    done = 0
    while done < len(steps):
        count = min(_ROWS, 1 << ((len(steps) - done).bit_length() - 1))  # a power of two: few texts, each parsed once
        row: list[float] = [number] * (3 * count)
        row[1::3], row[2::3] = steps[done : done + count], values[done : done + count]
        connection.execute(_insertion(count), row)
        done += count


@cache
def _insertion(rows: int) -> str:
    return "INSERT OR REPLACE INTO points VALUES " + ", ".join(["(?, ?, ?)"] * rows)


def fact_rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts as SET_FACT takes them."""
    return [(key, json.dumps(value)) for key, value in values.items()]


def make(path: Path) -> None:
    """An empty file of metrics, made aside: a process that is killed leaves one with its tables, or none.

    It is synced once, before it has its name: sqlite on its own would wait for the disk eight times.
    """
    aside = path.with_name(f".writing-{path.name}")
    for left in (aside, aside.with_name(f"{aside.name}-wal"), aside.with_name(f"{aside.name}-shm")):
        left.unlink(missing_ok=True)
    with closing(connect(aside, synchronous="OFF")) as connection:
        connection.executescript(_SCHEMA)
    to_disk(aside)
    aside.rename(path)


def connect(path: Path, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """A connection that waits five seconds for a lock. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous={synchronous}")  # first: making a file of WAL mode syncs as well
    connection.execute("PRAGMA journal_mode=WAL")
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that needs no room and no right to write, where no rows wait in a log beside the file.

    In WAL mode sqlite makes files beside one that it only reads, which can't be on a disk that is full or read-only, or
    in another person's folder.
    """
    try:
        return connect(path)
    except sqlite3.OperationalError:
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise
        return sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
