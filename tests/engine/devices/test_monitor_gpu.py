"""The monitor on a real GPU: NVML and torch must mean the same device and the same bytes."""

from __future__ import annotations

import time

import pytest
import torch

from engine.devices.monitor import GpuSample, Monitor
from engine.devices.nvml import GIB

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no NVIDIA GPU"),
]


def used_by_torch(monitor: Monitor) -> GpuSample:
    """The sample of cuda:0 that is two samples newer than this call."""
    deadline = time.monotonic() + 20
    asked = time.time()
    while monitor.latest is None or monitor.latest.time < asked + 0.3:
        assert time.monotonic() < deadline, "no snapshot"
        time.sleep(0.02)
    return next(gpu for gpu in monitor.latest.gpus if gpu.torch_index == 0)


def test_nvml_and_torch_see_the_same_gpu_and_the_same_gibibyte() -> None:
    told: list[str] = []
    monitor = Monitor(interval=0.1, notify=told.append)
    torch.zeros(1, device="cuda:0")
    monitor.start()
    try:
        before = used_by_torch(monitor)
        block = torch.empty(GIB, dtype=torch.uint8, device="cuda:0")
        after = used_by_torch(monitor)
    finally:
        monitor.stop()

    properties = torch.cuda.get_device_properties(0)
    assert str(properties.uuid) in after.uuid
    assert after.allocated is not None
    assert before.allocated is not None
    assert after.allocated - before.allocated == block.numel()
    assert after.memory_used is not None
    assert before.memory_used is not None
    assert after.memory_used - before.memory_used == pytest.approx(GIB, rel=0.1)
    assert after.memory_total == pytest.approx(properties.total_memory, rel=0.05)
    assert after.reserved is not None
    assert after.memory_used >= after.reserved
    assert told == []
