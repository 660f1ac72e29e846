"""All runs in the runs folder: look at their curves, resume them, branch from them."""

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
from textual.widgets import DataTable, Static

from engine.durations import clock
from engine.errors import StudioError
from engine.runs.directory import RunDirectory, RunStatus, all_runs
from tui.dialogs.dialog import Dialog
from tui.widgets.titles import plain

Action = Literal["show", "resume", "branch"]


@dataclass(frozen=True)
class RunChosen:
    """What to do with which run."""

    directory: RunDirectory
    action: Action


class RunsScreen(Dialog[RunChosen | None]):
    """A table of runs, the newest first. Enter shows one's curves, `R` resumes it, `B` branches from it."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [
        Binding("escape,r,q", "dismiss(None)", "Close", tooltip="Back to the studio", id="runs.close"),
        Binding("enter", "choose('show')", "Curves", tooltip="Show this run's curves", id="runs.show"),
        Binding("R", "choose('resume')", "Resume", tooltip="Train on from its last checkpoint", id="runs.resume"),
        Binding("B", "choose('branch')", "Branch", tooltip="A new run from one of its checkpoints", id="runs.branch"),
    ]

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self._runs: dict[str, RunDirectory] = {}
        self._about: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -large") as dialog:
            dialog.border_title = plain(f"Runs in {self._root}")
            dialog.border_subtitle = "enter curves · R resume · B branch · escape"
            table: DataTable[str | Text] = DataTable(cursor_type="row", id="runs")
            yield table
            yield Static("Reading…", id="runs-line", markup=False)

    def on_mount(self) -> None:
        """Read the folder in the background."""
        self.query_one(DataTable).add_columns("run", "state", "best", "took", "started", "from")
        self._read()

    @work(exclusive=True, exit_on_error=False, group="runs", description="read the runs folder")
    async def _read(self) -> None:
        found = await asyncio.to_thread(_statuses, self._root)
        table = self.query_one(DataTable)
        for directory, status in found:
            self._runs[directory.name] = directory
            self._about[directory.name] = " · ".join(filter(None, (_origin(status), status.reason)))
            table.add_row(*_cells(status), key=directory.name)
        if not found:
            self.query_one("#runs-line", Static).update(f"There are no runs in {self._root} yet. Train one: t.")

    @on(DataTable.RowHighlighted)
    def _highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self.query_one("#runs-line", Static).update(self._about.get(str(event.row_key.value), ""))

    @on(DataTable.RowSelected)
    def _selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        self.action_choose("show")

    def action_choose(self, action: Action) -> None:
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
    return status.name, Text(status.state, colour), best, took, started, _origin(status).removeprefix("from ")


def _origin(status: RunStatus) -> str:
    """`from RUN at step 441`: where a branch began; empty for any other run."""
    origin = status.facts.get("origin")
    return f"from {origin.get('run')} at step {origin.get('step')}" if isinstance(origin, dict) else ""
