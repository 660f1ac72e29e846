"""How long a training has worked, how fast it goes, and where its time goes."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

from engine.insight.phases import Phases


class Clock:
    """Work alone counts: a pause does not, in none of the three."""

    def __init__(self, phases: Phases) -> None:
        self.phases = phases
        self.rate = Rate()
        self._started = time.monotonic()

    def start(self) -> None:
        """The work begins."""
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Of work since the start."""
        return time.monotonic() - self._started

    def begin_epoch(self) -> None:
        """What was done since the last step was not training."""
        self.rate.restart()
        self.phases.restart()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Time that does not count."""
        since = time.monotonic()
        try:
            yield
        finally:
            self._started += time.monotonic() - since
            self.begin_epoch()


class Rate:
    """Samples a second, smoothed over a few seconds so that it can be read."""

    def __init__(self) -> None:
        self._smoothed = 0.0
        self._samples = 0
        self._seconds = 0.0
        self._since = time.monotonic()

    def restart(self) -> None:
        """Leave out the time since the last read: it was not training."""
        self._since = time.monotonic()

    def add(self, samples: int) -> None:
        """So many samples more are done."""
        self._samples += samples

    def per_second(self, now: float) -> float:
        """The rate at `now`, by time.monotonic."""
        self._seconds += now - self._since
        self._since = now
        # A whole epoch may be shorter than what can be measured: then several are taken together.
        if self._seconds > 0.02 and self._samples:
            fresh = self._samples / self._seconds
            keep = math.exp(-self._seconds / 2.0) if self._smoothed else 0.0
            self._smoothed = keep * self._smoothed + (1 - keep) * fresh
            self._samples, self._seconds = 0, 0.0
        return self._smoothed
