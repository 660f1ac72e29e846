"""Where the time and the memory of a few training steps go, by torch.profiler."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from engine.errors import TrainingError, first_line

_ROWS = 10


@dataclass(frozen=True)
class Operation:
    """One kind of operation over all profiled steps, without what it called.

    `seconds` are the GPU's where there is one, else the CPU's, and `share` is of their sum; `memory` is what it
    allocated less what it freed, in bytes on that device.
    """

    name: str
    calls: int
    seconds: float
    share: float
    memory: int


@dataclass(frozen=True)
class Report:
    """The costliest operations of `steps` steps, and where the whole trace lies (for chrome://tracing or Perfetto)."""

    steps: int
    device: str
    by_time: Sequence[Operation]
    by_memory: Sequence[Operation]
    trace: Path

    @property
    def text(self) -> str:
        """Two tables in plain text."""
        parts = (("by time", self.by_time), ("by memory", self.by_memory))
        tables = [
            f"The costliest operations of {self.steps} steps {how} ({self.device})\n{_table(rows)}"
            for how, rows in parts
        ]
        return "\n\n".join(tables) + "\n"


class Profile:
    """Profiles `steps` training steps: `begin`, `step` after each until it says True, `finish`.

    All three are called in the thread that trains. Profiled steps are slower than others.
    """

    def __init__(self, steps: int = 5) -> None:
        self.steps = steps
        self._done = self._first = 0
        self._profiler: profile | None = None

    def begin(self, step: int = 0) -> None:
        """Start to record; `step` is the training's step and gives the files their name."""
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._first, self._done = step, 0
        self._profiler = profile(activities=activities, profile_memory=True)
        self._profiler.start()

    def step(self) -> bool:
        """A step is done; whether it was the last one to record."""
        self._done += 1
        return self._done >= self.steps

    def cancel(self) -> None:
        """Stop without a report, after an error or a stop in the middle."""
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None

    def finish(self, folder: Path) -> Report:
        """Stop, and write `trace-STEP.json` and `profile-STEP.txt` into `folder`.

        Raises TrainingError when the disk does not take them.
        """
        profiler = self._profiler
        assert profiler is not None, "begin() comes first"
        self.cancel()
        trace = folder / f"trace-{self._first}.json"
        events = profiler.key_averages()
        cuda = any(_number(event, "self_device_time_total") for event in events)
        operations = _operations(events, "device" if cuda else "cpu")
        by_time, by_memory = _costliest(operations, "seconds"), _costliest(operations, "memory")
        report = Report(self._done, "GPU" if cuda else "CPU", by_time, by_memory, trace)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _export(profiler, trace)
            (folder / f"profile-{self._first}.txt").write_text(report.text, encoding="utf-8")
        except (OSError, RuntimeError) as error:
            what = f"the profile can't be written: {first_line(error)}"
            raise TrainingError(str(folder), what, "Make room on the disk, or choose another folder.") from error
        return report


def top(report: Report) -> str:
    """The costliest operation in a line: `aten::conv2d takes 43 % of the time (CPU)`."""
    if not report.by_time:
        return "nothing was recorded"
    first = report.by_time[0]
    return f"{first.name} takes {first.share:.0%} of the time ({report.device})"


def _operations(events: Any, device: str) -> list[Operation]:
    """torch's averages without the profiler's own bookkeeping."""
    found = [event for event in events if not event.key.startswith("ProfilerStep")]
    whole = sum(_number(event, f"self_{device}_time_total") for event in found) or 1.0
    return [
        Operation(
            event.key,
            event.count,
            (spent := _number(event, f"self_{device}_time_total")) / 1e6,  # torch counts microseconds
            spent / whole,
            int(_number(event, f"self_{device}_memory_usage")),
        )
        for event in found
    ]


def _number(event: Any, name: str) -> float:
    return float(getattr(event, name, 0) or 0)


def _costliest(operations: Sequence[Operation], what: str) -> list[Operation]:
    """The ten with most of it; those with none of it are left out."""
    ordered = sorted(operations, key=lambda operation: getattr(operation, what), reverse=True)
    return [operation for operation in ordered[:_ROWS] if getattr(operation, what) > 0]


def _export(profiler: profile, trace: Path) -> None:
    """Write the Chrome trace. Raises OSError: torch's own exporter says nothing when the disk is full."""
    profiler.export_chrome_trace(str(trace))
    with trace.open("rb") as file:
        file.seek(max(0, trace.stat().st_size - 8192))
        end = file.read().rstrip()  # the last thing written is the trace's own path, as "traceName"
        if b'"traceName"' not in end or not end.endswith(b"}"):
            raise OSError(errno.ENOSPC, "the trace is not whole")


def _table(rows: Sequence[Operation]) -> str:
    if not rows:
        return "nothing was recorded"
    width = max(len(_short(row.name)) for row in rows)
    lines = [f"{'operation':<{width}}  {'calls':>7}  {'self ms':>10}  {'share':>6}  {'MiB':>10}"]
    lines += [
        f"{_short(row.name):<{width}}  {row.calls:>7}  {row.seconds * 1e3:>10.3f}  {row.share:>6.1%}"
        f"  {row.memory / 2**20:>10.3f}"
        for row in rows
    ]
    return "\n".join(lines)


def _short(name: str) -> str:
    """A CUDA kernel's name may be a thousand characters of template."""
    return name if len(name) <= 48 else f"{name[:47]}…"
