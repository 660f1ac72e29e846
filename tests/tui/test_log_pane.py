"""The log's lines are wrapped for the width in which they are seen, and painted without painting all else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from studio_driver import studio
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.charts import direct
from tui.panes.log import Lines, LogPane

_LONG = "a line that is rather long for twenty columns"


async def test_lines_are_wrapped_for_the_width_that_there_is(tmp_path: Path) -> None:
    async with studio(tmp_path, (100, 24), loaded=False) as opened:
        log = opened.screen.query_one(Lines)
        opened.screen.query_one(LogPane).add([_LONG])  # it can't be seen: there is room for one pane
        assert not log.size
        await opened.press("7")
        await opened.until(lambda: log.lines, "the lines")
        assert [line.text.rstrip() for line in log.lines] == [_LONG]
        await opened.pilot.resize_terminal(44, 24)
        await opened.until(lambda: len(log.lines) == 2, "narrower lines")
        opened.screen.query_one(LogPane).add(["another"])
        assert log.lines[-1].text.rstrip() == "another"
        opened.screen.query_one(LogPane).clear()
        await opened.pilot.resize_terminal(100, 24)
        await opened.pilot.pause()
        assert not log.lines


class Log(App[None]):
    CSS = "LogPane { height: 10; border: round red; } Lines { scrollbar-size-vertical: 1; }"

    def compose(self) -> ComposeResult:
        yield LogPane()


def shown(app: App[None]) -> list[str]:
    """The log's rows as Textual composes them, without its border and its scrollbar."""
    rows = ["".join(segment.text for segment in line) for line in app.screen._compositor.render_strips()]
    return [row[1:-2].rstrip() for row in rows[1:9]]


async def test_lines_go_straight_to_the_terminal_with_their_scrollbar(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, int, bool]] = []
    send_rows = direct.send_rows

    def counted(widget: Widget, rows: Mapping[int, Strip]) -> bool:
        sent.append((type(widget).__name__, len(rows), send_rows(widget, rows)))
        return sent[-1][2]

    monkeypatch.setattr(direct, "send_rows", counted)
    app = Log()
    async with app.run_test(size=(60, 12)) as pilot:
        log, lines = app.query_one(LogPane), app.query_one(Lines)
        log.add([f"line {number}" for number in range(20)])
        await pilot.pause()
        assert shown(app) == [f"line {number}" for number in range(12, 20)]

        sent.clear()
        log.add(["and another"])
        assert sent == [("ScrollBar", sent[0][1], True), ("Lines", 8, True)]
        assert not lines._repaint_regions, "Textual has nothing left to compose"
        assert not lines.vertical_scrollbar._repaint_regions
        assert shown(app) == [*(f"line {number}" for number in range(13, 20)), "and another"]

        lines.scroll_to(y=3, animate=False, immediate=True)
        await pilot.pause()
        sent.clear()
        log.add(["below what is read"])
        assert [name for name, *_ in sent] in ([], ["ScrollBar"]), "what a person has scrolled to stays where it is"
        assert shown(app) == [f"line {number}" for number in range(3, 11)]

        lit = lines.render_lines(Region(0, 0, 58, 1))
        app.set_focus(None)
        await pilot.pause()
        assert lines.render_lines(Region(0, 0, 58, 1)) != lit, "it is lit by the focus"


@pytest.mark.parametrize("read", [0, 12])
async def test_the_lines_of_another_run_are_followed_wherever_those_before_stood(read: int) -> None:
    app = Log()
    async with app.run_test(size=(60, 12)) as pilot:
        log, lines = app.query_one(LogPane), app.query_one(Lines)
        log.add([f"old {number}" for number in range(40)])
        lines.scroll_relative(y=-read, animate=False, immediate=True)
        await pilot.pause()
        log.clear()
        log.add([f"line {number}" for number in range(60)])  # a run that goes on tells at once what it has told
        log.add(["and another"])
        await pilot.pause()
        assert shown(app) == [*(f"line {number}" for number in range(53, 60)), "and another"]


async def test_the_end_stays_in_sight_in_every_size_unless_the_person_scrolled_up() -> None:
    app = Log()
    async with app.run_test(size=(60, 12)) as pilot:
        log, lines = app.query_one(LogPane), app.query_one(Lines)
        log.add([f"line {number} {'of many words ' * 5}" for number in range(40)])
        for size in ((30, 12), (120, 12), (60, 20), (60, 12)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert lines.is_vertical_scroll_end, size
        log.add(["and another"])
        assert lines.is_vertical_scroll_end
        lines.scroll_to(y=3, animate=False, immediate=True)
        await pilot.resize_terminal(50, 12)
        await pilot.pause()
        log.add(["and one more"])
        assert not lines.is_vertical_scroll_end
