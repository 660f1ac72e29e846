"""Where a step's time goes: one clock that is told what has just been done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from time import perf_counter
from typing import TypeVar

import torch

from engine.insight.device_time import Cuda, DeviceTime, Gpu
from engine.insight.facts import Times
from engine.insight.launches import Launches

T = TypeVar("T")

PHASES = ("data", "copy", "forward", "backward", "optimizer", "metrics", "other")
_ON_DEVICE = ("forward", "backward", "optimizer")
_WARM_STEPS, _WARM_SAMPLES = 200, 4  # before that a step's time says nothing of the thousands to come
_MEMORY_S = 5.0  # the shares are those of about the last five seconds


class Phases:
    """Adds up seconds by phase: a clock reading and an addition at each mark, about 0.1 µs.

    On a GPU the host only queues work, so some of the steps are timed there as well.
    """

    def __init__(self, device: torch.device, *, workers: int, gpu: Gpu | None = None) -> None:
        gpu = gpu or (Cuda() if device.type == "cuda" else None)
        self._device = DeviceTime(_ON_DEVICE, gpu) if gpu else None
        self._workers, self._in_memory = workers, True
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._faded = dict.fromkeys(PHASES, 0.0)
        self._steps = self._all_steps = 0
        self._faded_steps = self._host = 0.0
        self._last = perf_counter()

    def restart(self) -> None:
        """Leave out what has passed since the last mark: it was not training."""
        self._last = perf_counter()

    def mark(self, phase: str) -> None:
        """What was done since the last mark was `phase`."""
        now = perf_counter()
        self._seconds[phase] += now - self._last
        self._last = now
        if self._device:
            self._device.mark(phase)

    def begin_step(self) -> None:
        """A step begins, its batch is there."""
        self._steps += 1
        if self._device:
            self._device.begin_step(self._host)

    def moved(self, seconds: float) -> None:
        """Of what was waited for data, `seconds` were copying to the device."""
        if seconds:
            self._in_memory = False
            self._seconds["data"] -= seconds
            self._seconds["copy"] += seconds

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """`batches`, the time until each is there marked as data."""
        iterator = iter(batches)
        while True:
            self.mark("other")
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.mark("data")
            yield batch

    def times(self) -> Times | None:
        """The shares of the last seconds; None before there are any. To be called after a sync."""
        elapsed = sum(self._seconds.values())
        keep = 0.5 ** (elapsed / _MEMORY_S)
        for name, seconds in self._seconds.items():
            self._faded[name] = self._faded[name] * keep + seconds
            self._seconds[name] = 0.0
        self._faded_steps = self._faded_steps * keep + self._steps
        self._all_steps, self._steps = self._all_steps + self._steps, 0
        self._host = self._of_a_step(*_ON_DEVICE)
        if self._device:
            self._device.read()
        total = sum(self._faded.values())
        if total <= 0:
            return None
        shares = {name: seconds / total for name, seconds in self._faded.items()}
        if self._device and self._device.sampled:
            shares = self._with_device(shares, self._device.seconds)
        return Times(shares, verdict(shares, in_memory=self._in_memory, workers=self._workers))

    @property
    def launches(self) -> Launches | None:
        """How a step's time is divided between host and GPU; None before that is known, and without a GPU."""
        if self._device is None or self._all_steps < _WARM_STEPS or self._device.sampled < _WARM_SAMPLES:
            return None
        computed = sum(self._device.seconds.values())
        return Launches(self._of_a_step(*PHASES), computed, self._of_a_step("forward", "backward"))

    def _of_a_step(self, *phases: str) -> float:
        """Seconds that the host takes for these phases in a step; 0 before that is known."""
        return sum(self._faded[name] for name in phases) / self._faded_steps if self._faded_steps else 0.0

    def _with_device(self, shares: Mapping[str, float], on_device: Mapping[str, float]) -> dict[str, float]:
        """What the GPU computed, by its own clock; the host's waiting counts only for what the GPU was idle."""
        step = max(self._of_a_step(*PHASES), 1e-9)
        computed = {name: min(seconds / step, 1.0) for name, seconds in on_device.items()}
        idle = max(0.0, 1.0 - sum(computed.values()))
        waited = {name: shares[name] for name in ("data", "copy", "metrics")}
        fit = min(1.0, idle / max(sum(waited.values()), 1e-9))
        found = {**computed, **{name: share * fit for name, share in waited.items()}}
        found["other"] = max(0.0, 1.0 - sum(found.values()))
        scale = sum(found.values())
        return {name: found[name] / scale for name in PHASES}


def verdict(shares: Mapping[str, float], *, in_memory: bool, workers: int) -> str:
    """What the shares mean and what to do, in one line."""
    data, copy, computing = shares["data"], shares["copy"], sum(shares[name] for name in _ON_DEVICE)
    if data + copy >= 0.2:
        advice = "make the augmentation cheaper" if in_memory else "keep the dataset in memory (data.in_memory)"
        if not in_memory and data >= copy:
            advice = f"raise data.num_workers above {workers} or {advice}" if workers else (
                "raise data.num_workers or keep the dataset in memory"
            )  # fmt: skip
        return f"waits for data {data + copy:.0%} of the time: {advice}"
    if shares["optimizer"] >= 0.4:
        return f"spends {shares['optimizer']:.0%} of the time in the optimizer: raise data.batch_size"
    if computing < 0.7:
        return f"computes {computing:.0%} of the time: raise data.batch_size, the steps are very short"
    return f"computes {computing:.0%} of the time: the device is the limit"
