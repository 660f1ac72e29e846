"""What a training without the studio prints for a person: plain lines, or a live display.

Each reads the job's history when it is told to look; the engine knows nothing of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, Self

from engine.durations import clock

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console, RenderableType
    from rich.live import Live

    from engine.job import Job
    from engine.runs.history import History, Progress, Summary

_LINE_EVERY_S = 10.0
_PAINT_S = 0.1
_NOW = {
    "preparing": "preparing",
    "downloading": "download",
    "training": "epoch",
    "validating": "validation",
    "testing": "test",
}


class Report(Protocol):
    """One way to tell about a job. Entered before anything is loaded; `look` is called ten times a second."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def reading(self, text: str) -> None:
        """How far the data is read and measured, before there is a job; told many times a second."""

    def begin(self, job: Job) -> None:
        """The job is about to start."""

    def look(self, history: History) -> None:
        """There may be news."""

    def stopping(self) -> None:
        """The person has asked it to stop."""

    def end(self, job: Job, resume: str) -> None:
        """It has ended; `resume` is the command that goes on with it, if it can be gone on with."""


class LineReport:
    """The engine's log, a line an epoch, and a line every ten seconds while there is none."""

    def __init__(self) -> None:
        self._news = LogNews()
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def reading(self, text: str) -> None:
        """A line every ten seconds."""
        now = time.monotonic()
        if now - self._last_line > _LINE_EVERY_S:
            self._last_line = now
            print(f"{time.strftime('%H:%M:%S')}  {text}")

    def begin(self, job: Job) -> None:
        """Which recipe, which run."""
        self._news = LogNews(job.history.logged)
        print(headline(job))

    def look(self, history: History) -> None:
        """What is new in the log; in a long silence, how far it is."""
        now = time.monotonic()
        for line in self._news.take(history):
            print(line)
            self._last_line = now
        if now - self._last_line > _LINE_EVERY_S:
            self._last_line = now
            print(f"{time.strftime('%H:%M:%S')}  {silence_text(history)}")

    def stopping(self) -> None:
        """That it may take a step's time."""
        print(STOPPING)

    def end(self, job: Job, resume: str) -> None:
        """What came of it, and where it lies."""
        self.look(job.history)
        print(closing_text(job, resume))


STOPPING = "stopping after this step, with a checkpoint; Ctrl+C again leaves at once, without"


