"""Rows of a chart, and of text that is told anew, go straight to the terminal only where nothing lies over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Region
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.charts import chart as module
from tui.charts import direct
from tui.charts.chart import Chart, Line
from tui.widgets.told import Told


class Dialog(ModalScreen[None]):
    CSS = "Dialog { align: right bottom; } Static { width: 5; height: 1; }"

    def compose(self) -> ComposeResult:
        yield Static("hello")


class Charts(App[None]):
    CSS = "Chart { height: 12; }"

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Chart("loss")
            yield Static("\n" * 30)


def grow(app: App[None], values: list[float]) -> None:
    y = np.array(values)
    app.screen_stack[0].query_one(Chart).show([Line("train", np.arange(len(y), dtype=float), y, "primary")], x_max=50)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[int] | None]:
    """The rows of each attempt to send some; None where it was refused."""
    attempts: list[list[int] | None] = []

    def send_rows(widget: Chart, rows: Mapping[int, Any]) -> bool:
        done = direct.send_rows(widget, rows)
        attempts.append(list(rows) if done else None)
        return done

    monkeypatch.setattr(module, "send_rows", send_rows)
    return attempts


async def test_rows_that_changed_are_sent_and_composing_shows_the_same(sent: list[list[int] | None]) -> None:
    app = Charts()
    async with app.run_test(size=(60, 20)) as pilot:
        grow(app, [2.0, 1.0, 1.5])
        await pilot.pause()
        sent.clear()
        grow(app, [2.0, 1.0, 1.5, 1.4])
        (rows,) = sent
        assert rows
        assert len(rows) < 12
        chart = app.query_one(Chart)
        composed = [strip.text for strip in app.screen._compositor.render_strips()]
        assert all(chart.render_line(row).text in composed[row] for row in rows)


@pytest.mark.parametrize("over", ["notification", "dialog", "scrolled"])
async def test_they_go_textuals_way_where_something_lies_over_them(sent: list[list[int] | None], over: str) -> None:
    app = Charts()
    async with app.run_test(size=(60, 14), notifications=True) as pilot:
        grow(app, [2.0, 1.0, 1.5])
        await pilot.pause()
        if over == "notification":
            app.notify("something " * 30, timeout=60)
        elif over == "dialog":
            await app.push_screen(Dialog())
        else:
            app.query_one(VerticalScroll).scroll_to(y=3, animate=False)
        await pilot.pause(0.3)
        sent.clear()
        grow(app, [2.0, 1.0, 1.5, 1.4])
        assert sent in ([None], [])  # a chart on another screen is not even painted
        await pilot.pause()
        shown = "\n".join(strip.text for strip in app.screen_stack[0]._compositor.render_strips())
        assert "1.400" in shown or over == "scrolled"


def test_each_row_is_put_where_it_belongs() -> None:
    from textual.geometry import Region
    from textual.strip import Strip

    text = direct._Rows(Region(4, 2, 10, 5), {3: Strip.blank(3)}).render_segments(Console())
    assert text.startswith("\x1b[6;5H")


async def test_what_several_charts_send_together_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(App[None]):
        def compose(self) -> ComposeResult:
            yield Chart("loss")
            yield Chart("accuracy")

    app, writes = Two(), list[str]()
    display = App._display

    def displayed(app: App[None], screen: Any, update: Any) -> None:
        writes.append(update.render_segments(Console()))
        display(app, screen, update)

    async with app.run_test(size=(60, 24)) as pilot:
        loss, accuracy = app.query(Chart)
        line = Line("train", np.arange(3.0), np.array([2.0, 1.0, 1.5]), "primary")
        for chart in (loss, accuracy):
            chart.show([line], x_max=50)
        await pilot.pause()
        monkeypatch.setattr(App, "_display", displayed)
        line = Line("train", np.arange(3.0), np.array([2.0, 1.0, 1.75]), "primary")
        with direct.in_one_piece(app.screen):
            for chart in (loss, accuracy):
                chart.show([line], x_max=50)
            assert not writes
        assert len(writes) == 1
        assert writes[0].count("1.750") == 2
        loss.show([Line("train", np.arange(3.0), np.array([2.0, 1.0, 1.25]), "primary")], x_max=50)
        assert len(writes) == 2


async def test_a_textual_that_is_made_otherwise_inside_costs_speed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Charts()
    async with app.run_test(size=(60, 20)) as pilot:
        grow(app, [2.0, 1.0])
        await pilot.pause()
        monkeypatch.setattr(direct, "_free_place", lambda widget: widget.there_is_no_such_thing)
        grow(app, [2.0, 1.0, 0.5])
        await pilot.pause()
        assert any("0.5000" in strip.text for strip in app.screen._compositor.render_strips())


class Numbers(App[None]):
    CSS = "Told { height: 3; padding: 0 1; }"

    def compose(self) -> ComposeResult:
        yield Told("one\ntwo\nthree")
        yield Static("below")


@pytest.mark.parametrize("covered", [False, True])
async def test_told_text_goes_straight_to_the_terminal_unless_something_lies_over_it(
    monkeypatch: pytest.MonkeyPatch, covered: bool
) -> None:
    attempts: list[tuple[list[int], bool]] = []

    send_rows = direct.send_rows

    def counted(widget: Told, rows: Mapping[int, Any]) -> bool:
        attempts.append((list(rows), send_rows(widget, rows)))
        return attempts[-1][1]

    monkeypatch.setattr(direct, "send_rows", counted)
    app = Numbers()
    async with app.run_test(size=(7, 6)) as pilot:
        if covered:
            app.push_screen(Dialog())
        await pilot.pause()
        text = app.screen_stack[0].query_one(Told)
        text.tell("one\n2\nthree")
        assert attempts == [([1], not covered)]
        while text._repaint_regions:  # below a dialog it is painted by the next frame, and not sent
            await pilot.pause(0.01)
        assert [strip.text.strip() for strip in text.render_lines(Region(0, 0, 7, 3))] == ["one", "2", "three"]
        text.tell("one\n2\nthree")
        assert len(attempts) == 1  # nothing differs
        text.tell("one\n2\n3")
        assert attempts.pop() == ([2], not covered), "what is told the second time and on, too"
        if covered:
            await app.pop_screen()
            await pilot.pause()
        shown = "\n".join("".join(segment.text for segment in line) for line in app.screen._compositor.render_strips())
        assert " 2 " in shown
        assert "two" not in shown
        text.refresh()
        text.tell("one\n3\nthree")
        assert len(attempts) == 1, "what is still to be painted is painted whole, not only the row that differs"
