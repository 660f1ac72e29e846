"""What a command said, run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What a program would read."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Said]
