"""Samples the devices on a thread of its own: NVML, torch's allocator, CPU, RAM. Never imports torch."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

import psutil

from engine.devices.nvml import Gpus, GpuSample, Nvml, hides_all, visible_to_cuda

__all__ = ["GpuSample", "HostSample", "Monitor", "Snapshot"]

FIRST_LOOK = 0.1  # seconds; psutil's CPU load is the time since it was last asked, and means nothing over less
PATIENCE = 2.0  # seconds; a call into a wedged driver can't be interrupted, and quitting must not wait for it
GPUS = "The state of NVIDIA's GPUs"
UNREADABLE = "NVIDIA's GPUs can't be read; the log says why."
TORCH_ALONE = "Without NVML the load, temperature and power of a GPU are not known."


@dataclass(frozen=True)
class HostSample:
    """The machine and this process at one moment; RAM in bytes."""

    cpu: float  # 0..1 of all cores
    ram_used: int
    ram_total: int
    process_ram: int  # resident set
    process_cpu: float  # cores


@dataclass(frozen=True)
class Snapshot:
    """All devices at one moment; `no_gpu` is one line on why torch can't train on a GPU here, or little is known."""

    time: float  # seconds since the epoch
    host: HostSample
    gpus: tuple[GpuSample, ...]
    no_gpu: str | None


class Monitor:
    """Takes a `Snapshot` every `interval` seconds and keeps the last `keep`.

    The monitor's thread is the only writer: it replaces one tuple, which any thread may read. `notify` gets a line for
    the person, once per kind of failure, *on the monitor's thread*.
    """

    def __init__(
        self,
        *,
        interval: float = 0.5,
        keep: int = 120,
        notify: Callable[[str], None] | None = None,
        nvml: Nvml | None = None,
    ) -> None:
        self._interval = interval
        self._keep = keep
        self._notify = notify or (lambda message: None)
        self._nvml = nvml
        self._history: tuple[Snapshot, ...] = ()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._told: set[tuple[str, type[Exception]]] = set()

    @property
    def latest(self) -> Snapshot | None:
        """The newest snapshot, None before the first."""
        history = self._history
        return history[-1] if history else None

    def history(self) -> tuple[Snapshot, ...]:
        """The snapshots that are kept, oldest first; the same object as long as there is no new one."""
        return self._history

    def start(self) -> None:
        """Begin to sample; does nothing if it already does."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; the history stays readable."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)
            self._thread = None

    def _run(self) -> None:
        process: psutil.Process | None = None
        gpus, opened = None, None
        with self._telling("The load of this machine"):
            process = psutil.Process()
            _host(process)  # from here on CPU load is counted
        with self._telling(GPUS):
            gpus = Gpus(self._nvml or _pynvml(), self._notify)
            gpus.open()
            opened = gpus
        self._stopping.wait(FIRST_LOOK)
        while not self._stopping.is_set():
            with self._telling("The state of the devices"):
                process = process or psutil.Process()
                self._history = (*self._history, self._snapshot(process, opened))[-self._keep :]
            self._stopping.wait(self._interval)
        with self._telling(GPUS):
            if gpus is not None:
                gpus.close()

    def _snapshot(self, process: psutil.Process, gpus: Gpus | None) -> Snapshot:
        torch = sys.modules.get("torch")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        samples: tuple[GpuSample, ...] = ()
        absence: str | None = UNREADABLE
        with self._telling(GPUS):
            if gpus is not None:
                samples, absence = gpus.sample(), gpus.absence
        seen = _as_torch_sees(torch, samples, visible)
        why = TORCH_ALONE if seen and not samples else absence or _why_idle(torch, samples, visible)
        return Snapshot(time=time.time(), host=_host(process), gpus=seen, no_gpu=why)

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Whatever fails inside is told, once per kind, and costs this sample but not the thread."""
        try:
            yield
        except Exception as error:  # a missing package, psutil without /proc, a binding that changed: any may come
            kind = (what, type(error))
            if kind not in self._told:
                self._told.add(kind)
                self._notify(f"{what} can't be read: {type(error).__name__}: {error}")


def _pynvml() -> Nvml:
    import pynvml  # 30 ms to import, which the first frame need not wait for

    module: Nvml = pynvml
    return module


