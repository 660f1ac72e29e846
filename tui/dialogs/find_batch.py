"""The batch-size finder: how fast each size is, and what fits into the memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.widgets import DataTable

from engine.recipe import Recipe
from tui.dialogs.trial import TrialScreen
from tui.training import Desk
from tui.widgets.table import Table

if TYPE_CHECKING:
    from engine.trials.batch_finder import BatchSizes, Size


class FindBatchScreen(TrialScreen):
    """Offers `data.batch_size` of the row under the cursor, which is the recommended one at first."""

    TITLE_TEXT = "Find the batch size"

    def __init__(self, desk: Desk, recipe: Recipe) -> None:
        super().__init__(desk, recipe)
        self._sizes: list[Size] = []
        """What was measured; the thread appends."""
        self._found: BatchSizes | None = None
        self._pointed = False

    def body(self) -> ComposeResult:
        table: Table[str] = Table(cursor_type="row", id="sizes")
        yield table

    def on_mount(self) -> None:
        """The columns."""
        self.query_one(DataTable).add_columns("samples", "a step", "samples/s", "peak memory")

    def measure(self) -> None:
        self._found = self.desk.find_batch_size(self.recipe, self.control, self._sizes.append)

    def show_news(self) -> str:
        table = self.query_one(DataTable)
        for size in self._sizes[table.row_count :]:
            table.add_row(*_cells(size), key=str(size.samples))
            table.move_cursor(row=table.row_count - 1)
        found = self._found
        if found is None:
            return "Three steps of each size, doubling…"
        if found.sizes and not self._pointed:
            self._pointed = True
            table.move_cursor(row=table.get_row_index(str(found.recommended)))
        if not found.sizes:
            return "Not even one sample fits."
        end = f"{found.too_large:,} do not fit. " if found.too_large else ""
        now = self.recipe.data.batch_size
        return f"{end}{found.recommended:,} is about as fast as the fastest. The recipe has {now:,}."

    def offer(self) -> Mapping[str, Any] | None:
        if self._found is None or not self._found.sizes:
            return None
        return self._found.settings(self._found.sizes[self.query_one(DataTable).cursor_row].samples)

    @on(DataTable.RowSelected)
    def _selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        if self.over and self.offer() is not None:
            self.dismiss(self.offer())


def _cells(size: Size) -> tuple[str, ...]:
    peak = "–" if size.peak_bytes is None else f"{size.peak_bytes / 2**30:.2f} GiB"
    return f"{size.samples:,}", f"{size.seconds * 1e3:.2f} ms", f"{size.samples_per_second:,.0f}", peak
