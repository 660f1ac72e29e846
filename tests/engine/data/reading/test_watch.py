"""What was read is looked at again before it is used again, but not so often that a slow disk holds up each edit."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from engine.data.reading.watch import looked_into, watching


def test_what_has_changed_since_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("x")
    with watching() as seen:
        looked_into(str(file))
    assert seen.unchanged()
    time.sleep(0.05)
    os.utime(file, ns=(0, 0))
    assert not seen.unchanged()


def test_after_a_slow_look_the_next_has_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watching() as seen:
        looked_into(str(tmp_path))
    now, stat, looks = [100.0], os.stat, []

    def slow(path: str) -> os.stat_result:
        now[0] += 2.0
        looks.append(path)
        return stat(path)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "stat", slow)
    for wait, expected in ((0.0, 1), (1.0, 1), (30.0, 2)):
        now[0] += wait
        assert seen.unchanged()
        assert len(looks) == expected
