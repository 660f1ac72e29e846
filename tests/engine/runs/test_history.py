from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runs.history import Event, History, Series

LIMIT = 4096


def series(steps: object, values: object, cuts: list[int] | None = None) -> Series:
    made = Series()
    steps, values = np.asarray(steps, dtype=np.int64), np.asarray(values, dtype=np.float64)
    for part_steps, part_values in zip(np.split(steps, cuts or []), np.split(values, cuts or []), strict=True):
        made.extend(part_steps, part_values)
    return made


class TestBounds:
    def test_a_million_steps_are_at_most_4096_buckets_with_the_right_values(self) -> None:
        count, chunk = 1_000_000, 7919
        values = np.random.default_rng(0).normal(size=count).cumsum()
        made = Series()
        for first in range(0, count, chunk):
            made.extend(np.arange(first, min(first + chunk, count)), values[first : first + chunk])

        steps, means = made.curve()
        middles, lows, highs = made.band()

        assert LIMIT / 2 <= len(steps) <= LIMIT
        assert made.width == 256
        whole = values[: count // 256 * 256].reshape(-1, 256)
        np.testing.assert_allclose(means[: len(whole)], whole.mean(1))
        np.testing.assert_array_equal(lows[: len(whole)], whole.min(1))
        np.testing.assert_array_equal(highs[: len(whole)], whole.max(1))
        np.testing.assert_array_equal(steps, middles)
        assert steps[0] == 127.5
        assert means[-1] == pytest.approx(values[len(whole) * 256 :].mean())

    def test_up_to_4096_points_are_kept_as_they_are(self) -> None:
        values = np.random.default_rng(0).normal(size=LIMIT)
        made = series(range(1, LIMIT + 1), values)

        assert made.width == 1
        np.testing.assert_array_equal(made.curve()[0], np.arange(1, LIMIT + 1))
        np.testing.assert_array_equal(made.curve()[1], values)

    def test_one_more_halves_them(self) -> None:
        assert series(range(LIMIT + 1), range(LIMIT + 1)).width == 2

    def test_few_points_far_apart_keep_their_steps(self) -> None:
        steps = [0, 10_000, 20_000, 10**9]

        made = series(steps, [1, 2, 3, 4])

        assert made.curve()[0].tolist() == steps
        assert made.curve()[1].tolist() == [1, 2, 3, 4]


class TestChunking:
    @settings(max_examples=60, deadline=None)
    @given(
        gaps=st.lists(st.integers(1, 5000), min_size=1, max_size=300),
        dense=st.integers(0, 9000),
        cuts=st.lists(st.integers(0, 9300), max_size=12).map(sorted),
    )
    def test_any_chunking_of_the_same_points_gives_the_same_curve(
        self, gaps: list[int], dense: int, cuts: list[int]
    ) -> None:
        steps = np.concatenate([np.arange(dense), dense + np.cumsum(gaps)])
        values = np.sin(steps * 0.37) * 3

        whole, parts = series(steps, values), series(steps, values, cuts)

        assert whole.width == parts.width
        assert whole.count == parts.count
        np.testing.assert_array_equal(whole.curve()[0], parts.curve()[0])
        np.testing.assert_allclose(whole.curve()[1], parts.curve()[1], rtol=1e-9, atol=1e-12)
        for ours, theirs in zip(whole.band(), parts.band(), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_point_by_point_is_the_same_as_at_once(self) -> None:
        steps = np.arange(0, 30_000, 3)
        values = np.cos(steps)

        whole, single = series(steps, values), series(steps, values, list(range(1, len(steps))))

        np.testing.assert_array_equal(whole.curve()[0], single.curve()[0])
        np.testing.assert_allclose(whole.curve()[1], single.curve()[1])


class TestPoints:
    def test_gaps_stay_gaps(self) -> None:
        made = series([1, 2, 100, 101], [1, 2, 3, 4])

        assert made.curve()[0].tolist() == [1, 2, 100, 101]

    def test_values_that_are_not_finite_are_left_out_of_the_curve_but_told_as_the_last(self) -> None:
        made = series([1, 2, 3], [1.0, float("inf"), float("nan")])

        assert made.curve()[1].tolist() == [1.0]
        assert made.last_step == 3
        assert made.last is not None
        assert np.isnan(made.last)

    def test_nothing_is_an_empty_curve(self) -> None:
        made = series([], [])

        assert made.last is None
        assert [len(column) for column in (*made.curve(), *made.band())] == [0] * 5

    def test_a_resumed_series_goes_on_in_the_same_buckets(self) -> None:
        steps, values = np.arange(10_000), np.random.default_rng(1).normal(size=10_000)

        read_back = series(steps[:7001], values[:7001])
        read_back.extend(steps[7001:], values[7001:])

        np.testing.assert_array_equal(read_back.curve()[0], series(steps, values).curve()[0])
        np.testing.assert_allclose(read_back.curve()[1], series(steps, values).curve()[1])


class TestReaders:
    def test_a_reader_never_sees_columns_of_different_length_or_a_half_written_bucket(self) -> None:
        made, wrong, done = Series(), list[str](), threading.Event()

        def read() -> None:
            while not done.is_set():
                steps, means = made.curve()
                middles, lows, highs = made.band()
                if len(steps) != len(means) or not len(middles) == len(lows) == len(highs):
                    wrong.append("lengths")
                if not (np.diff(steps) > 0).all() or not (lows <= highs).all() or not np.isin(means, 1.0).all():
                    wrong.append("values")

        reader = threading.Thread(target=read)
        reader.start()
        for first in range(0, 300_000, 500):
            made.extend(np.arange(first, first + 500), np.ones(500))
        done.set()
        reader.join()

        assert wrong == []

    def test_series_may_be_added_while_they_are_iterated(self) -> None:
        history = History()
        history.add("one", np.array([1]), np.array([1.0]))

        for name in history.series:
            history.add(f"{name} more", np.array([1]), np.array([1.0]))

        assert set(history.series) == {"one", "one more"}

    def test_events_that_came_since_are_told_once_each_also_when_a_rewind_took_some_away(self) -> None:
        history = History()
        history.events = (Event(1, "lr", "read back"),)
        history.note(Event(2, "lr", "first"))
        told, noted = history.events_since(0)
        assert [event.text for event in told] == ["first"]

        history.note(Event(3, "lr", "second"))
        history.events = history.events[:1]
        history.note(Event(1, "rollback", "third"))

        assert len(history.events) == 2, "as many as before: they can't be told by their number"
        told, noted = history.events_since(noted)
        assert [event.text for event in told] == ["second", "third"]
        assert history.events_since(noted) == ([], 3)

    def test_of_more_events_than_are_kept_the_newest_are_told(self) -> None:
        history = History()
        for number in range(1500):
            history.note(Event(number, "nan", ""))

        told, noted = history.events_since(0)

        assert [event.step for event in told] == list(range(500, 1500))
        assert noted == 1500

    def test_events_and_log_lines_are_in_order_and_the_log_is_bounded(self) -> None:
        history = History()
        for number in range(1500):
            history.say(f"line {number}")
        history.note(Event(1, "lr", "first"))
        history.note(Event(2, "lr", "second"))

        assert len(history.log) == 1000
        assert history.logged == 1500
        assert history.log[-1].endswith("line 1499")
        assert [event.text for event in history.events] == ["first", "second"]
