"""Curves in bounded memory, and the latest news of a run: what the engine writes and the panes read."""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from engine.errors import StudioError
from engine.insight.facts import Checkup, Times
from engine.insight.histograms import Spread

T = TypeVar("T")

State = Literal[
    "preparing",
    "downloading",
    "training",
    "validating",
    "testing",
    "paused",
    "done",
    "stopped",
    "failed",
    "interrupted",
]
LIVE: frozenset[State] = frozenset({"preparing", "downloading", "training", "validating", "testing", "paused"})

_BUCKETS = 4096

_HEAD = struct.Struct("<4q")  # format, width, last step, count
_FORMAT = 1
_FIELDS = [("bucket", "<i8"), ("sum", "<f8"), ("low", "<f8"), ("high", "<f8"), ("n", "<i8")]
_NAMES, _ROW_BYTES = [name for name, _ in _FIELDS], 8 * len(_FIELDS)


class Series:
    """One metric over steps, in at most 4096 buckets of equal width.

    A bucket keeps the mean, least and greatest of its values. When the buckets run out, neighbours are merged and the
    width doubles, so memory and the cost of reading stay the same for a thousand steps and for a million. One writer;
    any thread may read.
    """

    def __init__(self) -> None:
        self.width = 1
        self.last: float | None = None
        self.last_step: int | None = None
        self.count = 0
        self._lock = threading.Lock()
        self._bucket = np.empty(_BUCKETS, np.int64)  # step // width
        self._sum = np.empty(_BUCKETS)
        self._low = np.empty(_BUCKETS)
        self._high = np.empty(_BUCKETS)
        self._n = np.empty(_BUCKETS, np.int64)
        self._used = 0

    def extend(self, steps: np.ndarray, values: np.ndarray) -> None:
        """Append values at ascending `steps`, all later than the last. Non-finite values are kept out of the curve."""
        if not len(steps):
            return
        finite = np.isfinite(values)
        with self._lock:
            self.last, self.last_step = float(values[-1]), int(steps[-1])
            self.count += len(steps)
            steps, values = steps[finite], values[finite]
            for first in range(0, len(steps), _BUCKETS // 4):
                self._append(steps[first : first + _BUCKETS // 4], values[first : first + _BUCKETS // 4])

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values): the middle step and the mean of each bucket."""
        with self._lock:
            used = slice(0, self._used)
            return self._bucket[used] * self.width + (self.width - 1) / 2, self._sum[used] / self._n[used]

    def band(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(steps, least, greatest) of each bucket."""
        with self._lock:
            used = slice(0, self._used)
            middle = self._bucket[used] * self.width + (self.width - 1) / 2
            return middle, self._low[used].copy(), self._high[used].copy()

    def packed(self) -> bytes:
        """The curve of at least one point as bytes, 40 a bucket. `last` is not among them."""
        with self._lock:
            rows = np.empty(self._used, _FIELDS)
            for name, column in zip(_NAMES, self._columns, strict=True):
                rows[name] = column[: self._used]
            return _HEAD.pack(_FORMAT, self.width, self.last_step, self.count) + rows.tobytes()

    @classmethod
    def unpacked(cls, packed: object) -> Series | None:
        """The series that was `packed`, without its `last`; None for what can't be one."""
        if not isinstance(packed, bytes) or len(packed) < _HEAD.size or (len(packed) - _HEAD.size) % _ROW_BYTES:
            return None
        version, width, last_step, count = _HEAD.unpack_from(packed)
        rows = np.frombuffer(packed[_HEAD.size :], _FIELDS)
        if version != _FORMAT or width < 1 or width & (width - 1) or not _possible(rows, width, last_step, count):
            return None
        series = cls()
        series.width, series.last_step, series.count, series._used = width, last_step, count, len(rows)
        for name, column in zip(_NAMES, series._columns, strict=True):
            column[: len(rows)] = rows[name]
        return series

    def cut(self, step: int) -> int:
        """Take out the bucket that holds `step`, and all after it. Returns the first step of that bucket.

        What is known from there to `step` is to be added again, and `count` to be corrected, by whoever has the points.
        """
        with self._lock:
            bucket = step // self.width
            self._used = int(np.searchsorted(self._bucket[: self._used], bucket))
            return bucket * self.width

    @property
    def fits_finer(self) -> bool:
        """Whether buckets of half the width would do."""
        return self.width > 1 and self._used < _BUCKETS // 2

    def _append(self, steps: np.ndarray, values: np.ndarray) -> None:
        if not len(steps):
            return
        buckets, starts = self._bucketed(steps)
        # As few merges as the buckets in use ask for: then the curve is the same however the points were chunked.
        while self._used + len(starts) - self._goes_on(int(buckets[0])) > _BUCKETS:
            self._merge()
            buckets, starts = self._bucketed(steps)
        columns = (
            buckets[starts],
            np.add.reduceat(values, starts),
            np.minimum.reduceat(values, starts),
            np.maximum.reduceat(values, starts),
            np.diff(starts, append=len(values)),
        )
        if self._goes_on(int(buckets[0])):
            last = self._used - 1
            self._sum[last] += columns[1][0]
            self._low[last] = min(self._low[last], columns[2][0])
            self._high[last] = max(self._high[last], columns[3][0])
            self._n[last] += columns[4][0]
            columns = tuple(column[1:] for column in columns)  # type: ignore[assignment]
        into = slice(self._used, self._used + len(columns[0]))
        for kept, column in zip(self._columns, columns, strict=True):
            kept[into] = column
        self._used = into.stop

    def _bucketed(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each step's bucket, and where in `steps` a new bucket starts."""
        buckets = steps // self.width
        return buckets, np.flatnonzero(np.diff(buckets, prepend=buckets[0] - 1))

    def _goes_on(self, bucket: int) -> bool:
        """Whether `bucket` is the last one in use."""
        return self._used > 0 and int(self._bucket[self._used - 1]) == bucket

    @property
    def _columns(self) -> tuple[np.ndarray, ...]:
        return self._bucket, self._sum, self._low, self._high, self._n

    def _merge(self) -> None:
        """Double the width."""
        self.width *= 2
        buckets = self._bucket[: self._used] // 2
        starts = np.flatnonzero(np.diff(buckets, prepend=-1))
        merged = (
            buckets[starts],
            np.add.reduceat(self._sum[: self._used], starts),
            np.minimum.reduceat(self._low[: self._used], starts),
            np.maximum.reduceat(self._high[: self._used], starts),
            np.add.reduceat(self._n[: self._used], starts),
        )
        self._used = len(starts)
        for kept, column in zip(self._columns, merged, strict=True):
            kept[: self._used] = column


def _possible(rows: np.ndarray, width: int, last_step: int, count: int) -> bool:
    """Whether these can be the buckets of a series: in order, none with more points than it has steps."""
    bucket, n = rows["bucket"], rows["n"]
    return bool(
        len(rows) <= _BUCKETS
        and (np.diff(bucket) > 0).all()
        and (rows["low"] <= rows["high"]).all()
        and ((n >= 1) & (n <= width)).all()
        and n.sum() <= count
        and (bucket <= last_step // width).all()
    )


@dataclass(frozen=True)
class Event:
    """Something that happened at a step: a changed learning rate, a checkpoint, a pause."""

    step: int
    kind: str
    text: str
    time: float = 0.0


@dataclass(frozen=True)
class Progress:
    """Where a run is. The engine replaces it whenever it has news; whoever shows it reads it on a clock of its own.

    `fraction` is of what the state names: a download, a validation. Counts of samples are those of the current epoch.
    `weight_decay` is None until the training begins, and where the optimizer has none.
    """

    state: State = "preparing"
    text: str = ""
    fraction: float | None = None
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    samples: int = 0
    epoch_samples: int = 0
    samples_per_second: float = 0.0
    remaining: float | None = None
    learning_rate: float = 0.0
    weight_decay: float | None = None


@dataclass(frozen=True)
class Summary:
    """What a run came to: `best` is the best value of `metric` on `part`, reached after `best_epoch` epochs.

    `part` is `val`, or `train` where nothing is held out to validate on.
    """

    metric: str = ""
    best: float | None = None
    best_epoch: int = 0
    test: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    part: str = "val"


class History:
    """All that is known of one run, as it grows. The engine thread writes; panes read on a timer."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}
        self.progress = Progress()
        self.summary: Summary | None = None
        self.error: StudioError | None = None
        self.events: tuple[Event, ...] = ()
        self.times: Times | None = None
        """Where the time of the last seconds went."""
        self.threads = 0
        """How many threads share an operation on the CPU; 0 where another device computes, or before it is known."""
        self.checkup: Checkup | None = None
        """How the layers fared at the last step that was looked at."""
        self.spreads: Mapping[int, Mapping[str, Spread]] = {}
        """How the numbers of each layer were spread, by step, ascending: the last, and so many of before."""
        self.log: deque[str] = deque(maxlen=1000)
        self.logged = 0
        """How many lines were ever logged."""
        self.noted = 0
        """How many events were ever noted here: those read back from disk were not."""
        self._news: deque[Event] = deque(maxlen=1000)
        self._saying = threading.Lock()

    def add(self, name: str, steps: np.ndarray, values: np.ndarray) -> Series:
        """Extend one series, made when it is new, and return it."""
        series = self.series.get(name)
        if series is None:
            # A new dict instead of a changed one: a reader may be iterating over the old.
            series = Series()
            self.series = {**self.series, name: series}
        series.extend(steps, values)
        return series

    def note(self, event: Event) -> None:
        """Append an event."""
        with self._saying:
            self.events = (*self.events, event)
            self._news.append(event)
            self.noted += 1

    def events_since(self, noted: int) -> tuple[list[Event], int]:
        """The events that came after the first `noted`, as far as they are kept, and how many there are now.

        Also those that a rewind has taken out of `events` since: they have happened.
        """
        with self._saying:
            return _newest(self._news, self.noted - noted), self.noted

    def say(self, line: str) -> None:
        """Append a line to the log, with the time of day. Any thread may."""
        with self._saying:
            self.log.append(f"{time.strftime('%H:%M:%S')}  {line}")
            self.logged += 1

    def lines_since(self, logged: int) -> tuple[list[str], int]:
        """The lines that came after the first `logged`, as far as they are kept, and how many there are now."""
        with self._saying:
            return _newest(self.log, self.logged - logged), self.logged


def _newest(kept: deque[T], count: int) -> list[T]:
    """The last `count` of what is kept, or all when there are not so many."""
    return list(kept)[max(len(kept) - count, 0) :]
