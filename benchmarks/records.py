"""What it costs to record a training, and to open a long one.

    python benchmarks/records.py

Rows written a second and what the training thread spends on a step's values, beside a plain sqlite3 executemany of the
same rows in the same run; then runs of 1,000 and 1,000,000 steps with six metrics: how long it takes to open one that
was closed, one that was killed just before its curves would have been kept again, and one from all its points, as those
are opened that were recorded before curves were kept.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import numpy as np

from engine.recipe import Recipe
from engine.runs.directory import RunDirectory
from engine.runs.history import History
from engine.runs.recorder import Recorder

_STEPS, _READ, _ROUNDS = 200_000, 100, 5
_NAMES = ("loss", "accuracy", "a", "b", "c", "d")


def plain(folder: Path) -> float:
    """Rows a second of sqlite3 alone, in batches as large as ours."""
    with closing(sqlite3.connect(folder / "plain.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE p (s INTEGER, t INTEGER, v REAL, PRIMARY KEY (s, t)) WITHOUT ROWID")
        rows = [(1, step, step * 1e-6) for step in range(_STEPS)]
        began = time.perf_counter()
        for first in range(0, _STEPS, 20_000):
            with connection:
                connection.executemany("INSERT OR REPLACE INTO p VALUES (?, ?, ?)", rows[first : first + 20_000])
        return _STEPS / (time.perf_counter() - began)


def ours(folder: Path) -> tuple[float, float]:
    """(rows a second until all is on disk, microseconds of the training thread a step of two metrics)."""
    directory = _directory(folder)
    recorder = Recorder(History(), directory)
    values = np.random.default_rng(0).random(_READ)
    spent, began = 0.0, time.perf_counter()
    for first in range(0, _STEPS // 2, _READ):
        told = time.perf_counter()
        recorder.values("train", np.arange(first, first + _READ), {"loss": values, "accuracy": values})
        spent += time.perf_counter() - told
    recorder.close()
    return _STEPS / (time.perf_counter() - began), spent / (_STEPS / 2) * 1e6


def record(folder: Path, steps: int) -> tuple[RunDirectory, Recorder]:
    """A run with `steps` steps of six metrics that all lie on disk, not closed yet."""
    directory = _directory(folder)
    recorder = Recorder(History(), directory)
    values = np.random.default_rng(0).random(_READ)
    for first in range(0, steps, _READ):
        recorder.values("train", np.arange(first, first + _READ), dict.fromkeys(_NAMES, values))
    recorder.facts(steps=steps)
    while directory.status().facts.get("steps") != steps:
        recorder.mark()()
    return directory, recorder


def opened(directory: RunDirectory, steps: int) -> float:
    """Seconds to open a run, the median of a few."""
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        history = directory.history()
        seconds.append(time.perf_counter() - began)
        assert [series.count for series in history.series.values()] == [steps] * len(_NAMES)
    return statistics.median(seconds)


def long_run(folder: Path, steps: int) -> str:
    """Seconds to open a run of `steps` steps in each of three ways, and how large it is in memory and on disk."""
    directory, recorder = record(folder, steps - _READ)
    killed = opened(directory, steps - _READ)
    recorder.close()
    directory, recorder = record(folder, steps)
    recorder.close()
    closed = opened(directory, steps)
    tracemalloc.start()
    history = directory.history()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(history.series) == len(_NAMES)
    with closing(sqlite3.connect(directory.metrics_file)) as connection, connection:
        (kept,) = connection.execute("SELECT total(length(curve)) FROM curves").fetchone()
        connection.execute("DELETE FROM curves")
    size = directory.metrics_file.stat().st_size
    return (
        f"{closed:.3f} s to open · {killed:.3f} s killed · {opened(directory, steps):.3f} s from all points · "
        f"{held / 1e6:.1f} MB of curves · {kept / 1e6:.1f} of {size / 1e6:.0f} MB on disk are kept curves"
    )


def _directory(folder: Path) -> RunDirectory:
    recipe = Recipe.from_values(
        {"task": "regression", "data": {"name": "line"}, "model": {"layers": [{"name": "Linear"}]}}
    )
    return RunDirectory.create(folder, "records", recipe, "cpu")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        measured, alone = [], []
        for number in range(_ROUNDS):
            folder = Path(name) / str(number)
            folder.mkdir()
            alone.append(plain(folder))
            measured.append(ours(folder))
        rows, micro = (statistics.median(column) for column in zip(*measured, strict=True))
        plainly = statistics.median(alone)
        print(f"rows written      {rows:10,.0f}/s, {rows / plainly:.2f} of sqlite3 alone ({plainly:,.0f}/s)")
        print(f"training thread   {micro:10.2f} µs a step of two metrics, told in hundreds")
        for steps in (1_000, 1_000_000):
            print(f"{steps:9,} steps   {long_run(Path(name), steps)}")


if __name__ == "__main__":
    main()
