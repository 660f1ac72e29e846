"""Where the engine's news go: to the History that panes read, and to the run directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from engine.devices.monitor import Monitor
from engine.insight.facts import Checkup, Times
from engine.insight.histograms import thinned
from engine.runs.directory import RunDirectory
from engine.runs.history import Event, History, Progress, Series, State, Summary
from engine.runs.writer import MetricsWriter

_SAMPLE_S = 5.0
_LONG = 20_000  # points that are read back in 10 ms; of more of them, what they come to is kept as well


class Recorder:
    """Fans out what happens to memory and to disk. Only the engine thread calls it; only `rewind` waits for the disk.

    `facts` are on disk as soon as there is a recorder.
    """

    def __init__(
        self,
        history: History,
        directory: RunDirectory,
        facts: Mapping[str, Any] | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        self.history = history
        self.directory = directory
        self._monitor, self._sampled = monitor, 0.0
        self._kept: dict[str, int] = {}
        """How many points each series had when its curve was kept last."""
        self._log = directory.log_file.open("a", encoding="utf-8", buffering=1)
        self._writer = MetricsWriter(directory.metrics_file, self.say, facts)

    def values(self, part: str, steps: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Values of steps, as `part/name`, and every five seconds a sample of the devices."""
        self._sample_devices()
        for name, column in values.items():
            self._points(f"{part}/{name}", steps, column)

    def value(self, name: str, step: int, value: float) -> None:
        """One value of one series."""
        self._points(name, np.array([step]), np.array([value], dtype=np.float64))

    def event(self, step: int, kind: str, text: str) -> None:
        """Something that happened, also as a line of the log."""
        event = Event(step, kind, text, time.time())
        self.history.note(event)
        self._writer.event(event)
        self.say(text)

    def say(self, line: str) -> None:
        """A line of the log."""
        self.history.say(line)
        try:
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
        except (OSError, ValueError):
            return  # a full disk must not end a training; the line is in the History

    def detail(self, text: str) -> None:
        """Text for the log file alone, such as a traceback."""
        try:
            self._log.write(text.rstrip("\n") + "\n")
        except (OSError, ValueError):
            return

    def progress(self, **changes: Any) -> None:
        """Replace the fields of the progress that changed."""
        self.history.progress = replace(self.history.progress, **changes)

    def state(self, state: State, reason: str = "", **facts: Any) -> None:
        """The run's state, in memory and on disk."""
        before: Progress = self.history.progress
        # What remains is of the run, not of the state: it must not flicker at each validation.
        remaining = before.remaining if state in ("training", "validating", "paused") else None
        self.history.progress = replace(before, state=state, text=reason, fraction=None, remaining=remaining)
        self._writer.facts({"state": state, "reason": reason, **facts})

    def facts(self, **facts: Any) -> None:
        """Facts about the run, on disk."""
        self._writer.facts(facts)

    def threads(self, count: int, why: str) -> None:
        """How many threads the training uses, and why."""
        self.history.threads = count
        self._writer.facts({"threads": count})
        self.say(why)

    def summary(self, summary: Summary) -> None:
        """What the run has come to so far."""
        self.history.summary = summary
        self._writer.facts({"summary": asdict(summary)})

    def times(self, times: Times | None) -> None:
        """Where the time goes."""
        self.history.times = times or self.history.times

    def checkup(self, checkup: Checkup) -> None:
        """How the layers fared at a step. Kept as rows on disk, and the newest in memory: there may be many layers.

        Of how they are spread both keep the newest and some of before.
        """
        history = self.history
        history.checkup = checkup
        if checkup.spreads:
            known = {**history.spreads, checkup.step: checkup.spreads}
            kept = thinned(list(known))
            history.spreads = {step: known[step] for step in kept}
            packed = {name: spread.packed() for name, spread in checkup.spreads.items()}
            self._writer.spreads(checkup.step, packed, known.keys() - kept)
        for name, value in checkup.series().items():
            self._writer.points(name, np.array([checkup.step]), np.array([value]))

    def mark(self) -> Callable[[], None]:
        """A function that waits until all recorded so far is on disk, at most a second.

        A checkpoint must not be ahead of the metrics, or a resumed run has a gap.
        """
        return self._writer.mark()

    def rewind(self, step: int) -> None:
        """Forget what was recorded after `step`, on disk and in memory: the training goes back there."""
        self._kept.clear()
        self._writer.forget_after(step)
        self._writer.flush()
        kept = self.directory.history()
        self.history.series = kept.series
        self.history.events = kept.events
        self.history.spreads = kept.spreads

    def close(self) -> None:
        """Write everything out."""
        for name, series in self.history.series.items():
            if series.count >= _LONG:
                self._keep(name, series)
        self._writer.close()
        self._log.close()

    def _sample_devices(self) -> None:
        snapshot = self._monitor.latest if self._monitor else None
        if snapshot is not None and snapshot.time - self._sampled >= _SAMPLE_S:
            self._sampled = snapshot.time
            self._writer.sample(snapshot.time, asdict(snapshot))

    def _points(self, name: str, steps: np.ndarray, values: np.ndarray) -> None:
        series = self.history.add(name, steps, values)
        self._writer.points(name, steps, values)
        if series.count - self._kept.get(name, 0) >= _LONG:
            self._keep(name, series)

    def _keep(self, name: str, series: Series) -> None:
        """Keep the curve of all points so far, so that opening the run need not read them."""
        self._kept[name] = series.count
        self._writer.curve(name, series.packed())
