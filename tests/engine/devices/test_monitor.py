from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import psutil
import pynvml
import pytest
from fake_nvml import FakeGpu, FakeNvml

from engine.devices.monitor import Monitor, Snapshot


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def first_snapshot(nvml: FakeNvml) -> Snapshot:
    monitor = Monitor(interval=0.01, nvml=nvml)
    monitor.start()
    try:
        wait_for(lambda: monitor.latest)
    finally:
        monitor.stop()
    assert monitor.latest is not None
    return monitor.latest


class FakeTorch(SimpleNamespace):
    """What the monitor asks of a loaded torch whose CUDA has `started` and which sees the GPUs with these UUIDs."""

    def __init__(self, *uuids: str, started: bool = True, cuda_build: bool = True, broken: bool = False) -> None:
        def stats(number: int) -> dict[str, int]:
            if broken:
                raise RuntimeError("CUDA error: device-side assert triggered")
            return {
                "allocated_bytes.all.current": 100 + number,
                "reserved_bytes.all.current": 200 + number,
                "allocated_bytes.all.peak": 150 + number,
            }

        super().__init__(
            version=SimpleNamespace(cuda="13.2" if cuda_build else None),
            cuda=SimpleNamespace(
                is_initialized=lambda: started,
                device_count=lambda: len(uuids),
                get_device_properties=lambda number: SimpleNamespace(uuid=uuids[number], name=f"Board {number}"),
                mem_get_info=lambda number: (600, 1000 + number),
                memory_stats=stats,
            ),
            _C=SimpleNamespace(_cuda_hasPrimaryContext=lambda number: number != 1),
        )


@pytest.fixture(autouse=True)
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


def test_the_import_loads_neither_torch_nor_textual() -> None:
    check = "import sys, engine.devices.monitor; print({'torch', 'textual', 'pynvml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_stop_ends_the_thread_and_shuts_nvml_down() -> None:
    nvml = FakeNvml(FakeGpu("GPU-a"))
    monitor = Monitor(interval=60, nvml=nvml)
    monitor.start()
    monitor.start()  # a second start is the same start
    wait_for(lambda: monitor.latest)
    assert [thread.name for thread in threading.enumerate()].count("monitor") == 1
    assert nvml.open == 1

    monitor.stop()

    assert "monitor" not in [thread.name for thread in threading.enumerate()]
    assert nvml.open == 0
    assert monitor.latest is not None
    monitor.stop()  # a second stop is none


def test_a_stopped_monitor_starts_again() -> None:
    monitor = Monitor(interval=0.01, nvml=FakeNvml(FakeGpu("GPU-a")))
    for _ in range(2):
        before = monitor.latest
        monitor.start()
        wait_for(lambda before=before: monitor.latest is not before)
        monitor.stop()


def test_history_keeps_the_newest_in_order() -> None:
    monitor = Monitor(interval=0.01, keep=3, nvml=FakeNvml())
    monitor.start()
    wait_for(lambda: len(monitor.history()) == 3)
    first = monitor.history()[0]
    wait_for(lambda: monitor.history()[0] is not first)
    monitor.stop()

    times = [snapshot.time for snapshot in monitor.history()]
    assert len(times) == 3
    assert times == sorted(times)
    assert monitor.history() is monitor.history()


def test_the_host_is_measured() -> None:
    host = first_snapshot(FakeNvml()).host

    assert 0 <= host.cpu <= 1
    assert 0 < host.ram_used < host.ram_total
    assert 0 < host.process_ram < host.ram_total
    assert host.process_cpu >= 0


def test_a_lost_gpu_neither_ends_the_thread_nor_hides_the_others() -> None:
    nvml = FakeNvml(FakeGpu("GPU-a"), FakeGpu("GPU-b"))
    told: list[str] = []
    monitor = Monitor(interval=0.01, nvml=nvml, notify=told.append)
    monitor.start()
    wait_for(lambda: monitor.latest)
    nvml.gpus[1].lost = True
    wait_for(lambda: monitor.latest and monitor.latest.gpus[1].memory_used is None)
    seen = monitor.latest
    wait_for(lambda: monitor.latest is not seen)
    monitor.stop()

    assert monitor.latest is not None
    assert monitor.latest.gpus[0].utilisation == 0.87
    assert len(told) == 1


class BrokenNvml(FakeNvml):
    """A binding that has changed: it fails in a way that is not NVML's, at one of its calls."""

    def __init__(self, call: str) -> None:
        super().__init__(FakeGpu("GPU-a"))
        setattr(self, call, self._fail)

    def _fail(self, *arguments: object) -> None:
        raise OSError("no such symbol")


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetMemoryInfo", "nvmlShutdown"])
def test_a_failure_that_is_not_nvmls_is_told_once_and_the_thread_goes_on(call: str) -> None:
    told: list[str] = []
    monitor = Monitor(interval=0.01, nvml=BrokenNvml(call), notify=told.append)
    monitor.start()
    wait_for(lambda: len(monitor.history()) > 3)
    monitor.stop()

    assert told == ["The state of NVIDIA's GPUs can't be read: OSError: no such symbol"]
    assert monitor.latest is not None
    assert monitor.latest.host.ram_total > 0
    if call != "nvmlShutdown":
        assert monitor.latest.gpus == ()
        assert monitor.latest.no_gpu == "NVIDIA's GPUs can't be read; the log says why."


