"""Durations carry their unit: `"10 epochs"`, `"500 steps"`, `"2 h"`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

Unit = Literal["epoch", "step", "second"]

_UNITS: dict[str, tuple[Unit, float]] = {
    "epoch": ("epoch", 1),
    "step": ("step", 1),
    "s": ("second", 1),
    "sec": ("second", 1),
    "second": ("second", 1),
    "min": ("second", 60),
    "minute": ("second", 60),
    "h": ("second", 3600),
    "hour": ("second", 3600),
}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Duration:
    """An amount of epochs, optimizer steps or seconds."""

    amount: float
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read `"1 epoch"`, `"500 steps"`, `"90 s"`, `"15 min"` or `"2 h"`.

        Raises ValueError with the remedy in its text.
        """
        found = _PATTERN.fullmatch(text)
        word = found[2].lower() if found else ""
        unit = _UNITS.get(word) or _UNITS.get(word.removesuffix("s"))
        if found is None or unit is None:
            raise ValueError(f'\'{text}\' is not a duration. Try "1 epoch", "500 steps" or "10 min".')
        amount = float(found[1]) * unit[1]
        if amount <= 0 or not math.isfinite(amount) or (unit[0] != "second" and amount != int(amount)):
            raise ValueError(f"'{text}' is not a whole, positive number of {unit[0]}s. Try \"1 epoch\".")
        return cls(amount, unit[0])


def clock(seconds: float) -> str:
    """`seconds` as a person reads it: `8.3 s`, `2:05`, `1:02:05`."""
    if seconds < 59.95:  # above, one decimal would read 60.0 s
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
