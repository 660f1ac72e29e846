"""Which events become notifications."""

from __future__ import annotations

from engine.runs.history import Event
from tui.news import News


def skipped(count: int) -> list[Event]:
    return [Event(step, "nan", f"the loss is not finite at step {step}; the step is skipped") for step in range(count)]


def test_a_hundred_skipped_steps_are_one_notification() -> None:
    news = News()
    told = [notice for event in skipped(100) for notice in news.notices([event], now=5.0)]
    assert [notice.text for notice in told] == ["the loss is not finite at step 0; the step is skipped"]


def test_events_of_different_kinds_are_each_told() -> None:
    kinds = ("nan", "rollback", "memory", "trouble", "disk", "early stopping", "profile")
    told = News().notices([Event(1, kind, kind) for kind in kinds], now=0.0)
    assert [notice.text for notice in told] == list(kinds)


def test_what_was_kept_back_is_counted_when_the_kind_is_told_again() -> None:
    news = News()
    news.notices(skipped(8), now=0.0)
    assert news.notices(skipped(1), now=59.0) == []
    (notice,) = news.notices(skipped(1), now=61.0)
    assert "8 more before" in notice.text


def test_what_a_person_did_is_in_the_log_alone() -> None:
    assert News().notices([Event(1, "lr", "learning rate 1 → 2"), Event(2, "pause", "paused")], now=0.0) == []