def test_a_missing_binding_leaves_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it is an ImportError
    told: list[str] = []
    monitor = Monitor(interval=0.01, notify=told.append)
    monitor.start()
    wait_for(lambda: len(monitor.history()) > 3)
    monitor.stop()

    assert len(told) == 1
    assert "ModuleNotFoundError" in told[0]
    assert monitor.latest is not None
    assert monitor.latest.gpus == ()


def test_a_host_that_cannot_be_read_is_told_once_per_kind_until_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    failures: list[Exception] = [psutil.AccessDenied(1)] * 3 + [OSError("/proc is not mounted")] * 3
    real = psutil.virtual_memory

    def failing() -> object:
        if failures:
            raise failures.pop()
        return real()

    monkeypatch.setattr(psutil, "virtual_memory", failing)
    monitor = Monitor(interval=0.01, nvml=FakeNvml(FakeGpu("GPU-a")), notify=told.append)
    monitor.start()
    wait_for(lambda: monitor.latest)
    monitor.stop()

    assert failures == []
    assert [line.split(":")[0] for line in told] == [
        "The load of this machine can't be read",
        "The state of the devices can't be read",
        "The state of the devices can't be read",
    ]
    assert ["OSError" in line for line in told] == [True, True, False]


def test_torch_numbers_are_found_by_uuid_once_cuda_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    monkeypatch.setitem(sys.modules, "torch", FakeTorch("c", "a"))
    gpus = first_snapshot(FakeNvml(*(FakeGpu(f"GPU-{letter}") for letter in "abc"))).gpus

    assert [(gpu.index, gpu.torch_index, gpu.allocated, gpu.reserved, gpu.peak) for gpu in gpus] == [
        (0, 1, 101, 201, 151),
        (1, None, None, None, None),
        (2, 0, 100, 200, 150),
    ]


@pytest.mark.parametrize("torch", [None, FakeTorch("c", "a", started=False), SimpleNamespace()])
def test_until_cuda_has_started_torch_is_not_asked(torch: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    if torch is not None:
        monkeypatch.setitem(sys.modules, "torch", torch)
    gpus = first_snapshot(FakeNvml(*(FakeGpu(f"GPU-{letter}") for letter in "abc"))).gpus

    assert [(gpu.torch_index, gpu.allocated) for gpu in gpus] == [(1, None), (None, None), (0, None)]


def test_a_broken_cuda_context_leaves_nvmls_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeTorch("a", broken=True))
    (gpu,) = first_snapshot(FakeNvml(FakeGpu("GPU-a"))).gpus

    assert (gpu.utilisation, gpu.allocated) == (0.87, None)


@pytest.mark.parametrize(
    ("visible", "torch", "reason"),
    [
        (None, None, None),
        ("0", FakeTorch("a"), None),
        ("", None, "CUDA_VISIBLE_DEVICES='' hides every GPU."),
        ("-1", FakeTorch(started=False), "CUDA_VISIBLE_DEVICES='-1' hides every GPU."),
        (None, FakeTorch(started=False, cuda_build=False), "This torch is built without CUDA: the GPU idles."),
    ],
)
def test_gpus_that_torch_cannot_use_have_a_reason(
    visible: str | None, torch: object, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if torch is not None:
        monkeypatch.setitem(sys.modules, "torch", torch)

    assert first_snapshot(FakeNvml(FakeGpu("GPU-a"))).no_gpu == reason


def test_without_a_driver_there_is_a_reason_and_a_host() -> None:
    snapshot = first_snapshot(FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))

    assert snapshot.gpus == ()
    assert snapshot.no_gpu
    assert snapshot.host.ram_total > 0


class TestWithoutNvml:
    """In a container that has CUDA alone, on a Jetson, on AMD's GPUs."""

    MISSING = pynvml.NVML_ERROR_LIBRARY_NOT_FOUND

    def test_torch_tells_the_memory_of_the_gpus_it_uses_and_begins_no_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "torch", FakeTorch("a", "b", "c"))
        snapshot = first_snapshot(FakeNvml(init_error=self.MISSING))

        assert [(gpu.torch_index, gpu.name) for gpu in snapshot.gpus] == [(0, "Board 0"), (2, "Board 2")]
        assert [(gpu.memory_used, gpu.memory_total) for gpu in snapshot.gpus] == [(400, 1000), (402, 1002)]
        assert [(gpu.allocated, gpu.reserved, gpu.peak) for gpu in snapshot.gpus] == [(100, 200, 150), (102, 202, 152)]
        assert {gpu.utilisation for gpu in snapshot.gpus} == {None}
        assert snapshot.no_gpu == "Without NVML the load, temperature and power of a GPU are not known."

    @pytest.mark.parametrize("torch", [FakeTorch("a", started=False), FakeTorch("a", broken=True)])
    def test_where_torch_does_not_tell_either_nvmls_reason_stands(
        self, torch: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "torch", torch)
        snapshot = first_snapshot(FakeNvml(init_error=self.MISSING))

        assert (snapshot.gpus, snapshot.no_gpu) == ((), "No NVIDIA driver is installed here.")
