"""Durations carry their unit, and clocks read as a person writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.durations import Duration, clock


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("1 epoch", 1, "epoch"),
        ("10 epochs", 10, "epoch"),
        ("500 steps", 500, "step"),
        ("500steps", 500, "step"),
        ("  2 H ", 7200, "second"),
        ("90 s", 90, "second"),
        ("0.5 min", 30, "second"),
        ("15 minutes", 900, "second"),
        ("1.5 hours", 5400, "second"),
        ("2.0 epochs", 2, "epoch"),
    ],
)
def test_a_duration_is_read_with_its_unit(text: str, amount: float, unit: str) -> None:
    assert Duration.parse(text) == Duration(amount, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "10", "epoch", "-1 epoch", "1 fortnight", "1 epoch 2", "1e3 steps", "1,5 h"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r'is not a duration. Try "1 epoch", "500 steps" or "10 min"'):
        Duration.parse(text)


@pytest.mark.parametrize(
    "text", ["0 epochs", "0 s", "1.5 epochs", "0.5 steps", f"{'9' * 400} epochs", f"{'9' * 400} s"]
)
def test_a_part_of_an_epoch_nothing_and_infinity_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole, positive number of"):
        Duration.parse(text)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        amount = Duration.parse(text).amount
    except ValueError:
        return
    assert amount > 0


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (8.34, "8.3 s"),
        (59.94, "59.9 s"),
        (59.97, "1:00"),
        (60, "1:00"),
        (125, "2:05"),
        (3599.6, "1:00:00"),
        (3725, "1:02:05"),
        (360_000, "100:00:00"),
    ],
)
def test_a_clock_reads_as_a_person_writes_it(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
