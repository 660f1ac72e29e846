"""When a GPU waits for the host to queue its work, and what CUDA graphs would gain. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from engine.durations import clock

_REPLAY_S = 0.2e-3  # to check that a compiled model still fits, copy its inputs and start its two graphs
_COMPILE_S, _COMPILE_LAYER_S = 15.0, 1.5  # torch.compile without a cache: about 45 s for a resnet18
_WORTH = 0.15  # of a step: less is within what the estimate may be wrong
_PAYS = 2.0  # times what compiling costs


@dataclass(frozen=True)
class Launches:
    """Of a step in seconds: by the clock; that the device computes; that the host takes to queue the model's passes."""

    step: float
    device: float
    queued: float

    @property
    def with_graphs(self) -> float:
        """Seconds of a step whose forward and backward pass are one launch each; the rest is queued as before."""
        return min(self.step, max(self.device, self.step - self.queued + _REPLAY_S))


def offer(launches: Launches, steps: int, layers: int) -> str:
    """One line on what CUDA graphs would gain in the `steps` that are left, or "" where they would not pay.

    `layers` are those with matrices or kernels, by which compiling takes its time.
    """
    gain = launches.step - launches.with_graphs
    compiling = _COMPILE_S + _COMPILE_LAYER_S * layers
    if gain < _WORTH * launches.step or gain * steps < _PAYS * compiling:
        return ""
    times = launches.step, launches.with_graphs, launches.device
    took, would, computes = (f"{seconds * 1e3:.2f} ms" for seconds in times)
    return (
        f"the GPU waits for work: it computes {computes} of each step's {took}. CUDA graphs, training.compile ="
        f' "reduce-overhead", would make that about {would} and save about {clock(gain * steps - compiling)} in the'
        f" {steps:,} steps left; they round otherwise, so this run goes on as it is. Branch from it to use them."
    )


class Offer:
    """Makes the offer of a run, once."""

    def __init__(self, layers: int, *, open_to_it: bool) -> None:
        self._layers, self._open = layers, open_to_it

    def made(self, launches: Launches | None, steps: int) -> str:
        """What to say now, mostly nothing. `launches` is None until they are known."""
        if launches is None or not self._open:
            return ""
        said = offer(launches, steps, self._layers)
        self._open = not said
        return said
