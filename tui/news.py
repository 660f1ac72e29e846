"""Which of a run's events are told at once, and how often: a hundred skipped steps are one notification."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from textual.notifications import SeverityLevel

from engine.runs.history import Event

_QUIET_S = 60.0  # of one kind there is no more than one notification in that time

# Event kind → title and severity. What is not here stands in the log alone.
_TOLD: dict[str, tuple[str, SeverityLevel]] = {
    "nan": ("Not a number", "warning"),
    "rollback": ("Back to a checkpoint", "warning"),
    "memory": ("Out of memory", "warning"),
    "trouble": ("Trouble", "warning"),
    "disk": ("Disk", "information"),
    "early stopping": ("The run ends early", "information"),
    "profile": ("Profile", "information"),
}


@dataclass(frozen=True)
class Notice:
    """What a person is told."""

    title: str
    text: str
    severity: SeverityLevel


@dataclass
class News:
    """Knows what has been told of one run."""

    _told: dict[str, float] = field(default_factory=dict)
    _untold: dict[str, int] = field(default_factory=dict)

    def notices(self, events: Iterable[Event], now: float) -> list[Notice]:
        """What to tell of `events`, which are new, at the time `now` in seconds. Those kept back are counted."""
        notices = []
        for event in events:
            if event.kind not in _TOLD:
                continue
            if now - self._told.get(event.kind, -_QUIET_S) < _QUIET_S:
                self._untold[event.kind] = self._untold.get(event.kind, 0) + 1
                continue
            self._told[event.kind] = now
            more = self._untold.pop(event.kind, 0)
            text = event.text + (f" ({more} more before; see the log)" if more else "")
            title, severity = _TOLD[event.kind]
            notices.append(Notice(title, text, severity))
        return notices
