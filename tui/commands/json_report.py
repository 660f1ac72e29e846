"""What a training without the studio prints for a program, and how every `--json` writes its values."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from tui.commands.reports import LogNews

if TYPE_CHECKING:
    from types import TracebackType

    from engine.job import Job
    from engine.runs.history import History, Summary

_PROGRESS_EVERY_S = 1.0


class JsonReport:
    """One JSON object a line, each with "event" and "time" (seconds since 1970). Numbers that are unknown are null.

    start     run, directory, title, task, device, epochs, resumed
    progress  state, text, epoch (being trained, from 1), epochs, step, steps, samples, epoch_samples,
              samples_per_second, remaining (seconds), learning_rate, loss; at most once a second
    epoch     epoch (from 1), step, train {loss, …}, val {loss, …}; two epochs within a tenth of a second
              are both told, up to 4096 epochs; beyond, the last of them
    event     kind (lr, weight_decay, epochs, checkpoint, pause, resume, trouble, nan, memory, …), step, text
    log       text
    end       state (done, stopped, failed), run, directory, metric, best, best_epoch, test {…}, seconds,
              error (null, or where, what, remedy), resume (the command that goes on with it, or null)
    """

    def __init__(self) -> None:
        self._news = LogNews()
        self._epochs = self._noted = 0
        self._last_progress = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def reading(self, text: str) -> None:
        """Nothing: `start` comes first."""

    def begin(self, job: Job) -> None:
        """start"""
        history, recipe = job.history, job.recipe
        self._news = LogNews(history.logged)
        self._epochs, self._noted = finished_epochs(history), history.noted
        self._tell(
            "start",
            **_run_of(job),
            title=recipe.title,
            task=recipe.task,
            device=recipe.training.device,
            epochs=recipe.training.epochs,
            resumed=bool(history.logged),
        )

    def look(self, history: History) -> None:
        """log, event, epoch, progress"""
        for line in self._news.take(history):
            self._tell("log", text=line.partition("  ")[2])
        events, self._noted = history.events_since(self._noted)
        for event in events:
            self._tell("event", kind=event.kind, step=event.step, text=event.text)
        # The first epoch's values may be half written until there is a summary.
        finished = self._epochs if history.summary is None else finished_epochs(history)
        for values in epoch_values(history, min(self._epochs, finished), finished):
            self._tell("epoch", **values)
        self._epochs = finished
        if time.monotonic() - self._last_progress >= _PROGRESS_EVERY_S:
            self._last_progress = time.monotonic()
            self._tell("progress", **_progress_values(history))

    def stopping(self) -> None:
        """The end will say it."""

    def end(self, job: Job, resume: str) -> None:
        """end"""
        history = job.history
        self.look(history)
        error = history.error
        self._tell(
            "end",
            state=history.progress.state,
            **_run_of(job),
            **summary_values(history.summary),
            error=error and {"where": error.where, "what": error.what, "remedy": error.remedy},
            resume=resume or None,
        )

    def _tell(self, event: str, **values: object) -> None:
        print(to_json({"event": event, "time": round(time.time(), 3), **values}))


def summary_values(summary: Summary | None) -> dict[str, Any]:
    """A summary's values by name; None where there is none yet."""
    if summary is None:
        return {"metric": None, "best": None, "best_epoch": None, "test": {}, "seconds": None}
    return {
        "metric": summary.metric,
        "best": summary.best,
        "best_epoch": summary.best_epoch or None,
        "test": dict(summary.test),
        "seconds": round(summary.seconds, 3),
    }


def to_json(value: object) -> str:
    """JSON in one line; a number that is not finite is null, as JSON has none."""
    return json.dumps(_finite(value), ensure_ascii=False, default=str)


def finished_epochs(history: History) -> int:
    """How many epochs' values are in the history."""
    counts = [series.count for name, series in history.series.items() if name.startswith(("epoch/", "val/"))]
    return min(counts, default=0)


def epoch_values(history: History, first: int, last: int) -> Iterator[dict[str, Any]]:
    """The values of epochs `first` to `last - 1`, counted from 0; only the newest of them when curves are merged."""
    series = {name: one for name, one in history.series.items() if name.startswith(("epoch/", "val/"))}
    if any(one.width > 1 for one in series.values()):
        first = max(first, last - 1)
    curves = {name: (one.curve(), one.last) for name, one in series.items()}
    for number in range(first, last):
        values: dict[str, Any] = {"epoch": number + 1, "step": None, "train": {}, "val": {}}
        for name, ((steps, points), newest) in curves.items():
            part, _, metric = name.partition("/")
            exact = len(points) > number
            values["step"] = int(steps[number if exact else -1]) if len(steps) else None
            values["train" if part == "epoch" else "val"][metric] = float(points[number]) if exact else newest
        yield values


def _progress_values(history: History) -> dict[str, Any]:
    at, loss = history.progress, history.series.get("train/loss")
    return {
        "state": at.state,
        "text": at.text,
        "epoch": min(at.epoch + 1, at.epochs),
        "epochs": at.epochs,
        "step": at.step,
        "steps": at.steps,
        "samples": at.samples,
        "epoch_samples": at.epoch_samples,
        "samples_per_second": round(at.samples_per_second, 1),
        "remaining": None if at.remaining is None else round(at.remaining, 1),
        "learning_rate": at.learning_rate,
        "loss": loss.last if loss is not None else None,
    }


def _run_of(job: Job) -> dict[str, str]:
    return {"run": job.directory.name, "directory": str(job.directory.path)}


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