def _host(process: psutil.Process) -> HostSample:
    ram = psutil.virtual_memory()
    return HostSample(
        cpu=psutil.cpu_percent() / 100,
        ram_used=ram.total
        - ram.available,  # what can't be had without swapping; `used` means something else on each OS
        ram_total=ram.total,
        process_ram=process.memory_info().rss,
        process_cpu=process.cpu_percent() / 100,
    )


def _why_idle(torch: ModuleType | None, gpus: tuple[GpuSample, ...], visible: str | None) -> str | None:
    """Why torch can't use the GPUs that are there."""
    if hides_all(gpus, visible):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU."
    # Another thread may be in the middle of importing torch: then there is nothing to say yet.
    version = getattr(torch, "version", None)
    if version is not None and getattr(version, "cuda", "unknown") is None:
        return "This torch is built without CUDA: the GPU idles."
    return None


def _as_torch_sees(torch: ModuleType | None, gpus: tuple[GpuSample, ...], visible: str | None) -> tuple[GpuSample, ...]:
    """The samples with torch's numbers for them and, once CUDA has started, this process's memory on them."""
    forecast = visible_to_cuda(gpus, visible, os.environ.get("CUDA_DEVICE_ORDER"))
    numbers = {place: number for number, place in enumerate(forecast)}
    if torch is None or not _cuda_has_started(torch):
        return tuple(_numbered(gpu, numbers.get(place)) for place, gpu in enumerate(gpus))
    try:
        if not gpus:
            return tuple(_with_allocator(torch, gpu) for gpu in _of_torch_alone(torch))
        # For a MIG slice some CUDA versions give the board's UUID, which no slice has: then the forecast holds.
        numbers = _numbers_by_uuid(torch, gpus) or numbers
        return tuple(_with_allocator(torch, _numbered(gpu, numbers.get(place))) for place, gpu in enumerate(gpus))
    except RuntimeError:  # a broken CUDA context is the training's to report; NVML goes on without it
        return gpus


def _of_torch_alone(torch: ModuleType) -> Iterator[GpuSample]:
    """The GPUs that this process uses, where NVML shows none: a container without it, a Jetson, AMD's ROCm.

    The others are left alone: to ask one for its memory would begin a context there, of some hundred MB.
    """
    for number in range(torch.cuda.device_count()):
        if torch._C._cuda_hasPrimaryContext(number):
            name = torch.cuda.get_device_properties(number).name
            free, total = torch.cuda.mem_get_info(number)
            place = f"cuda:{number}"
            yield GpuSample(number, name, place, memory_used=total - free, memory_total=total, torch_index=number)


def _cuda_has_started(torch: ModuleType) -> bool:
    """Whether torch may be asked about its GPUs; asking sooner would start CUDA, or meet a half-imported torch."""
    is_initialized = getattr(getattr(torch, "cuda", None), "is_initialized", None)
    return is_initialized is not None and bool(is_initialized())


def _numbers_by_uuid(torch: ModuleType, gpus: tuple[GpuSample, ...]) -> dict[int, int]:
    """Place in `gpus` → N of `cuda:N`, whatever CUDA_VISIBLE_DEVICES did to the order."""
    uuids = [str(torch.cuda.get_device_properties(number).uuid) for number in range(torch.cuda.device_count())]
    places = {gpu.uuid.removeprefix("GPU-").removeprefix("MIG-"): place for place, gpu in enumerate(gpus)}
    return {places[uuid]: number for number, uuid in enumerate(uuids) if uuid in places}


def _numbered(gpu: GpuSample, number: int | None) -> GpuSample:
    return dataclasses.replace(gpu, torch_index=number)


def _with_allocator(torch: ModuleType, gpu: GpuSample) -> GpuSample:
    if gpu.torch_index is None:
        return gpu
    stats = torch.cuda.memory_stats(gpu.torch_index)  # what memory_allocated() and its two siblings each read
    return dataclasses.replace(
        gpu,
        allocated=stats.get("allocated_bytes.all.current", 0),
        reserved=stats.get("reserved_bytes.all.current", 0),
        peak=stats.get("allocated_bytes.all.peak", 0),
    )
