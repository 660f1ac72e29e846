"""A quantity of a device as a bar of now and a graph of the last minute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from textual.content import Content

from engine.devices.monitor import Snapshot

MINUTE = 60.0
OTHERS, FREE = "$foreground 60%", "$foreground 25%"
History = Sequence[Snapshot]


@dataclass(frozen=True)
class Meter:
    """A quantity as number, bar and graph: `shares` are the parts of the bar that are this process's and others'.

    `values` are 0..1 of what its graph can show. `long` is the number as it is put where there is more room.
    """

    label: str
    number: str
    shares: tuple[float, float] | None
    style: str
    values: Callable[[Snapshot], float | None]
    long: str = ""
    short_label: str = ""

    def head(self, long: bool) -> str:
        """Label and number as they stand before a small graph."""
        return f"{self.label} {self.long or self.number}" if long else f"{self.short_label or self.label} {self.number}"


def bar(meter: Meter, width: int) -> Content:
    """This moment, split by owner: █ this process, ▒ others, ░ free; blanks where it has no shares."""
    if meter.shares is None:
        return Content(" " * width)
    own, others = meter.shares
    filled = min(round((own + others) * width), width)
    mine = min(round(own * width), filled)
    return Content.assemble(("█" * mine, meter.style), ("▒" * (filled - mine), OTHERS), ("░" * (width - filled), FREE))


def graph(history: History, meter: Meter, width: int, rows: int) -> list[Content]:
    """The last minute, now at the right edge; `rows` lines of eighth blocks."""
    if not rows:
        return []
    columns, blocks = _minute(history, meter.values, width), _blocks(rows)
    tall = [blocks[0 if value is None else max(1, round(min(value, 1.0) * rows * 8))] for value in columns]
    return [Content.styled("".join(line), f"{meter.style} 60%") for line in zip(*tall, strict=True)]


@cache
def _blocks(rows: int) -> list[str]:
    """Of each height, in eighths of a row, the column from its top to its bottom."""
    floors = range((rows - 1) * 8, -1, -8)
    return ["".join(" ▁▂▃▄▅▆▇█"[min(max(height - floor, 0), 8)] for floor in floors) for height in range(rows * 8 + 1)]


def _minute(history: History, value: Callable[[Snapshot], float | None], columns: int) -> list[float | None]:
    """Means over equal spans of the last minute, which are fixed in time, so that the graph shifts but never boils."""
    spans: dict[int, list[float | None]] = defaultdict(list)
    for snapshot in history:
        spans[int(snapshot.time * columns / MINUTE)].append(value(snapshot))
    newest = int(history[-1].time * columns / MINUTE)
    means: list[float | None] = []
    last: float | None = None
    for span in range(newest - columns + 1, newest + 1):
        if span in spans:  # else the columns are finer than the samples, and the last one still holds
            known = [number for number in spans[span] if number is not None]
            last = sum(known) / len(known) if known else None
        means.append(last)
    return means
