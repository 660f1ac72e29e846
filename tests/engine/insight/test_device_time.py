"""A GPU's own time is told apart from the host's, with a stand-in that queues and computes as a GPU does."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
import torch

from engine.insight import phases as module
from engine.insight.device_time import Cuda, DeviceTime
from engine.insight.phases import Phases

PASSES = ("forward", "backward", "optimizer")
CUDA = torch.device("cuda", 0)


class Moment:
    """An event of the stand-in: the device is behind it once it has computed what was queued before."""

    def __init__(self, gpu: HeldGpu, at: float) -> None:
        self._gpu, self.at = gpu, at

    def query(self) -> bool:
        return self._gpu.host >= self.at

    def elapsed_time(self, end_event: Moment) -> float:
        return (end_event.at - self.at) * 1000


class HeldGpu:
    """A device that begins a kernel when it is queued and the one before is done. Times in seconds."""

    def __init__(self, *, holds: bool = True) -> None:
        self.host = 1.0  # the host's clock
        self.free = 0.0  # when the device has done all that is queued
        self.held = 0.0
        self._holds = holds

    def __call__(self) -> float:
        return self.host

    def queue(self, takes: float, computes: float) -> None:
        """The host takes `takes` to queue a kernel that computes for `computes`."""
        self.host += takes
        self.free = max(self.free, self.host) + computes

    def sync(self) -> None:
        self.host = max(self.host, self.free)

    def event(self) -> Moment:
        return Moment(self, max(self.free, self.host))

    def hold(self, seconds: float) -> None:
        self.held += seconds
        if self._holds:
            self.free = max(self.free, self.host) + seconds


def trained(phases: Phases, gpu: HeldGpu, steps: int, takes: float, computes: float, kernels: int = 10) -> None:
    """`steps` steps of equal passes, the losses read every twenty."""
    for step in range(steps):
        phases.begin_step()
        for phase in PASSES:
            for _ in range(kernels):
                gpu.queue(takes, computes)
            phases.mark(phase)
        if step % 20 == 19:
            gpu.sync()
            phases.mark("metrics")
            phases.times()


def on_gpu(gpu: HeldGpu, monkeypatch: pytest.MonkeyPatch) -> Phases:
    monkeypatch.setattr(module, "perf_counter", gpu)
    return Phases(torch.device("cpu"), workers=0, gpu=gpu)


def test_of_a_launch_bound_step_only_what_the_device_computes_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = HeldGpu()
    phases = on_gpu(gpu, monkeypatch)
    trained(phases, gpu, 2000, takes=10e-6, computes=2e-6)

    launches = phases.launches
    assert launches is not None
    assert launches.device == pytest.approx(30 * 2e-6, rel=0.01)
    assert launches.step == pytest.approx(30 * 10e-6, rel=0.1)
    assert launches.queued == pytest.approx(20 * 10e-6, rel=0.1)
    times = phases.times()
    assert times is not None
    assert times.verdict.startswith("computes 2")
    assert gpu.held < 0.01 * gpu.host


def test_without_holding_the_device_back_it_would_seem_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = HeldGpu(holds=False)
    phases = on_gpu(gpu, monkeypatch)
    trained(phases, gpu, 2000, takes=10e-6, computes=2e-6)

    assert phases.launches is not None
    assert phases.launches.device > 0.9 * phases.launches.step


def test_a_step_that_computes_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = HeldGpu()
    phases = on_gpu(gpu, monkeypatch)
    trained(phases, gpu, 2000, takes=5e-6, computes=50e-6)

    times, launches = phases.times(), phases.launches
    assert times is not None
    assert launches is not None
    assert times.verdict.endswith("the device is the limit")
    assert launches.device == pytest.approx(30 * 50e-6, rel=0.01)


def test_nothing_is_said_of_launches_before_the_training_runs_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = HeldGpu()
    phases = on_gpu(gpu, monkeypatch)
    trained(phases, gpu, 180, takes=10e-6, computes=2e-6)
    assert phases.launches is None
    assert Phases(torch.device("cpu"), workers=0).launches is None


def test_long_steps_are_timed_without_a_hold_and_before_the_hosts_time_is_known_none_is() -> None:
    gpu = HeldGpu()
    device = DeviceTime(PASSES, gpu)
    for host, count in ((0.0, 0), (0.1, 2)):
        for _ in range(32):
            device.begin_step(host)
            for phase in PASSES:
                gpu.queue(0.01, 0.02)
                device.mark(phase)
        gpu.sync()
        device.read()
        assert device.sampled == count
    assert gpu.held == 0


def test_a_step_that_was_given_up_is_not_counted() -> None:
    gpu = HeldGpu()
    device = DeviceTime(PASSES, gpu)

    def take(passes: Sequence[str]) -> None:
        for _ in range(16):
            device.begin_step(1e-3)
            for phase in passes:
                gpu.queue(1e-4, 1e-4)
                device.mark(phase)
        gpu.sync()
        device.read()

    take(PASSES[:1])
    assert device.sampled == 0
    take(PASSES)
    assert device.sampled == 1
    assert device.seconds == {phase: pytest.approx(1e-4) for phase in PASSES}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
class TestOnAGpu:
    def test_a_hold_lasts_about_as_long_as_it_says(self) -> None:
        gpu = Cuda()
        gpu.hold(0.01)
        torch.cuda.synchronize()
        before = gpu.event()
        gpu.hold(0.1)
        after = gpu.event()
        torch.cuda.synchronize()
        assert 50 < before.elapsed_time(after) < 400

    def test_kernels_of_nothing_are_launch_bound_and_large_ones_are_not(self) -> None:
        small, large = torch.ones(8, device=CUDA), torch.randn(4096, 4096, device=CUDA)

        def launches(of: str) -> float:
            phases = Phases(CUDA, workers=0)
            for step in range(600):
                phases.begin_step()
                for phase in PASSES:
                    for _ in range(20 if of == "small" else 1):
                        small.add_(1) if of == "small" else large @ large
                    phases.mark(phase)
                if step % 20 == 19:
                    torch.cuda.synchronize()
                    time.sleep(0.001)
                    phases.mark("metrics")
                    phases.times()
            assert phases.launches is not None
            return phases.launches.device / phases.launches.step

        assert launches("small") < 0.7
        assert launches("large") > 0.8
