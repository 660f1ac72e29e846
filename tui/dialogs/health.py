"""Where the time of a step goes, and how each layer fares."""

from __future__ import annotations

import math

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.reactive import var
from textual.widgets import DataTable, Static

from engine.insight.facts import Checkup, LayerHealth, Times
from engine.runs.history import LIVE, History
from tui.dialogs.dialog import Dialog
from tui.training import Desk
from tui.widgets.histogram import spread_text
from tui.widgets.table import Table

_FRAME_S = 0.5
_TALL = 36  # rows that hold times, layers and histograms
_HINT, _LOW_HINT = "↑↓ layer · x powers of ten · escape", "↑↓ layer · enter its histograms · x powers of ten · escape"
_COLUMNS = ("layer", "gradient", "weight", "Δw/w", "1e-6 ─ 1", "", "dead")
_LEAST, _TRACK = -6, 13  # the bar goes from 1e-6 to 1, two cells a power of ten
_TINY, _LARGE = 1e-5, 1e-2  # 1e-3 is usual


class HealthScreen(Dialog[None]):
    """Shows the run on the desk, live or not, and asks for news twice a second.

    Below the table is how the layer at the cursor is spread; where the screen is low, in the place of the times.
    """

    CSS_PATH = "dialogs.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (_TALL, "-tall")]
    BINDINGS = [
        Binding("escape,h,q", "dismiss(None)", "Close", tooltip="Back to the studio", id="health.close"),
        Binding("x", "powers", "Axis", tooltip="Histograms by powers of ten, or evenly", id="health.powers"),
    ]
    detailed = var(False, toggle_class="-detailed")
    powers = var(False)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._drawn: tuple[object, ...] = ()
        self._spread: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -large", id="health-dialog") as dialog:
            dialog.border_title = "Health and time"
            yield Static(id="times")
            yield Static(id="health-line", classes="section")
            table: Table[str | Text] = Table(cursor_type="row", id="health")
            yield table
            yield Static(id="spread")

    def on_mount(self) -> None:
        """Draw at once, then whenever there is something new."""
        table = self.query_one(DataTable)
        for name in _COLUMNS:
            table.add_column(name, key=name)
        table.focus()
        self._tick()
        self.set_interval(_FRAME_S, self._tick)

    def on_resize(self) -> None:
        """The bars take the width there is."""
        self._drawn = ()
        self.query_one("#health-dialog").border_subtitle = _HINT if self.size.height >= _TALL else _LOW_HINT

    def on_data_table_row_highlighted(self) -> None:
        """Another layer."""
        self._show_spread()

    def on_data_table_row_selected(self) -> None:
        """Its numbers in the place of the times, and back."""
        self.detailed = not self.detailed
        self.call_after_refresh(self._show_spread)

    def action_powers(self) -> None:
        """The histograms' other axis."""
        self.powers = not self.powers
        self._show_spread()

    def _tick(self) -> None:
        self._show_spread()
        history, width = self._desk.history, self.query_one("#times").size.width
        times, checkup = (history.times, history.checkup) if history else (None, None)
        drawn = (id(history), times, checkup, history.progress.state if history else "", width)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        with self.app.batch_update():
            self.query_one("#times", Static).update(time_bars(times, width) if times else _no_times(history))
            self.query_one("#health-line", Static).update(_headline(history, checkup))
            self._fill(checkup)

    def _show_spread(self) -> None:
        """The histograms of the layer at the cursor, as far as they are new."""
        place, history, layer = self.query_one("#spread", Static), self._desk.history, self._layer()
        spreads = history.spreads if history else {}
        shown = (id(history), spreads, layer, place.size, self.powers)
        if shown == self._spread:
            return
        self._spread = shown
        if not place.size.height:  # there is no room but for the times
            return
        past = [(step, of[layer]) for step, of in spreads.items() if layer in of] if layer else []
        place.update(
            spread_text(past, place.size.width, place.size.height, powers=self.powers)
            if past
            else _no_spread(layer, kept=bool(spreads))
        )

    def _layer(self) -> str | None:
        table = self.query_one(DataTable)
        if not table.row_count:
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    def _fill(self, checkup: Checkup | None) -> None:
        """Row by row by key, so that the cursor and the scroll position stay."""
        table = self.query_one(DataTable)
        rows = {layer.name: layer_cells(layer) for layer in checkup.layers} if checkup else {}
        for key in [str(key.value) for key in table.rows if key.value not in rows]:
            table.remove_row(key)
        for name, cells in rows.items():
            if name not in table.rows:
                table.add_row(*cells, key=name)
                continue
            for column, cell in zip(_COLUMNS, cells, strict=True):
                if table.get_cell(name, column) != cell:
                    table.update_cell(name, column, cell)


