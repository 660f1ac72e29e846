"""What a GPU computes in a step, by its own clock."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch

_FEW, _OFTEN, _SELDOM = 8, 16, 512  # the first few timed steps are one in sixteen, then they are rare
_SHORT_S = 0.05
_CYCLES_PER_S = 2e9  # of a GPU, roughly: a hold needs to be long enough, not exact


class Event(Protocol):
    """A moment of the device's own time, as torch.cuda.Event is."""

    def query(self) -> bool:
        """Whether the device has come to it."""

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds from this event to a later one."""


class Gpu(Protocol):
    """What is asked of a device."""

    def event(self) -> Event:
        """An event behind all that is queued."""

    def hold(self, seconds: float) -> None:
        """Let the device do nothing for about so long before it goes on."""


class Cuda:
    """The current CUDA device."""

    def event(self) -> Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def hold(self, seconds: float) -> None:
        torch.cuda._sleep(int(seconds * _CYCLES_PER_S))  # type: ignore[no-untyped-call]


class DeviceTime:
    """Times a few steps by events, read when they are long past; `seconds` a step by phase, of about the last eight.

    The host queues a step while the device is held back. Else the events of a short one would tell how fast the host
    queues it: the device, idle between two kernels, seems busy all the time.
    """

    def __init__(self, phases: Sequence[str], gpu: Gpu) -> None:
        self.seconds = dict.fromkeys(phases, 0.0)
        self.sampled = 0
        self._gpu, self._last = gpu, phases[-1]
        self._taken = self._begun = 0
        self._sampling = False
        self._steps: list[list[tuple[str, Event]]] = []

    def begin_step(self, host: float) -> None:
        """A step begins, of which lately the host took `host` seconds to queue one; 0 where that is not known yet."""
        self._taken += 1
        self._sampling = host > 0 and self._taken % (_OFTEN if self._begun < _FEW else _SELDOM) == 0
        if not self._sampling:
            return
        self._begun += 1
        if host < _SHORT_S:  # a longer one has its kernels queued well ahead, and the hold would cost what it takes
            self._gpu.hold(1.5 * host)
        self._steps.append([("begin", self._gpu.event())])

    def mark(self, phase: str) -> None:
        """What was queued since the last mark was `phase`."""
        if self._sampling and phase in self.seconds:
            self._steps[-1].append((phase, self._gpu.event()))

    def read(self) -> None:
        """Take in the steps that the device is done with. A step that was given up is forgotten."""
        done = [step for step in self._steps if step[-1][0] == self._last and step[-1][1].query()]
        self._steps = [step for step in self._steps[-1:] if step not in done]
        for step in done:
            fresh = dict.fromkeys(self.seconds, 0.0)
            for (_, before), (phase, after) in pairwise(step):
                fresh[phase] += before.elapsed_time(after) / 1000
            self.sampled += 1
            share = 1 / min(self.sampled, _FEW)
            for phase, seconds in fresh.items():
                self.seconds[phase] += share * (seconds - self.seconds[phase])
