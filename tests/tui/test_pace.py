"""The studio paints as often as its budget allows, and says what it takes."""

from __future__ import annotations

import pytest

from tui.pace import BUDGET, FASTEST_S, SLOWEST_S, Pace


class Machine:
    """A clock, and how much the thread has worked."""

    def __init__(self) -> None:
        self.now, self.worked = 100.0, 7.0
        self.pace = Pace(lambda: self.now, lambda: self.worked)

    def frames(self, cost: float, seconds: float) -> int:
        """How many frames of `cost` seconds are painted in `seconds`."""
        end, count = self.now + seconds, 0
        while self.now < end:
            self.now += self.pace.next()
            self.worked += cost
            count += 1
        return count


@pytest.mark.parametrize("cost", [0.003, 0.008, 0.015])
def test_the_share_of_a_core_stays_within_the_budget(cost: float) -> None:
    machine = Machine()
    machine.frames(cost, 20)
    assert machine.pace.share == pytest.approx(BUDGET, rel=0.1)


def test_frames_of_unequal_cost_stay_within_it_together() -> None:
    machine, end, count = Machine(), 130.0, 0
    while machine.now < end:
        machine.now += machine.pace.next()
        machine.worked += 0.009 if count % 5 == 0 else 0.003
        count += 1
    assert machine.pace.share == pytest.approx(BUDGET, rel=0.1)
    assert machine.pace.frames_per_second == pytest.approx(count / 30, rel=0.2)
    assert count / 30 == pytest.approx(5 * BUDGET / (0.009 + 4 * 0.003), rel=0.1)


def test_cheap_frames_are_not_faster_than_is_seen_and_dear_ones_still_come() -> None:
    machine = Machine()
    assert machine.frames(0.0001, 10) == pytest.approx(10 / FASTEST_S, rel=0.1)
    assert machine.frames(0.5, 20) == pytest.approx(20 / SLOWEST_S, rel=0.2)


def test_one_dear_frame_does_not_stall_the_next_ones() -> None:
    machine = Machine()
    machine.frames(0.001, 5)
    machine.worked += 2.0
    machine.pace.next()
    assert machine.pace.interval <= (FASTEST_S + SLOWEST_S) / 2 + 1e-9
    machine.frames(0.001, 2)
    assert machine.pace.interval == pytest.approx(FASTEST_S, rel=0.1)


def test_what_was_worked_long_ago_is_forgotten() -> None:
    machine = Machine()
    machine.worked += 3.0  # torch is imported
    machine.frames(0.0, 6)
    assert machine.pace.share == 0.0
    assert str(machine.pace).endswith("0.0% of a core")
