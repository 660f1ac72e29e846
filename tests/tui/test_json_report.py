"""What `--json` prints of a history that changes between two looks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.runs.history import Event, History
from tui.commands.json_report import JsonReport


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The texts of the events printed since the last time."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line["text"] for line in lines if line["event"] == "event"]


def test_a_rollback_that_takes_as_many_events_away_as_it_adds_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    report, history = JsonReport(), History()
    history.note(Event(1, "lr", "kept"))
    history.note(Event(9, "memory", "taken away"))
    report.look(history)
    assert told(capsys) == ["kept", "taken away"]

    history.events = history.events[:1]
    history.note(Event(5, "rollback", "back to step 5"))
    report.look(history)
    assert told(capsys) == ["back to step 5"]
    report.look(history)
    assert told(capsys) == []


def test_what_a_resumed_run_reads_back_from_disk_is_not_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    report, history = JsonReport(), History()
    history.events = (Event(1, "lr", "of the run before"),)
    history.note(Event(3, "resume", "resumed"))
    report.look(history)
    assert told(capsys) == ["resumed"]
