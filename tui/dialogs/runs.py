"""All runs in the runs folder: look at their curves, resume them, branch from them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Literal, TypeAlias

from rich.cells import cell_len
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.coordinate import Coordinate
from textual.events import Resize
from textual.widgets import DataTable, Static

from engine.durations import clock
from engine.errors import StudioError
from engine.runs.directory import RunDirectory, RunStatus, all_runs
from engine.runs.validation import Validations
from tui.dialogs.dialog import Dialog
from tui.widgets.table import Table
from tui.widgets.titles import plain

Action = Literal["show", "resume", "branch"]
_COLUMNS = ("run", "state", "best", "split", "took", "started", "from")
_STARTED = _COLUMNS.index("started")
_MATTER = _COLUMNS.index("took")
_SHORT, _STAMP = 24, 15  # characters of a name, which ends with the moment at which the run was made
Rows: TypeAlias = Mapping[str, tuple[str | Text, ...]]


@dataclass(frozen=True)
class RunChosen:
    """What to do with which run."""

    directory: RunDirectory
    action: Action


class RunsScreen(Dialog[RunChosen | None]):
    """A table of runs, the newest first. Enter shows one's curves, `R` resumes it, `B` branches from it.

    Of the columns there are as many as have room beside each other; the line below says all of the run.
    """

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
        self._statuses: dict[str, RunStatus] = {}
        self._validations = Validations(())
        self._shown = 0

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -large") as dialog:
            dialog.border_title = plain(f"Runs in {self._root}")
            dialog.border_subtitle = "enter curves · R resume · B branch · escape"
            table: Table[str | Text] = Table(cursor_type="row", id="runs")
            yield table
            yield Static("Reading…", id="runs-line", markup=False)

    def on_mount(self) -> None:
        """Read the folder in the background."""
        self._read()

    @on(Resize)
    def _room(self) -> None:
        self.call_after_refresh(self._fill)  # the table has its new size by then

    @work(exclusive=True, exit_on_error=False, group="runs", description="read the runs folder")
    async def _read(self) -> None:
        found, self._validations = await asyncio.to_thread(_statuses, self._root)
        self._runs = {directory.name: directory for directory, _ in found}
        self._statuses = {directory.name: status for directory, status in found}
        self._fill()
        if not found:
            self.query_one("#runs-line", Static).update(f"There are no runs in {self._root} yet. Train one: t.")

    def _fill(self) -> None:
        """Lay out the columns that fit; the cursor stays on its run."""
        table = self.query_one(DataTable)
        rows: Rows = {name: _cells(status, self._validations.mark(name)) for name, status in self._statuses.items()}
        width = table.container_size.width
        if len(rows) >= table.container_size.height:
            width -= table.styles.scrollbar_size_vertical
        rows = _shortened(rows, width, table.cell_padding)
        shown = sum(reach <= width for reach in accumulate(_widths(rows, table.cell_padding)))
        row, self._shown = table.cursor_row, max(1, shown)
        table.clear(columns=True)
        table.add_columns(*_COLUMNS[: self._shown])
        for name, cells in rows.items():
            table.add_row(*cells[: self._shown], key=name)
        table.cursor_coordinate = Coordinate(row, 0)

    @on(DataTable.RowHighlighted)
    def _highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        name = str(event.row_key.value)
        status, folds = self._statuses[name], self._validations.folds(name)
        hidden = str(_cells(status, "")[_STARTED]) if self._shown <= _STARTED else ""
        about = self._validations.about(name)
        said = (str(folds or ""), about, _origin(status), status.reason, hidden and f"started {hidden}")
        self.query_one("#runs-line", Static).update(" · ".join(filter(None, said)))

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


def _statuses(root: Path) -> tuple[list[tuple[RunDirectory, RunStatus]], Validations]:
    found = []
    for directory in all_runs(root):
        try:
            found.append((directory, directory.status()))
        except StudioError:
            found.append((directory, RunStatus(directory.name, "unreadable", "", 0.0, {}, None)))
    return found, Validations(status for _, status in found)


def _cells(status: RunStatus, mark: str) -> tuple[str | Text, ...]:
    summary = status.summary
    best = f"{summary.metric} {summary.best:.4g}" if summary and summary.best is not None else "–"
    took = clock(summary.seconds) if summary else "–"
    started = datetime.fromtimestamp(status.started).strftime("%b %d %H:%M") if status.started else "–"
    colour = {"done": "green", "failed": "red", "interrupted": "red", "unreadable": "red"}.get(status.state, "yellow")
    return status.name, Text(status.state, colour), best, mark, took, started, _origin(status).removeprefix("from ")


def _widths(rows: Rows, padding: int) -> list[int]:
    """The cells that each column needs, its heading too."""
    columns = zip(_COLUMNS, *rows.values(), strict=True)
    return [max(cell_len(str(cell)) for cell in column) + 2 * padding for column in columns]


def _shortened(rows: Rows, width: int, padding: int) -> Rows:
    """The rows with their names cut, where that makes room for the columns that matter: to their head and their end."""
    room = width - sum(_widths(rows, padding)[1:_MATTER]) - 2 * padding
    head = max(room, _SHORT) - _STAMP - 1
    return {
        name: (name if len(name) <= max(room, _SHORT) else f"{name[:head]}…{name[-_STAMP:]}", *cells[1:])
        for name, cells in rows.items()
    }


def _origin(status: RunStatus) -> str:
    """`from RUN at step 441`: where a branch began; empty for any other run."""
    origin = status.facts.get("origin")
    return f"from {origin.get('run')} at step {origin.get('step')}" if isinstance(origin, dict) else ""
