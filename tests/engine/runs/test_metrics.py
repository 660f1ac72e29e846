from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from small_runs import finish, line, start, wait_for

from engine.errors import RunError
from engine.runs.history import Event
from engine.runs.metrics import forget_after, read_events, read_facts, read_points, reading
from engine.runs.writer import MetricsWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.sqlite"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def writer(path: Path, said: list[str]) -> Iterator[MetricsWriter]:
    made = MetricsWriter(path, said.append)
    yield made
    if made._thread.is_alive():
        made.close()


def put(writer: MetricsWriter, name: str, first: int, *values: float) -> None:
    writer.points(name, np.arange(first, first + len(values)), np.array(values, dtype=np.float64))


def points(path: Path) -> dict[str, dict[int, float]]:
    return {name: dict(zip(s.tolist(), v.tolist(), strict=True)) for name, s, v in read_points(path)}


class TestWriting:
    def test_points_events_and_facts_come_back(self, writer: MetricsWriter, path: Path) -> None:
        put(writer, "train/loss", 1, 3.0, 2.0)
        put(writer, "val/loss", 2, 2.5)
        put(writer, "train/loss", 3, 1.0)
        writer.event(Event(2, "lr", "changed", 5.0))
        writer.facts({"state": "training", "summary": {"best": None}})
        writer.facts({"state": "done"})
        writer.close()

        assert points(path) == {"train/loss": {1: 3.0, 2: 2.0, 3: 1.0}, "val/loss": {2: 2.5}}
        assert read_events(path) == [Event(2, "lr", "changed", 5.0)]
        assert read_facts(path) == {"state": "done", "summary": {"best": None}}

    def test_what_is_not_finite_is_null_and_comes_back_as_nan(self, writer: MetricsWriter, path: Path) -> None:
        put(writer, "train/loss", 1, math.nan, math.inf, -math.inf, 1.0)
        writer.close()

        with reading(path) as connection:
            stored = [value for (value,) in connection.execute("SELECT value FROM points ORDER BY step")]
        assert stored == [None, None, None, 1.0]
        (_, _, values), *_ = read_points(path)
        assert np.isnan(values).tolist() == [True, True, True, False]

    def test_a_value_recorded_again_takes_the_place_of_the_first(self, writer: MetricsWriter, path: Path) -> None:
        put(writer, "val/loss", 5, 1.0)
        put(writer, "val/loss", 5, 2.0)
        writer.close()

        assert points(path) == {"val/loss": {5: 2.0}}

    def test_a_second_writer_goes_on_with_the_same_series(self, writer: MetricsWriter, path: Path) -> None:
        put(writer, "a", 1, 1.0)
        writer.close()
        second = MetricsWriter(path, pytest.fail)
        put(second, "b", 1, 5.0)
        put(second, "a", 2, 2.0)
        second.close()

        assert points(path) == {"a": {1: 1.0, 2: 2.0}, "b": {1: 5.0}}

    def test_what_was_flushed_is_on_disk_at_once(self, writer: MetricsWriter, path: Path) -> None:
        began = time.monotonic()
        for step in range(1, 11):
            put(writer, "train/loss", step, 1.0)
            writer.flush()
            assert len(points(path)["train/loss"]) == step

        assert time.monotonic() - began < 2.0

    def test_a_mark_is_waited_for_in_another_thread_and_holds_nothing_up(
        self, writer: MetricsWriter, path: Path
    ) -> None:
        put(writer, "train/loss", 1, 1.0)
        began = time.monotonic()
        wait = writer.mark()
        marked = time.monotonic() - began
        put(writer, "train/loss", 2, 1.0)  # of later: not waited for, and no harm if it is there
        seen: list[int] = []
        thread = threading.Thread(target=lambda: (wait(), seen.append(len(points(path)["train/loss"]))))

        thread.start()
        thread.join(5)

        assert marked < 0.05
        assert seen[0] >= 1
        wait()  # it holds for ever after

    def test_a_mark_is_waited_for_for_a_second_at_most(self, writer: MetricsWriter, path: Path) -> None:
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")  # now the writer waits for five seconds
            put(writer, "train/loss", 1, 1.0)
            wait = writer.mark()
            began = time.monotonic()
            wait()
            waited = time.monotonic() - began

        assert 0.5 < waited < 2.0

    def test_one_commit_serves_all_who_wait_for_a_disk_that_is_behind(self, writer: MetricsWriter, path: Path) -> None:
        statements: list[str] = []
        writer._connection.set_trace_callback(statements.append)
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")  # the writer waits
            for step in range(1, 31):
                put(writer, "train/loss", step, 1.0)
                wait = writer.mark()
        wait()

        assert len(points(path)["train/loss"]) == 30
        assert statements.count("COMMIT") <= 3

    def test_facts_given_at_the_start_are_on_disk_at_once(self, path: Path) -> None:
        writer = MetricsWriter(path, pytest.fail, {"pid": 5})

        assert read_facts(path) == {"pid": 5}
        writer.close()

    def test_rows_are_on_disk_within_a_second(self, writer: MetricsWriter, path: Path) -> None:
        put(writer, "train/loss", 1, 1.0)
        began = time.monotonic()

        wait_for(lambda: points(path))

        assert time.monotonic() - began < 1.0

    def test_a_training_is_at_most_a_second_ahead_of_its_file(self, root: Path) -> None:
        job = start(line({"training.epochs": 100_000, "training.checkpoint_every": "1 h"}), root)
        try:
            wait_for(lambda: job.history.progress.step > 0)
            for _ in range(3):
                step = job.history.progress.step
                time.sleep(1.0)
                with reading(job.directory.metrics_file) as connection:
                    (written,) = connection.execute(
                        "SELECT max(step) FROM points JOIN series ON id = series WHERE name = 'train/loss'"
                    ).fetchone()
                assert written >= step
        finally:
            job.control.stop()
            finish(job)

    def test_a_reader_sees_whole_commits_while_it_is_written(self, writer: MetricsWriter, path: Path) -> None:
        lengths: list[int] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                lengths.append(len(points(path).get("train/loss", {})))

        reader = threading.Thread(target=read)
        reader.start()
        for first in range(1, 20_001, 1000):
            put(writer, "train/loss", first, *range(1000))
            time.sleep(0.05)
        writer.close()
        done.set()
        reader.join()

        assert lengths == sorted(lengths)
        assert all(length % 1000 == 0 for length in lengths)
        assert len(points(path)["train/loss"]) == 20_000


