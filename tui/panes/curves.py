"""Loss and metric over steps, training and validation in the same chart."""

from __future__ import annotations

import numpy as np
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Grid
from textual.events import Resize
from textual.reactive import var

from engine.runs.history import History
from tui.charts.chart import Chart, Line
from tui.charts.direct import in_one_piece
from tui.panes.pane import Pane
from tui.widgets.titles import plain

# Event kind → mark; of two at one step the later of these is seen.
_MARKS = {
    "pause": "‖",
    "epochs": "→",
    "weight_decay": "ω",
    "lr": "η",
    "memory": "▽",
    "nan": "✗",
    "rollback": "↶",
}

# What else a training is steered by, where there is room: series → title.
_BESIDE = {"lr": "learning rate", "samples_per_second": "samples/s"}
_ROOM = 20  # rows for two charts above each other


class CurvesPane(Pane):
    """Draws what a History holds. Training is a line of every step, validation a point an epoch.

    Four charts where there is room for two rows of them, else two.
    """

    BORDER_TITLE = "Curves [dim]5[/]"
    HELP = """Training is measured at every step, validation ◆ at the end of every epoch; ◇ is the same with averaged
    weights (ema, swa). Marks under the curve: η a changed learning rate, ω weight decay, → more or fewer epochs,
    ‖ a pause, ▽ out of memory and split, ✗ a loss that is no number, ↶ gone back to a checkpoint. `y` switches the
    loss to a logarithmic axis, `e` smooths the training curves: a moving mean. In a pane of 20 rows, such as after
    `m`, the learning rate and the speed are shown too."""
    BINDINGS = [
        Binding("y", "log_scale", "Log", tooltip="Loss on a logarithmic axis", id="curves.log_scale"),
        Binding("e", "smooth", "Smooth", tooltip="Training as a moving average", id="curves.smooth", show=False),
    ]

    can_focus = True
    smooth = var(False)

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._seen: tuple[object, ...] = ()
        self._titled = ""
        self._roomy = False
        self._shown: tuple[History, str, str, str] | None = None
        self._loss = Chart("loss", id="loss-chart")
        self._metric = Chart("accuracy", id="metric-chart")
        self._beside = {name: Chart(title, id=f"{name}-chart", classes="beside") for name, title in _BESIDE.items()}

    def compose(self) -> ComposeResult:
        yield Grid(self._loss, self._metric, *self._beside.values())

    def action_smooth(self) -> None:
        """Show training as a moving average, or step by step again."""
        self.smooth = not self.smooth
        self._show_again()

    def action_log_scale(self) -> None:
        """Switch the loss axis."""
        self._loss.log_scale = not self._loss.log_scale

    def show(self, history: History, metric: str, name: str, average: str = "averaged") -> None:
        """Draw the curves of the run called `name`; nothing is done when nothing was added since the last call.

        `average` is the kind of its averaged weights: ema or swa.
        """
        series, self._shown = history.series, (history, metric, name, average)
        seen = (
            id(history),
            metric,
            average,
            name,
            len(history.events),
            *((name, each.count) for name, each in series.items()),
        )
        if seen == self._seen:
            return
        self._seen = seen
        events = sorted((e for e in history.events if e.kind in _MARKS), key=lambda e: list(_MARKS).index(e.kind))
        marks = [(float(event.step), _MARKS[event.kind]) for event in events]
        ends = float(history.progress.steps) or None
        if name != self._titled:  # setting it repaints the whole pane, the same or not
            self._titled = name
            self.border_subtitle = plain(name)
            for chart in (self._loss, self._metric, *self._beside.values()):
                chart.empty_text = "No value yet"
        with in_one_piece(self):
            self._loss.show(_lines(history, "loss", average, smooth=self.smooth), marks=marks, x_max=ends)
            self._metric.title = metric
            self._metric.show(_lines(history, metric, average, smooth=self.smooth), marks=marks, x_max=ends)
            for series_name, chart in self._beside.items():
                found = history.series.get(series_name)
                lines = [Line("", *found.curve(), colour="accent")] if found is not None and self._roomy else []
                chart.show(lines, x_max=ends)

    def on_resize(self, event: Resize) -> None:
        """More charts in a taller pane."""
        self._roomy = event.size.height >= _ROOM
        self.set_class(self._roomy, "-roomy")
        self._show_again()

    def _show_again(self) -> None:
        """What was shown last, in another way."""
        self._seen = ()
        if self._shown is not None:
            self.show(*self._shown)


def _lines(history: History, name: str, average: str, *, smooth: bool) -> list[Line]:
    series = history.series
    lines = []
    stepwise = series.get(f"train/{name}")
    by_epoch = series.get(f"epoch/{name}")
    if stepwise is not None:
        steps, values = stepwise.curve()
        label = "mean" if smooth else "train"  # at 80 columns a longer word leaves no room for "val"
        lines.append(Line(label, steps, smoothed(values) if smooth else values, colour="primary"))
    elif by_epoch is not None:
        lines.append(Line("train", *by_epoch.curve(), colour="primary"))
    validated = series.get(f"val/{name}")
    if validated is not None:
        lines.append(Line("val", *validated.curve(), colour="warning", points=True))
    averaged = series.get(f"val-average/{name}")
    if averaged is not None:
        lines.append(Line(f"val {average}", *averaged.curve(), colour="success", points=True, marker="◇"))
    return lines


def smoothed(values: np.ndarray, weight: float = 0.9) -> np.ndarray:
    """Exponential moving average, corrected for its short start as TensorBoard does it: Σ wᵏ·x / Σ wᵏ."""
    kernel = weight ** np.arange(min(len(values), 64))
    ones = np.ones(len(values))
    return np.asarray(np.convolve(values, kernel)[: len(values)] / np.convolve(ones, kernel)[: len(values)])
