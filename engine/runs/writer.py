"""Writes a run's series, events and facts in batches, in a thread of its own, at most a second behind."""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from engine.runs.history import Event
from engine.runs.metrics import CURVES, SET_CURVE, SET_FACT, SPREADS, connect, fact_rows, forget, insert, make

_FLUSH_S = 0.4
_LAST_TRIES = 3  # at the end, each as long as sqlite waits for a lock
_END = None
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
            make(path)
        self._connection = connect(path)
        with self._connection:
            self._connection.execute(CURVES)
            self._connection.execute(SPREADS)
            self._connection.executemany(SET_FACT, fact_rows(facts or {}))
        self._ids.update((name, number) for number, name in self._connection.execute("SELECT id, name FROM series"))
        self._thread.start()

    def points(self, name: str, steps: np.ndarray, values: np.ndarray) -> None:
        """Values of one series; a value that is not finite is stored as NULL."""
        steps, values = steps.copy(), np.array(values, np.float64)

        def work(connection: sqlite3.Connection) -> None:
            values[~np.isfinite(values)] = np.nan  # which sqlite takes for NULL
            insert(connection, self._id(connection, name), steps.tolist(), values.tolist())

        self._queue.put(work)

    def curve(self, name: str, packed: bytes) -> None:
        """What all points of one series come to that were handed over up to now, as `Series.packed` gives it."""
        self._queue.put(lambda connection: _run(connection, SET_CURVE, (self._id(connection, name), packed)))

    def spreads(self, step: int, packed: Mapping[str, bytes], dropped: Collection[int]) -> None:
        """How each layer is spread at `step`, as `Spread.packed` gives it; those of the `dropped` steps are removed."""

        def work(connection: sqlite3.Connection) -> None:
            rows = [(step, layer, spread) for layer, spread in packed.items()]
            connection.executemany("INSERT OR REPLACE INTO spreads VALUES (?, ?, ?)", rows)
            connection.executemany("DELETE FROM spreads WHERE step = ?", [(each,) for each in dropped])

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
        rows = fact_rows(values)

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(SET_FACT, rows)

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
        self._queue.put(lambda connection: forget(connection, step))

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
        """Move work from the queue until there was some for a while, or somebody waits; true when the end is asked for.

        One commit serves all who wait by then: one for each would leave a slow disk ever further behind.
        """
        deadline = time.monotonic() + _FLUSH_S
        while self._flushes or time.monotonic() < deadline:
            try:
                work = self._queue.get(timeout=0 if self._flushes else max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return False
            if work is _END:
                return True
            if isinstance(work, threading.Event):
                self._flushes.append(work)
            else:
                waiting.append(work)
        return False


def _run(connection: sqlite3.Connection, statement: str, row: tuple[Any, ...]) -> None:
    connection.execute(statement, row)
