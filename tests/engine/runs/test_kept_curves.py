"""Of a long run the curves are kept beside the points: at all times those that reading all points would give."""

from __future__ import annotations

import sqlite3
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import line, wait_for

from engine.runs.directory import RunDirectory
from engine.runs.history import History, Series
from engine.runs.metrics import (
    copy_until,
    forget_after,
    read_curves,
    read_last,
    read_points,
    reading,
)
from engine.runs.recorder import Recorder
from engine.runs.writer import MetricsWriter

NAME = "train/loss"


def made(steps: np.ndarray, values: np.ndarray) -> Series:
    series = Series()
    series.extend(steps, values)
    return series


def waves(count: int, first: int = 1, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Points at each step; every 97th is no number."""
    steps = np.arange(first, first + count)
    return steps, np.where(steps % 97 == 0, np.nan, np.sin(steps * 0.013) * factor + steps * 1e-4)


def assert_same(ours: Series, wanted: Series) -> None:
    """The same curve, but that ours may be in wider buckets."""
    while wanted.width < ours.width:
        wanted._merge()
    assert (ours.width, ours.count, ours.last_step) == (wanted.width, wanted.count, wanted.last_step)
    np.testing.assert_equal(ours.last, wanted.last)
    np.testing.assert_array_equal(ours.curve()[0], wanted.curve()[0])
    np.testing.assert_allclose(ours.curve()[1], wanted.curve()[1], rtol=1e-9, atol=1e-12)
    for column, other in zip(ours.band(), wanted.band(), strict=True):
        np.testing.assert_array_equal(column, other)


def assert_as_all_points(path: Path) -> None:
    curves = read_curves(path)
    points = {name: made(steps, values) for name, steps, values in read_points(path)}
    assert set(curves) == set(points)
    for name, series in curves.items():
        assert_same(series, points[name])


def write(path: Path, *parts: tuple[np.ndarray, np.ndarray]) -> Series:
    """A file with these parts of one series, and its curve as of the last part but one."""
    writer, series = MetricsWriter(path, pytest.fail), Series()
    for number, (steps, values) in enumerate(parts):
        if number == len(parts) - 1 and number:
            writer.curve(NAME, series.packed())
        writer.points(NAME, steps, values)
        series.extend(steps, values)
    writer.close()
    return series


def packed(path: Path) -> bytes | None:
    with reading(path) as connection:
        row = connection.execute("SELECT curve FROM curves").fetchone()
    return row[0] if row else None


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.sqlite"


class TestPacked:
    @pytest.mark.parametrize("count", [1, 4096, 4097, 100_001])
    def test_a_series_comes_back_and_goes_on_as_it_was(self, count: int) -> None:
        series = made(*waves(count))

        again = Series.unpacked(series.packed())

        assert again is not None
        for each in (series, again):
            each.extend(*waves(5000, count + 1))
        assert_same(again, series)

    def test_it_is_164_kb_at_most(self) -> None:
        assert len(made(*waves(1_000_000)).packed()) <= len(made(*waves(4096)).packed()) < 164_000

    def test_one_without_any_number_has_no_bucket(self) -> None:
        again = Series.unpacked(made(np.arange(3), np.full(3, np.nan)).packed())

        assert again is not None
        assert (again.count, again.last_step, len(again.curve()[0])) == (3, 2, 0)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda whole: None,
            lambda whole: "text",
            lambda whole: b"",
            lambda whole: whole[:20],
            lambda whole: whole[:-1],
            lambda whole: whole[:-8],
            lambda whole: whole + whole[-40:],  # a bucket twice
            lambda whole: whole[:32] + whole[32:72] * 5000,
            lambda whole: struct.pack("<q", 2) + whole[8:],  # a format to come
            lambda whole: whole[:8] + struct.pack("<q", 3) + whole[16:],  # no power of two
            lambda whole: whole[:8] + struct.pack("<q", 1) + whole[16:],  # more points than steps
            lambda whole: whole[:16] + struct.pack("<q", 7) + whole[24:],  # ends before its buckets
            lambda whole: whole[:24] + struct.pack("<q", 7) + whole[32:],  # fewer points than its buckets
            lambda whole: whole[:48] + struct.pack("<d", 1e9) + whole[56:],  # a least above the greatest
        ],
    )
    def test_bytes_that_can_be_no_series_are_none(self, damage: Callable[[bytes], object]) -> None:
        whole = made(*waves(10_000)).packed()
        assert Series.unpacked(whole) is not None

        assert Series.unpacked(damage(whole)) is None


class TestCut:
    @settings(max_examples=60, deadline=None)
    @given(gap=st.integers(1, 700), count=st.integers(1, 20_000), share=st.floats(0, 1))
    def test_a_cut_series_with_its_points_added_again_is_the_one_of_these_points(
        self, gap: int, count: int, share: float
    ) -> None:
        steps, values = np.arange(count) * gap, waves(count)[1]
        series, last = made(steps, values), int(steps[int(share * (count - 1))])

        first = series.cut(last)
        gone, again = steps >= first, (steps >= first) & (steps <= last)
        series.count -= int(gone.sum())
        series.extend(steps[again], values[again])

        assert_same(series, made(steps[steps <= last], values[steps <= last]))
        assert again.sum() <= series.width


class TestReading:
    def test_of_a_kept_curve_only_the_points_since_are_read(self, path: Path) -> None:
        series = write(path, waves(50_000), waves(700, 50_001))
        change(path, "DELETE FROM points WHERE step < 50000")

        assert_same(read_curves(path)[NAME], series)

    def test_without_a_kept_curve_all_are_read(self, path: Path) -> None:
        series = write(path, waves(50_000), waves(700, 50_001))
        change(path, "DELETE FROM curves")
        assert_same(read_curves(path)[NAME], series)

        change(path, "DELETE FROM points WHERE step < 50000")
        assert read_curves(path)[NAME].count == 701

    def test_a_run_of_before_is_read_forgotten_copied_and_gone_on_with(self, path: Path, tmp_path: Path) -> None:
        series = write(path, waves(5000))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE curves")
        assert_same(read_curves(path)[NAME], series)

        copy_until(path, tmp_path / "branch.sqlite", 3000, {})
        assert_same(read_curves(tmp_path / "branch.sqlite")[NAME], made(*waves(3000)))
        forget_after(path, 4000)
        assert_same(read_curves(path)[NAME], made(*waves(4000)))
        write(path, waves(500, 4001), waves(500, 4501))
        assert packed(path) is not None

    @pytest.mark.parametrize("damage", [b"", b"\0" * 500, "text", 5])
    def test_of_a_damaged_curve_the_points_are_read(self, path: Path, damage: object) -> None:
        series = write(path, waves(5000), waves(700, 5001))
        change(path, "UPDATE curves SET curve = ?", damage)

        assert_same(read_curves(path)[NAME], series)
        forget_after(path, 3000)
        assert packed(path) is None
        assert_same(read_curves(path)[NAME], made(*waves(3000)))

    def test_a_curve_that_ends_where_no_point_is_is_not_trusted(self, path: Path) -> None:
        write(path, waves(5000), waves(700, 5001))
        change(path, "DELETE FROM points WHERE step = 5000")

        assert_as_all_points(path)

    def test_a_run_is_read_as_it_was_at_one_moment(self, path: Path) -> None:
        write(path, waves(1))
        ended, writing = threading.Event(), threading.Event()

        def record_again_and_again() -> None:
            with closing(sqlite3.connect(path)) as connection:
                generation = 0
                while not ended.is_set():
                    generation += 1
                    steps, values = np.arange(1, 301), np.full(300, float(generation))
                    with connection:
                        connection.execute("DELETE FROM points")
                        rows = [(1, step, generation) for step in steps.tolist()]
                        connection.executemany("INSERT INTO points VALUES (?, ?, ?)", rows)
                        half = made(steps[:150], values[:150]).packed()
                        connection.execute("INSERT OR REPLACE INTO curves VALUES (1, ?)", (half,))
                    writing.set()

        thread = threading.Thread(target=record_again_and_again)
        thread.start()
        writing.wait()
        deadline, generations = time.monotonic() + 1.5, set()
        while time.monotonic() < deadline:
            series = read_curves(path)[NAME]
            generations.add(frozenset(series.curve()[1].tolist()))
            assert series.count == 300
        ended.set()
        thread.join()

        assert len(generations) > 5
        assert {len(values) for values in generations} == {1}, "points of one generation, curve of another"


class TestForget:
    @settings(max_examples=40, deadline=None)
    @given(
        changes=st.lists(
            st.one_of(
                st.tuples(st.just("points"), st.integers(1, 9000), st.integers(1, 40)),
                st.tuples(st.just("nans"), st.integers(1, 600), st.integers(1, 40)),
                st.tuples(st.just("keep"), st.just(0), st.just(0)),
                st.tuples(st.just("forget"), st.integers(-5, 100), st.just(0)),
                st.tuples(st.just("reopen"), st.just(0), st.just(0)),
            ),
            min_size=3,
            max_size=14,
        )
    )
    def test_whatever_is_recorded_kept_and_forgotten_the_curve_is_that_of_the_points(
        self, changes: list[tuple[str, int, int]]
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "metrics.sqlite"
            writer, series, random = MetricsWriter(path, pytest.fail), Series(), np.random.default_rng(0)
            for what, number, gap in changes:
                last = -1 if series.last_step is None else series.last_step
                if what in ("points", "nans"):
                    steps = last + gap * np.arange(1, number + 1)
                    values = random.normal(size=number) if what == "points" else np.full(number, np.nan)
                    writer.points(NAME, steps, values)
                    series.extend(steps, values)
                elif what == "keep" and series.count:
                    writer.curve(NAME, series.packed())
                elif what == "forget":
                    writer.forget_after(last * number // 100)
                if what in ("forget", "reopen"):
                    writer.close()
                    assert_as_all_points(path)
                    series, writer = read_curves(path).get(NAME, Series()), MetricsWriter(path, pytest.fail)
            writer.close()
            assert_as_all_points(path)

    def test_a_curve_that_is_not_cut_would_be_seen(self, path: Path) -> None:
        write(path, waves(5000), waves(700, 5001))
        stale = packed(path)
        forget_after(path, 4500)
        assert packed(path) not in (None, stale)
        assert_as_all_points(path)

        writer = MetricsWriter(path, pytest.fail)
        writer.points(NAME, *waves(4000, 4501, factor=2.0))
        writer.close()
        assert_as_all_points(path)
        change(path, "UPDATE curves SET curve = ?", stale)
        with pytest.raises(AssertionError):
            assert_as_all_points(path)

    def test_a_branch_has_the_curve_up_to_where_it_begins(self, path: Path, tmp_path: Path) -> None:
        write(path, waves(50_000), waves(700, 50_001))

        copy_until(path, tmp_path / "branch.sqlite", 40_000, {})

        assert_as_all_points(tmp_path / "branch.sqlite")
        branch = Series.unpacked(packed(tmp_path / "branch.sqlite"))
        assert branch is not None
        assert (branch.last_step, branch.count) == (40_000, 40_000)
        assert_same(read_curves(path)[NAME], made(*waves(50_700)))

    def test_of_a_long_run_cut_early_every_step_is_seen(self, path: Path) -> None:
        write(path, waves(50_000), waves(700, 50_001))

        forget_after(path, 1500)

        assert len(read_curves(path)[NAME].curve()[0]) > 1400  # some of the waves are not finite

    def test_a_cut_between_two_points_keeps_the_curve_up_to_the_first(self, path: Path) -> None:
        write(path, waves(5000), waves(700, 9001), waves(700, 9701))

        forget_after(path, 7000)

        cut = Series.unpacked(packed(path))
        assert cut is not None
        assert cut.last_step == 5000
        assert_as_all_points(path)

    def test_of_a_run_taken_back_to_its_beginning_nothing_is_left(self, path: Path) -> None:
        write(path, waves(5000), waves(700, 5001))

        forget_after(path, -1)

        assert packed(path) is None
        assert read_curves(path) == {}


class TestLast:
    def test_of_each_series_within_the_last_point_is_told(self, path: Path) -> None:
        writer = MetricsWriter(path, pytest.fail)
        for name in ("health/0/weight", "health/1/weight", "train/loss"):
            writer.points(name, *waves(20))
        writer.points("health/1/weight", np.array([97]), np.array([np.inf]))
        writer.close()

        told = list(read_last(path, "health/"))

        np.testing.assert_equal(
            told, [("health/0/weight", 20, waves(20)[1][-1]), ("health/1/weight", 97, float("nan"))]
        )


class TestRecorder:
    @pytest.fixture
    def run(self, root: Path) -> RunDirectory:
        return RunDirectory.create(root, "line", line(), "cpu")

    def tell(self, recorder: Recorder, first: int, last: int, factor: float = 1.0) -> None:
        for begin in range(first, last + 1, 1000):
            steps, values = waves(min(1000, last + 1 - begin), begin, factor)
            recorder.values("train", steps, {"loss": values})

    def kept(self, run: RunDirectory) -> int | None:
        series = Series.unpacked(packed(run.metrics_file))
        return series.last_step if series else None

    def test_the_curve_is_kept_each_20_000_points_and_at_the_end(self, run: RunDirectory) -> None:
        recorder = Recorder(History(), run)
        self.tell(recorder, 1, 50_000)
        wait_for(lambda: len(read_curves(run.metrics_file)) == 1)
        recorder.mark()()
        assert self.kept(run) == 40_000, "what a kill would leave"
        assert_same(run.history().series[NAME], recorder.history.series[NAME])

        recorder.close()

        assert self.kept(run) == 50_000
        assert_same(run.history().series[NAME], recorder.history.series[NAME])

    def test_a_short_series_is_not_kept(self, run: RunDirectory) -> None:
        recorder = Recorder(History(), run)
        self.tell(recorder, 1, 19_999)
        recorder.close()

        assert self.kept(run) is None
        assert_same(run.history().series[NAME], made(*waves(19_999)))

    def test_after_a_rewind_the_curve_is_that_of_what_was_recorded_anew(self, run: RunDirectory) -> None:
        recorder = Recorder(History(), run)
        self.tell(recorder, 1, 45_000)
        recorder.rewind(30_500)
        assert_same(recorder.history.series[NAME], made(*waves(30_500)))
        self.tell(recorder, 30_501, 47_000, factor=3.0)
        wait_for(lambda: self.kept(run) == 31_500)  # and not only when it is as long again as it was
        recorder.close()

        assert self.kept(run) == 47_000
        assert_as_all_points(run.metrics_file)

    def test_a_resumed_run_goes_on_with_the_curve(self, run: RunDirectory) -> None:
        recorder = Recorder(History(), run)
        self.tell(recorder, 1, 45_000)
        recorder.close()
        forget_after(run.metrics_file, 41_234)

        resumed = Recorder(run.history(), run)
        self.tell(resumed, 41_235, 70_000, factor=3.0)
        resumed.close()

        assert self.kept(run) == 70_000
        assert_as_all_points(run.metrics_file)
