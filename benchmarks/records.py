"""What it costs to record a training, and to open a long one.

    python benchmarks/records.py

Rows written a second and what the training thread spends on a step's values, beside a plain sqlite3 executemany of the
same rows in the same run; then a run of 1,000,000 steps with six metrics: its file is opened, its curves are held.
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


def long_run(folder: Path, steps: int) -> tuple[float, float]:
    """(seconds to open, megabytes of the curves) of a run with `steps` steps of six metrics."""
    directory = _directory(folder)
    recorder = Recorder(History(), directory)
    values = np.random.default_rng(0).random(10_000)
    for first in range(0, steps, len(values)):
        recorder.values("train", np.arange(first, first + len(values)), dict.fromkeys(_NAMES, values))
    recorder.state("done", steps=steps)
    recorder.close()
    began = time.perf_counter()
    directory.history()
    seconds = time.perf_counter() - began
    tracemalloc.start()
    history = directory.history()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(history.series) == len(_NAMES)
    return seconds, held / 1e6


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
            seconds, megabytes = long_run(Path(name), steps)
            print(f"{steps:9,} steps   {seconds:10.3f} s to open, {megabytes:.1f} MB of curves")


if __name__ == "__main__":
    main()
