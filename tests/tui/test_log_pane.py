"""The log's lines are wrapped for the width in which they are seen."""

from __future__ import annotations

from pathlib import Path

from studio_driver import studio

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
