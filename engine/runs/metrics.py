"""metrics.sqlite: a run's series, events and facts, written in batches by a thread, at most a second behind."""

from __future__ import annotations

import json
import math
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import RunError
from engine.runs.history import Event

_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS points (
    series INTEGER NOT NULL, step INTEGER NOT NULL, value REAL, PRIMARY KEY (series, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (step INTEGER NOT NULL, time REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS samples (time REAL NOT NULL, sample TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_FLUSH_S = 0.4
_LAST_TRIES = 3  # at the end, each as long as sqlite waits for a lock
_END = None

_SET_FACT = "INSERT OR REPLACE INTO facts VALUES (?, ?)"
Work = Callable[[sqlite3.Connection], None]


class MetricsWriter:
    """Takes rows from the engine thread without waiting, and commits them twice a second from a thread of its own.

    A failing disk does not stop the training: the rows wait in memory and `on_trouble` is told once, and once more when
    writing works again.
    """

    def __init__(self, path: Path, on_trouble: Callable[[str], None], facts: Mapping[str, Any] | None = None) -> None:
        """`facts` are on disk when this returns: whoever looks at the run knows whose it is.

        Raises sqlite3.Error or OSError.
        """
        self._on_trouble = on_trouble
        self._queue: queue.SimpleQueue[Work | threading.Event | None] = queue.SimpleQueue()
        self._flushes: list[threading.Event] = []
        self._ids: dict[str, int] = {}
        self._thread = threading.Thread(target=self._write, name="metrics", daemon=True)
        # Opened here, so that a folder that can't be written is the caller's error and not a dead thread.
        if not path.exists():
            _make(path)
        self._connection = _connect(path)
        with self._connection:
            self._connection.executemany(_SET_FACT, _fact_rows(facts or {}))
        self._ids.update((name, number) for number, name in self._connection.execute("SELECT id, name FROM series"))
        self._thread.start()

    def points(self, name: str, steps: np.ndarray, values: np.ndarray) -> None:
        """Values of one series; a value that is not finite is stored as NULL."""

        finite = [value if math.isfinite(value) else None for value in values.tolist()]

        def work(connection: sqlite3.Connection) -> None:
            rows = zip([self._id(connection, name)] * len(steps), steps.tolist(), finite, strict=True)
            connection.executemany("INSERT OR REPLACE INTO points VALUES (?, ?, ?)", rows)

        self._queue.put(work)

    def event(self, event: Event) -> None:
        """One event."""
        row = (event.step, event.time, event.kind, event.text)
        self._queue.put(lambda connection: _run(connection, "INSERT INTO events VALUES (?, ?, ?, ?)", row))

    def sample(self, moment: float, values: Mapping[str, Any]) -> None:
        """One sample of the devices."""
        row = (moment, json.dumps(values))
        self._queue.put(lambda connection: _run(connection, "INSERT INTO samples VALUES (?, ?)", row))

    def facts(self, values: Mapping[str, Any]) -> None:
        """Set facts such as the run's state."""
        rows = _fact_rows(values)

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_SET_FACT, rows)

        self._queue.put(work)

    def mark(self) -> Callable[[], None]:
        """A wait until all that was recorded up to now is on disk, to be called by any thread, at any time.

        It lasts at most a second: a disk in trouble must hold neither the training nor its checkpoints.
        """
        written = threading.Event()
        self._queue.put(written)

        def wait() -> None:
            written.wait(1.0)

        return wait

    def forget_after(self, step: int) -> None:
        """Remove what was recorded after `step`, what waits in memory included."""
        self._queue.put(lambda connection: _forget(connection, step))

    def flush(self) -> None:
        """Wait until all of it is on disk, at most a second."""
        self.mark()()

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._queue.put(_END)
        self._thread.join()

    def _id(self, connection: sqlite3.Connection, name: str) -> int:
        if name not in self._ids:
            connection.execute("INSERT OR IGNORE INTO series (name) VALUES (?)", (name,))
            self._ids[name] = connection.execute("SELECT id FROM series WHERE name = ?", (name,)).fetchone()[0]
        return self._ids[name]

    def _write(self) -> None:
        waiting: list[Work] = []
        troubled = ending = False
        last_tries = _LAST_TRIES
        with closing(self._connection) as connection:
            while True:
                ending = self._collect(waiting) or ending
                try:
                    with connection:
                        for work in waiting:
                            work(connection)
                    waiting.clear()
                    if self._flushes:  # a commit alone is only safe from a kill; this is from the loss of power too
                        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                    if troubled:
                        self._on_trouble("metrics are written again")
                    troubled = False
                except sqlite3.Error as error:
                    self._ids.clear()  # an id given out in the transaction that failed is not there
                    if not troubled:
                        self._on_trouble(f"metrics can't be written: {error}; they wait in memory")
                    troubled = True
                for written in self._flushes:
                    written.set()
                self._flushes.clear()
                if ending and waiting and last_tries:
                    last_tries -= 1
                elif ending:
                    if waiting:
                        self._on_trouble(f"the last {len(waiting)} entries of the metrics are lost")
                    return

    def _collect(self, waiting: list[Work]) -> bool:
        """Move work from the queue until there was some for a while; true when the end is asked for."""
        deadline = time.monotonic() + _FLUSH_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                work = self._queue.get(timeout=left)
            except queue.Empty:
                return False
            if work is _END:
                return True
            if isinstance(work, threading.Event):
                self._flushes.append(work)
                return False
            waiting.append(work)
        return False


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for reading. Raises RunError when the file is missing or not what it should be."""
    if not path.is_file():
        raise RunError(str(path), "is missing", "Check the run's name; see: torch-tui runs.")
    try:
        with closing(_connect(path)) as connection:
            yield connection
    except sqlite3.Error as error:
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
        for number, name in connection.execute("SELECT id, name FROM series ORDER BY id").fetchall():
            if name.startswith(without):
                continue
            rows = connection.execute(
                "SELECT step, value FROM points WHERE series = ? ORDER BY step", (number,)
            ).fetchall()
            if rows:
                table = np.array(rows, dtype=np.float64)
                yield name, table[:, 0].astype(np.int64), table[:, 1]


def read_events(path: Path) -> list[Event]:
    """The run's events, oldest first. Raises RunError."""
    with reading(path) as connection:
        rows = connection.execute("SELECT step, kind, text, time FROM events ORDER BY rowid")
        return [Event(*row) for row in rows]


def forget_after(path: Path, step: int) -> None:
    """Remove what a run recorded after `step`, so that a resumed run records it anew."""
    with reading(path) as connection, connection:
        _forget(connection, step)


def copy_until(source: Path, target: Path, step: int) -> None:
    """Make `target` hold the series and events of `source` up to `step`, and none of its facts. Raises RunError."""
    with reading(source) as connection, closing(_connect(target)) as copy, copy:
        connection.backup(copy)
        _forget(copy, step)
        copy.execute("DELETE FROM facts")
        copy.execute("DELETE FROM samples")


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Set facts of a run that nobody trains. Raises RunError."""
    with reading(path) as connection, connection:
        connection.executemany(_SET_FACT, _fact_rows(facts))


def _forget(connection: sqlite3.Connection, step: int) -> None:
    connection.execute("DELETE FROM points WHERE step > ?", (step,))
    connection.execute("DELETE FROM events WHERE step > ?", (step,))


def _fact_rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, json.dumps(value)) for key, value in values.items()]


def _run(connection: sqlite3.Connection, statement: str, row: tuple[Any, ...]) -> None:
    connection.execute(statement, row)


def _make(path: Path) -> None:
    """An empty file of metrics, made aside: a process that is killed leaves one with its tables, or none."""
    aside = path.with_name(f".writing-{path.name}")
    for left in (aside, aside.with_name(f"{aside.name}-wal"), aside.with_name(f"{aside.name}-shm")):
        left.unlink(missing_ok=True)
    with closing(_connect(aside)) as connection:
        connection.executescript(_SCHEMA)
    aside.rename(path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection
