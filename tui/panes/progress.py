"""How far the run is, what it does, and the buttons that tell it what to do."""

from __future__ import annotations

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Button

from engine.durations import clock
from engine.runs.history import History, Progress
from tui.widgets.told import Told

_STATES = {
    "preparing": ("◌", "preparing"),
    "downloading": ("↓", "downloading"),
    "training": ("●", "training"),
    "validating": ("◐", "validating"),
    "testing": ("◑", "testing"),
    "paused": ("‖", "paused"),
    "done": ("✓", "done"),
    "stopped": ("■", "stopped"),
    "failed": ("✗", "failed"),
    "interrupted": ("✗", "interrupted"),
}
_BUTTONS = (
    ("train", "▶ Train", "success"),
    ("pause", "‖ Pause", "default"),
    ("stop", "■ Stop", "error"),
    ("checkpoint", "✓ Save", "default"),
    ("change", "η Change", "default"),
)


class ProgressPane(Vertical):
    """Two bars and a line of words. Shows what it is given."""

    class Pressed(Message):
        """The person pressed the button of an action of the studio."""

        def __init__(self, action: str) -> None:
            self.action = action
            super().__init__()

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._drawn: tuple[object, ...] = ()
        self._line = Text()

    def compose(self) -> ComposeResult:
        with Horizontal(id="controls"):
            for action, label, variant in _BUTTONS:
                button = Button(label, id=f"press-{action}", variant=variant, compact=True)  # type: ignore[arg-type]
                yield button
            yield Told(id="state-line")
        yield Told(id="bars")

    def show(
        self, history: History | None, name: str, run: str, *, live: bool, next_from: str = "", cost: str = ""
    ) -> None:
        """Show a run's progress; nothing is done when it is the same as before.

        `next_from` says where the recipe on the desk would go on from, `cost` what the studio itself takes.
        """
        progress = history.progress if history else None
        summary = history.summary if history else None
        width = self.size.width
        drawn = (progress, summary, name, run, live, next_from, cost, width)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        self._buttons(progress, live)
        line = _state_line(progress, name, "" if live else next_from)
        if cost:
            line = Text.assemble(line, (f"   {cost}", "dim"))  # last: in a narrow terminal its end is cut off
        # Their places stay: a new layout of the whole screen would cost more than all the charts.
        if line != self._line:
            self._line = line
            self.query_one("#state-line", Told).tell(line)
        self.query_one("#bars", Told).tell(_bars(history, run, max(width - 2, 20)))

    def _buttons(self, progress: Progress | None, live: bool) -> None:
        paused = progress is not None and progress.state == "paused"
        for action, _, _ in _BUTTONS:
            self.query_one(f"#press-{action}", Button).disabled = live == (action == "train")
        self.query_one("#press-pause", Button).label = "▶ Go on" if paused else "‖ Pause"

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.post_message(self.Pressed(str(event.button.id).removeprefix("press-")))


def _state_line(progress: Progress | None, name: str, next_from: str) -> Text:
    if next_from:
        return Text.assemble(("next: a branch ", "cyan"), (next_from, "bold"))
    if progress is None:
        return Text.assemble("ready  ", (name, "bold"))
    sign, word = _STATES[progress.state]
    colour = {"training": "green", "done": "green", "failed": "red", "interrupted": "red", "paused": "yellow"}
    return Text.assemble((f"{sign} {word}", colour.get(progress.state, "cyan")), "  ", (name, "bold"))


def _bars(history: History | None, run: str, width: int) -> Text:
    if history is None:
        return Text("Pick a preset, change what you like, press t to train.", "dim")
    progress = history.progress
    if progress.state in ("failed", "interrupted", "stopped"):
        reason = str(history.error) if history.error else progress.text or progress.state
        return Text.assemble((reason, "red" if progress.state == "failed" else "yellow"), "  ", (run, "dim"))
    if progress.state == "done":
        return Text("\n").join([_closing(history, width), Text(run, "dim")])
    if progress.state in ("preparing", "downloading"):
        bar = _bar(progress.fraction, width // 3) if progress.fraction is not None else Text()
        return Text.assemble(progress.text or "building the model, loading the data", "  ", bar)
    if progress.state == "paused" and progress.text:  # the engine holds it, not the person: a full disk
        return Text.assemble((progress.text, "yellow"), "  ", (run, "dim"))
    words = f"{progress.samples:,}/{progress.epoch_samples:,} samples · {progress.samples_per_second:,.0f} samples/s"
    share = progress.samples / progress.epoch_samples if progress.epoch_samples else 0.0
    if progress.state in ("validating", "testing") and progress.fraction is not None:
        share = progress.fraction
    whole = progress.step / progress.steps if progress.steps else 0.0
    left = "" if progress.remaining is None else f" · {clock(progress.remaining)} left"
    epoch = min(progress.epoch + 1, progress.epochs)
    steps = f"epoch {epoch}/{progress.epochs} · step {progress.step:,}/{progress.steps:,}"
    rate = f" · lr {progress.learning_rate:.3g}"
    room = max(width - max(len(words), len(steps + left + rate)) - 14, 8)
    return Text("\n").join(
        [
            Text.assemble(("epoch ", "dim"), _bar(share, room), f" {share:4.0%}  ", words),
            Text.assemble(("run   ", "dim"), _bar(whole, room), f" {whole:4.0%}  ", steps, left, rate),
        ]
    )


def _closing(history: History, width: int) -> Text:
    """The best value, the same on the test part and the time; the other test metrics where there is room."""
    summary = history.summary
    if summary is None:
        return Text("done")
    text = Text()
    if summary.best is not None:
        text.append(f"best {summary.part} {summary.metric} ")
        text.append(f"{summary.best:.4g}", "bold green")
        text.append(f" (epoch {summary.best_epoch}) · ")
    tail = f"in {clock(summary.seconds)}"
    metric = summary.metric
    # The metric itself, then the averaged weights' ("ema accuracy"), then the others.
    for name, value in sorted(summary.test.items(), key=lambda item: (item[0] != metric, metric not in item[0])):
        part = Text.assemble(f"test {name} ", (f"{value:.4g}", "bold green"), " · ")
        if text.cell_len + part.cell_len + len(tail) <= width:
            text.append_text(part)
    return text.append(tail)


def _bar(share: float | None, width: int) -> Text:
    filled = round(min(max(share or 0.0, 0.0), 1.0) * width * 2)
    text = Text("━" * (filled // 2), "green")
    if filled % 2:
        text.append("╸", "green")
    text.append("─" * (width - text.cell_len), "dim")
    return text