class LiveReport:
    """Two bars and a line of numbers that stay at the bottom of the terminal, the engine's log above them."""

    def __init__(self) -> None:
        self._news = LogNews()
        self._note = ""
        self._painted = 0.0
        self._left: float | None = None
        self._console: Console | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        import sys

        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False, markup=False, emoji=False)
        # Rich would send stderr to stdout with all else; it may have been sent elsewhere.
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stderr=sys.stderr.isatty()
        )
        self._live.start()
        self._live.update("loading PyTorch …", refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def reading(self, text: str) -> None:
        """In the place of the bars."""
        assert self._live is not None
        if time.monotonic() - self._painted > _PAINT_S:
            self._painted = time.monotonic()
            self._live.update(text, refresh=True)

    def begin(self, job: Job) -> None:
        """Which recipe, which run."""
        self._news = LogNews(job.history.logged)
        self._print(headline(job), whole=True)

    def look(self, history: History) -> None:
        """Repaint the bars, with what is new in the log above them."""
        assert self._live is not None
        assert self._console is not None
        if not self._console.is_terminal:  # it has gone meanwhile
            return
        for line in self._news.take(history):
            self._print(line)
        self._left = history.progress.remaining or self._left  # the engine forgets it when an epoch begins
        self._live.update(self._bars(history), refresh=True)

    def stopping(self) -> None:
        """That it may take a step's time."""
        self._note = STOPPING

    def end(self, job: Job, resume: str) -> None:
        """What came of it, and where it lies, in the place of the bars."""
        assert self._live is not None
        self.look(job.history)
        self._live.update("")
        self._live.stop()
        self._print(closing_text(job, resume), whole=True)

    def _print(self, text: str, *, whole: bool = False) -> None:
        """Above the bars, broken between words; `whole` is left to the terminal, which copies what it broke as one."""
        assert self._console is not None
        self._console.print(text, soft_wrap=whole)

    def _bars(self, history: History) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        assert self._console is not None
        at = history.progress
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(no_wrap=True, width=10)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        for label, fraction, text in (("run", *_of_run(at)), (_NOW.get(at.state, at.state), *_of_part(at))):
            grid.add_row(label, ProgressBar(1.0, fraction, complete_style="cyan", finished_style="cyan"), text)
        width = self._console.width
        return Group(grid, self._note or numbers_text(history, self._left, width))


class LogNews:
    """The lines of a history's log that have not been taken yet."""

    def __init__(self, seen: int = 0) -> None:
        self._seen = seen

    def take(self, history: History) -> Iterator[str]:
        """The new lines; those that are gone from the log are counted. A failure's line is the caller's to say."""
        lines, logged = history.lines_since(self._seen)
        fresh, self._seen = logged - self._seen, max(self._seen, logged)
        if fresh > len(lines):
            yield f"… {fresh - len(lines)} lines more in log.txt …"
        yield from (line for line in lines if not (history.error and str(history.error) in line))


def headline(job: Job) -> str:
    """`Handwritten digits → runs/digits-mlp-…`."""
    return f"{job.recipe.title or job.recipe.task} → {job.directory.path}"


def silence_text(history: History) -> str:
    """How far it is, when nothing else is to be said."""
    at = history.progress
    if at.state == "training":
        return f"epoch {at.epoch + 1}/{at.epochs}  {_of_part(at)[1]}  {numbers_text(history, at.remaining)}"
    return " ".join(filter(None, (at.state, at.text, _percent(at.fraction))))


def numbers_text(history: History, left: float | None, width: int | None = None) -> str:
    """`loss 0.31 · 12,300 samples/s · 0:12 left · …`, the most wanted first, as many as fit into `width`."""
    at, facts = history.progress, list[str]()
    loss, best = history.series.get("train/loss"), history.summary
    if loss is not None and loss.last is not None:
        facts.append(f"loss {loss.last:.4g}")
    if at.samples_per_second:
        facts.append(f"{at.samples_per_second:,.0f} samples/s")
    if left is not None:
        facts.append(f"{clock(left)} left")
    if best is not None and best.best is not None:
        facts.append(f"best {best.metric} {best.best:.4g} (epoch {best.best_epoch})")
    while width is not None and facts and len(" · ".join(facts)) > width:
        facts.pop()
    return " · ".join(facts)


def closing_text(job: Job, resume: str) -> str:
    """What came of a run: a line each for the best value, the test, the run's folder, and how to go on."""
    history = job.history
    at, summary = history.progress, history.summary
    lines = [("run", str(job.directory.path))]
    if at.state == "failed":
        lines.append(("log", str(job.directory.log_file)))
    if summary is not None:
        lines[:0] = result_lines(summary)
    if at.state == "stopped":
        lines.append(("resume", resume or "there is no checkpoint yet: train it anew"))
    return "\n".join(f"{label:<8}{text}" for label, text in lines)


def result_lines(summary: Summary) -> list[tuple[str, str]]:
    """(label, text) of what a run has come to."""
    lines: list[tuple[str, str]] = []
    if summary.best is not None:
        lines.append(("best", f"{summary.metric} {summary.best:.4g} in epoch {summary.best_epoch}"))
    if summary.test:
        # The metric that the run is about comes first, the loss last.
        names = sorted(summary.test, key=lambda name: (name != summary.metric, name == "loss"))
        lines.append(("test", " · ".join(f"{name} {summary.test[name]:.4g}" for name in names)))
    lines.append(("time", clock(summary.seconds)))
    return lines


def _of_run(at: Progress) -> tuple[float, str]:
    """(share, text) of the whole run."""
    if not at.steps:
        return 0.0, f"{at.epochs} epochs" if at.epochs else ""
    share = min(at.step / at.steps, 1.0)
    return share, f"epoch {min(at.epoch + 1, at.epochs)}/{at.epochs} {_percent(share)}"


def _of_part(at: Progress) -> tuple[float, str]:
    """(share, text) of what it is doing now."""
    if at.state == "training" and at.epoch_samples:
        share = min(at.samples / at.epoch_samples, 1.0)
        return share, f"{at.samples:,}/{at.epoch_samples:,} samples {_percent(share)}"
    return at.fraction or 0.0, at.text or _percent(at.fraction)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:4.0%}"