def time_bars(times: Times, width: int) -> Text:
    """One bar a phase, and the verdict."""
    room = max(width - 18, 5)
    lines = [
        Text.assemble(
            f"{name:<11}",
            ("█" * round(share * room), "cyan"),
            ("░" * (room - round(share * room)), "dim"),
            f" {share:4.0%}",
        )
        for name, share in times.shares.items()
    ]
    return Text("\n").join([*lines, Text(f"→ {times.verdict}", "bold")])


def layer_cells(layer: LayerHealth) -> tuple[str | Text, ...]:
    """One row of the table; what was not measured is a dash."""
    return (
        layer.name,
        _number(layer.gradient),
        _number(layer.weight),
        _number(layer.update),
        track(layer.update),
        verdict(layer),
        "–" if layer.dead is None else f"{layer.dead:.0%}",
    )


def track(update: float | None) -> str:
    """`───━━●━━━────`: where a ratio lies between 1e-6 and 1; ━ is what is usual."""
    if update is None or not math.isfinite(update):
        return ""
    usual = range(_place(_TINY), _place(_LARGE) + 1)
    cells = ["━" if place in usual else "─" for place in range(_TRACK)]
    cells[_place(update)] = "●"
    return "".join(cells)


def verdict(layer: LayerHealth) -> Text:
    """A word for what the numbers mean."""
    numbers = [number for number in (layer.gradient, layer.weight, layer.update) if number is not None]
    if not all(map(math.isfinite, numbers)):
        return Text("not a number", "red")
    if layer.dead is not None:
        return Text("mostly dead", "red") if layer.dead > 0.5 else Text("alive", "green")
    if layer.update is None:
        return Text("–")
    if layer.update == 0:
        return Text("stands still", "red")
    if layer.update > _LARGE:
        return Text("large", "yellow")
    return Text("tiny", "yellow") if layer.update < _TINY else Text("usual", "green")


def _place(ratio: float) -> int:
    """The cell of the track that holds a ratio."""
    power = math.log10(ratio) if ratio > 0 else _LEAST
    return min(max(round((power - _LEAST) * 2), 0), _TRACK - 1)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _no_times(history: History | None) -> Text:
    if history is None:
        return Text("No run is shown. Train one: t, or choose an earlier one: r.", "italic")
    if history.progress.state in LIVE:
        return Text("No step has been timed yet.", "italic")
    # The clock itself is not kept on disk; what it said at the end is a line of the log.
    said = next((line.partition("  ")[2] for line in reversed(history.log) if "  time: " in line), "")
    return Text(said or "The times of this run were not kept.", "" if said else "italic")


def _no_spread(layer: str | None, *, kept: bool) -> Text:
    if layer is None:
        return Text("")
    if not kept:
        return Text("No histograms were kept of this run.", "italic")
    return Text(f"{layer} has no weights to train; of those that have, histograms are kept.", "italic")


def _headline(history: History | None, checkup: Checkup | None) -> str:
    if checkup is not None:
        return f"Layers at step {checkup.step:,}"
    if history is None:
        return ""
    return "The layers have not been looked at: training.health_every says how often that is done; 0 is never."
