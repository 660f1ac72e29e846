"""How often the studio paints: as often as a little less than a fiftieth of one core's time allows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

BUDGET = 0.018
FASTEST_S, SLOWEST_S = 0.1, 1.0
_MEMORY_S = 5.0  # the share that is shown is that of the last five seconds


class Pace:
    """Measures what the thread that paints works, and says when it may paint again.

    A studio that repaints more than it may holds the GIL, and on a small machine a core, against the training.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, worked: Callable[[], float] = time.thread_time
    ) -> None:
        """`worked` are the CPU seconds of the thread that calls."""
        self._clock, self._worked = clock, worked
        self._looks = deque([(clock(), worked())])
        self._owed = 0.0  # seconds without a frame, for what was worked
        self.interval = FASTEST_S

    def next(self) -> float:
        """Seconds until the next frame; to be called once a frame, before it is painted."""
        now, done = self._clock(), self._worked()
        before, worked = self._looks[-1]
        cost = done - worked  # of the last frame, and of the keys since
        self._looks.append((now, done))
        while now - self._looks[1][0] > _MEMORY_S:
            self._looks.popleft()
        self._owed = min(max(self._owed - (now - before), 0.0) + cost / BUDGET, SLOWEST_S)
        # At most half way to the slowest: one dear frame, such as a dialog that opens, is no reason to stall.
        self.interval = min(max(self._owed, FASTEST_S), (self.interval + SLOWEST_S) / 2)
        return self.interval

    @property
    def share(self) -> float:
        """Of one core's time, in the last seconds."""
        (began, before), (now, done) = self._looks[0], self._looks[-1]
        return (done - before) / (now - began) if now > began else 0.0

    @property
    def frames_per_second(self) -> float:
        """In the last seconds."""
        began, now = self._looks[0][0], self._looks[-1][0]
        return (len(self._looks) - 1) / (now - began) if now > began else 0.0

    def __str__(self) -> str:
        return f"studio {self.frames_per_second:.1f} frames/s · {self.share:.1%} of a core"
