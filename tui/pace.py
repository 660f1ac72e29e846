"""How often the studio paints: as often as a fiftieth of one core's time allows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

BUDGET = 0.02
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
        self.interval = FASTEST_S

    def next(self) -> float:
        """Seconds until the next frame; to be called once a frame, before it is painted."""
        now, done = self._clock(), self._worked()
        cost = done - self._looks[-1][1]  # of the last frame, and of the keys since
        self._looks.append((now, done))
        while now - self._looks[1][0] > _MEMORY_S:
            self._looks.popleft()
        # Half way to what this frame asks for: one that is dear, such as a dialog that opens, is no reason to stall.
        wanted = min(max(cost / BUDGET, FASTEST_S), SLOWEST_S)
        self.interval = (self.interval + wanted) / 2
        return self.interval

    @property
    def share(self) -> float:
        """Of one core's time, in the last seconds."""
        (began, before), (now, done) = self._looks[0], self._looks[-1]
        return (done - before) / (now - began) if now > began else 0.0

    def __str__(self) -> str:
        return f"studio {1 / self.interval:.1f} frames/s · {self.share:.1%} of a core"
