"""All runs in the runs folder: look at their curves, resume them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Static

from engine.durations import clock
from engine.errors import StudioError
from engine.runs.directory import RunDirectory, RunStatus, all_runs


@dataclass(frozen=True)
class RunChosen:
    """What to do with which run."""

    directory: RunDirectory
    action: Literal["show", "resume"]


class RunsScreen(ModalScreen[RunChosen | None]):
    """A table of runs, the newest first. Enter shows one's curves, `R` resumes it."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [
        Binding("escape,r,q", "dismiss(None)", "Close", tooltip="Back to the studio", id="runs.close"),
        Binding("enter", "choose('show')", "Curves", tooltip="Show this run's curves", id="runs.show"),
        Binding("R", "choose('resume')", "Resume", tooltip="Train on from its last checkpoint", id="runs.resume"),
    ]

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self._runs: dict[str, RunDirectory] = {}

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -large") as dialog:
            dialog.border_title = f"Runs in {self._root}"
            dialog.border_subtitle = "enter curves · R resume · escape"
            table: DataTable[str | Text] = DataTable(cursor_type="row", id="runs")
            yield table
            yield Static("Reading…", id="runs-line", markup=False)

    def on_mount(self) -> None:
        """Read the folder in the background."""
        self.query_one(DataTable).add_columns("run", "state", "best", "took", "started")
        self._read()

    @work(exclusive=True, exit_on_error=False, group="runs", description="read the runs folder")
    async def _read(self) -> None:
        found = await asyncio.to_thread(_statuses, self._root)
        table = self.query_one(DataTable)
        for directory, status in found:
            self._runs[directory.name] = directory
            table.add_row(*_cells(status), key=directory.name)
        text = "" if found else f"There are no runs in {self._root} yet. Train one: t."
        self.query_one("#runs-line", Static).update(text)

    @on(DataTable.RowSelected)
    def _selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        self.action_choose("show")

    def action_choose(self, action: Literal["show", "resume"]) -> None:
        """Leave with the run under the cursor."""
        table = self.query_one(DataTable)
        if table.row_count:
            key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
            self.dismiss(RunChosen(self._runs[str(key)], action))


def _statuses(root: Path) -> list[tuple[RunDirectory, RunStatus]]:
    found = []
    for directory in all_runs(root):
        try:
            found.append((directory, directory.status()))
        except StudioError:
            found.append((directory, RunStatus(directory.name, "unreadable", "", 0.0, {}, None)))
    return found


def _cells(status: RunStatus) -> tuple[str | Text, ...]:
    summary = status.summary
    best = f"{summary.metric} {summary.best:.4g}" if summary and summary.best is not None else "–"
    took = clock(summary.seconds) if summary else "–"
    started = datetime.fromtimestamp(status.started).strftime("%b %d %H:%M") if status.started else "–"
    colour = {"done": "green", "failed": "red", "interrupted": "red", "unreadable": "red"}.get(status.state, "yellow")
    return status.name, Text(status.state, colour), best, took, started