class TestTrouble:
    def test_a_locked_file_is_said_once_and_loses_no_row(
        self, writer: MetricsWriter, path: Path, said: list[str]
    ) -> None:
        put(writer, "before", 1, 1.0)
        wait_for(lambda: points(path))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            put(writer, "train/loss", 1, 1.0)
            writer.event(Event(1, "lr", "once"))
            wait_for(lambda: said)  # sqlite itself waits five seconds for a lock
            put(writer, "train/loss", 2, 2.0)
            time.sleep(1.0)
            other.execute("ROLLBACK")
        wait_for(lambda: len(said) == 2)
        writer.close()

        assert said == [
            "metrics can't be written: database is locked; they wait in memory",
            "metrics are written again",
        ]
        assert points(path) == {"before": {1: 1.0}, "train/loss": {1: 1.0, 2: 2.0}}
        assert [event.text for event in read_events(path)] == ["once"]

    def test_a_file_locked_at_the_end_is_tried_again(self, writer: MetricsWriter, path: Path, said: list[str]) -> None:
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            release = threading.Timer(6.5, lambda: other.execute("ROLLBACK"))
            release.start()
            put(writer, "train/loss", 1, 1.0)
            writer.close()
            release.join()

        assert said[-1] == "metrics are written again"
        assert points(path) == {"train/loss": {1: 1.0}}

    def test_what_can_never_be_written_is_said_to_be_lost(
        self, writer: MetricsWriter, path: Path, said: list[str]
    ) -> None:
        with closing(sqlite3.connect(path)) as other:
            other.executescript("DROP TABLE points")
        put(writer, "train/loss", 1, 1.0)
        put(writer, "train/loss", 2, 1.0)

        writer.close()

        assert len(said) == 2
        assert said[-1] == "the last 2 entries of the metrics are lost"


class TestReading:
    def test_a_missing_file_says_so(self, path: Path) -> None:
        with pytest.raises(RunError, match=r"metrics\.sqlite: is missing"):
            read_facts(path)
        assert not path.exists()

    @pytest.mark.parametrize("content", [b"", b"not a database at all, but text that is long enough" * 9])
    def test_a_file_of_something_else_says_so(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)

        for read in (read_facts, read_events, lambda path: list(read_points(path))):
            with pytest.raises(RunError, match="can't be read"):
                read(path)


class TestForget:
    def test_what_came_after_a_step_is_gone_and_the_rest_stays(self, writer: MetricsWriter, path: Path) -> None:
        put(writer, "train/loss", 1, 1.0, 2.0, 3.0)
        writer.event(Event(2, "lr", "kept"))
        writer.event(Event(3, "lr", "gone"))
        writer.close()

        forget_after(path, 2)

        assert points(path) == {"train/loss": {1: 1.0, 2: 2.0}}
        assert [event.text for event in read_events(path)] == ["kept"]
