"""What is found out about a training, as plain values that any thread may hold. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.insight.histograms import Spread

HEALTH = "health/"


@dataclass(frozen=True)
class Times:
    """Shares of the time, by phase, adding up to 1, and what follows from them in words."""

    shares: Mapping[str, float]
    verdict: str

    def __str__(self) -> str:
        shown = " · ".join(f"{name} {share:.0%}" for name, share in self.shares.items() if share >= 0.005)
        return f"time: {shown}; {self.verdict}"


@dataclass(frozen=True)
class LayerHealth:
    """One layer at one step. Norms are Euclidean over all of its parameters.

    `update` is |Δw| / |w| of this step: about 1e-3 is usual, far above is unstable, far below hardly learns. `dead` is
    the share of an activation's units (channels of pictures) that were 0 for every sample of the batch.
    """

    name: str
    gradient: float | None = None
    weight: float | None = None
    update: float | None = None
    dead: float | None = None


@dataclass(frozen=True)
class Checkup:
    """All layers at one step, and how the numbers of those with weights are spread."""

    step: int
    layers: Sequence[LayerHealth]
    spreads: Mapping[str, Spread] = field(default_factory=dict)

    def series(self) -> Mapping[str, float]:
        """`health/layer/gradient` and so on → value."""
        kinds = ("gradient", "weight", "update", "dead")
        values = {f"{HEALTH}{layer.name}/{kind}": getattr(layer, kind) for layer in self.layers for kind in kinds}
        return {name: value for name, value in values.items() if value is not None}
