"""One curve of a chart, as the studio and the plain-text chart both take it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARKER, STROKE = "◆", "━"


@dataclass(frozen=True, eq=False)  # two arrays have no truth value; see same_as
class Line:
    """One curve. `x` ascends; where `y` is not finite the curve has a gap."""

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    colour: str  # a variable of the theme: "primary", "warning"
    points: bool = False  # few values, one an epoch: markers on a dotted line
    marker: str = MARKER

    def __post_init__(self) -> None:
        assert self.x.shape == self.y.shape, f"{self.label}: x has {self.x.shape}, y has {self.y.shape}"

    @property
    def glyph(self) -> str:
        """What stands for the line in a legend."""
        return self.marker if self.points else STROKE

    def last(self) -> float:
        """The last finite value, NaN if there is none."""
        if len(self.y) and math.isfinite(self.y[-1]):
            return float(self.y[-1])
        finite = np.flatnonzero(np.isfinite(self.y))
        return float(self.y[finite[-1]]) if len(finite) else float("nan")

    def same_as(self, other: Line) -> bool:
        """Whether both would be painted alike; NaN equals NaN."""
        return (
            (self.label, self.colour, self.points, self.marker)
            == (other.label, other.colour, other.points, other.marker)
            and len(self.x) == len(other.x)
            and self.y[-1:].tobytes() == other.y[-1:].tobytes()  # a live curve differs in its last point at the least
            and self.x.tobytes() == other.x.tobytes()
            and self.y.tobytes() == other.y.tobytes()
        )
