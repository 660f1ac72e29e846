"""What NVIDIA's management library says about each GPU, whatever it refuses to say."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

GIB = 2**30
Handle = object
Value = TypeVar("Value")


class UtilisationRates(Protocol):
    """Per cent of the last sampling period in which a kernel ran."""

    @property
    def gpu(self) -> int: ...


class MemoryInfo(Protocol):
    """Bytes on the device, of all processes together."""

    @property
    def used(self) -> int: ...
    @property
    def total(self) -> int: ...


class Nvml(Protocol):
    """The part of the module `pynvml` that is used here; it answers in milliwatts, bytes and per cent."""

    NVMLError: type[Exception]
    NVML_ERROR_LIBRARY_NOT_FOUND: int
    NVML_ERROR_DRIVER_NOT_LOADED: int
    NVML_ERROR_LIB_RM_VERSION_MISMATCH: int
    NVML_ERROR_NOT_SUPPORTED: int
    NVML_ERROR_FUNCTION_NOT_FOUND: int
    NVML_TEMPERATURE_GPU: int
    NVML_DEVICE_MIG_ENABLE: int

    def nvmlInit(self) -> None: ...  # noqa: N802  (NVML's own names, here and below)
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Handle: ...  # noqa: N802
    def nvmlDeviceGetName(self, handle: Handle) -> str | bytes: ...  # noqa: N802
    def nvmlDeviceGetUUID(self, handle: Handle) -> str | bytes: ...  # noqa: N802
    def nvmlDeviceGetUtilizationRates(self, handle: Handle) -> UtilisationRates: ...  # noqa: N802
    def nvmlDeviceGetMemoryInfo(self, handle: Handle) -> MemoryInfo: ...  # noqa: N802
    def nvmlDeviceGetTemperature(self, handle: Handle, sensor: int) -> int: ...  # noqa: N802
    def nvmlDeviceGetPowerUsage(self, handle: Handle) -> int: ...  # noqa: N802
    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Handle) -> int: ...  # noqa: N802
    def nvmlDeviceGetMigMode(self, handle: Handle) -> Sequence[int]: ...  # noqa: N802
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Handle) -> int: ...  # noqa: N802
    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Handle, index: int) -> Handle: ...  # noqa: N802


@dataclass(frozen=True)
class GpuSample:
    """One GPU (or MIG slice of one) at one moment; None is what the driver doesn't say.

    `index` is NVML's, as in nvidia-smi; `torch_index` is torch's `cuda:N`. The last three are this process's allocator.
    """

    index: int
    name: str
    uuid: str
    utilisation: float | None = None  # 0..1
    memory_used: int | None = None  # bytes, all processes
    memory_total: int | None = None
    temperature: float | None = None  # °C
    power: float | None = None  # W
    power_limit: float | None = None
    torch_index: int | None = None
    allocated: int | None = None  # bytes
    reserved: int | None = None
    peak: int | None = None


@dataclass(frozen=True)
class _Gpu:
    """A device to ask; a MIG slice has memory of its own but the temperature and power of its `board`."""

    index: int
    name: str
    uuid: str
    handle: Handle
    board: Handle


class Gpus:
    """The GPUs of this machine as NVML sees them. All of it runs in the monitor's thread.

    No failure of NVML leaves this class: a value that can't be had is None, and each kind of failure is told once.
    """

    def __init__(self, nvml: Nvml, notify: Callable[[str], None]) -> None:
        self._nvml = nvml
        self._notify = notify
        self._told: set[int] = set()
        self._gpus: list[_Gpu] = []
        self._initialised = False
        self.absence: str | None = None

    def open(self) -> None:
        """Start NVML and list its GPUs; `absence` then says why there is none."""
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            self.absence = self._why_not(error)
            return
        self._initialised = True
        count = self._ask("the number of GPUs", self._nvml.nvmlDeviceGetCount) or 0
        self._gpus = [gpu for index in range(count) for gpu in self._find(index)]
        if not self._gpus:
            self.absence = "The NVIDIA driver is loaded but shows no GPU."

    def close(self) -> None:
        """Give NVML back; a driver that is gone by now is no news."""
        if self._initialised:
            self._initialised = False
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def sample(self) -> tuple[GpuSample, ...]:
        """Ask every GPU for its numbers."""
        return tuple(self._sample(gpu) for gpu in self._gpus)

    def _find(self, index: int) -> Iterator[_Gpu]:
        """The GPU with this index, or, where it is cut up by MIG, its slices."""
        nvml = self._nvml
        board = self._ask(f"GPU {index}", nvml.nvmlDeviceGetHandleByIndex, index)
        if board is None:
            return
        slices = list(self._slices(index, board))
        for handle in slices or [board]:
            name = _text(self._ask(f"GPU {index}", nvml.nvmlDeviceGetName, handle) or f"GPU {index}")
            uuid = _text(self._ask(f"GPU {index}", nvml.nvmlDeviceGetUUID, handle) or "")
            yield _Gpu(index, name, uuid, handle, board)

    def _slices(self, index: int, board: Handle) -> Iterator[Handle]:
        mode = self._ask(f"GPU {index}", self._nvml.nvmlDeviceGetMigMode, board)
        if mode is None or mode[0] != self._nvml.NVML_DEVICE_MIG_ENABLE:
            return
        for place in range(self._ask(f"GPU {index}", self._nvml.nvmlDeviceGetMaxMigDeviceCount, board) or 0):
            with contextlib.suppress(self._nvml.NVMLError):  # an empty place is "Not Found"
                yield self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(board, place)

    def _sample(self, gpu: _Gpu) -> GpuSample:
        nvml, who = self._nvml, f"GPU {gpu.index} ({gpu.name})"
        rates = self._ask(who, nvml.nvmlDeviceGetUtilizationRates, gpu.handle)
        memory = self._ask(who, nvml.nvmlDeviceGetMemoryInfo, gpu.handle)
        return GpuSample(
            index=gpu.index,
            name=gpu.name,
            uuid=gpu.uuid,
            utilisation=None if rates is None else rates.gpu / 100,
            memory_used=None if memory is None else int(memory.used),
            memory_total=None if memory is None else int(memory.total),
            temperature=self._ask(who, nvml.nvmlDeviceGetTemperature, gpu.board, nvml.NVML_TEMPERATURE_GPU),
            power=_watts(self._ask(who, nvml.nvmlDeviceGetPowerUsage, gpu.board)),
            power_limit=_watts(self._ask(who, nvml.nvmlDeviceGetEnforcedPowerLimit, gpu.board)),
        )

    def _ask(self, who: str, question: Callable[..., Value], *arguments: object) -> Value | None:
        """NVML's answer, or None and, the first time this kind of failure is met, a word about it."""
        try:
            return question(*arguments)
        except self._nvml.NVMLError as error:
            code = _code(error)
            # Consumer boards, vGPUs and MIG slices lack sensors, old drivers lack functions: normal, not worth a word.
            if code not in (self._nvml.NVML_ERROR_NOT_SUPPORTED, self._nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
                self._tell(code, f"{who}: {error}. Its numbers are missing from the devices pane.")
            return None

    def _tell(self, kind: int, message: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            self._notify(message)

    def _why_not(self, error: Exception) -> str:
        """Why NVML didn't start, in one line; all but a missing library, which is normal, is told too."""
        nvml, code = self._nvml, _code(error)
        if code == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            on_mac = sys.platform == "darwin"
            return "Metal has no NVML counters: no GPU load here." if on_mac else "No NVIDIA driver is installed here."
        known = {
            nvml.NVML_ERROR_DRIVER_NOT_LOADED: "The NVIDIA driver is installed but not loaded.",
            nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "NVIDIA driver and library versions differ: reboot.",
        }
        reason = known.get(code, f"NVIDIA's monitoring did not start: {error}.")
        self._tell(code, reason)
        return reason


def visible_to_cuda(gpus: Sequence[GpuSample], visible: str | None, order: str | None) -> list[int]:
    """Places in `gpus` of CUDA's devices 0, 1, …, as CUDA will read CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER.

    Only a forecast, for as long as CUDA has not started: unequal GPUs numbered fastest first can't be foreseen, nor can
    which slices of a MIG board CUDA takes by itself, so they are left out.
    """
    if visible is not None and visible.startswith(("GPU-", "MIG-")):
        return _places(visible, lambda wanted: _by_uuid(gpus, wanted))
    unforeseeable = order != "PCI_BUS_ID" and len({gpu.name for gpu in gpus}) > 1
    if unforeseeable or _sliced(gpus):
        return []
    if visible is None:
        return list(range(len(gpus)))
    return _places(visible, lambda wanted: int(wanted) if wanted.isdigit() and int(wanted) < len(gpus) else None)


def hides_all(gpus: Sequence[GpuSample], visible: str | None) -> bool:
    """Whether CUDA_VISIBLE_DEVICES leaves CUDA no GPU; of a board that MIG cuts up that can't be said."""
    if visible is None:
        return False
    first = visible.split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return _by_uuid(gpus, first) is None and not _sliced(gpus)
    return not first.isdigit() or int(first) > max((gpu.index for gpu in gpus), default=-1)


def _places(visible: str, find: Callable[[str], int | None]) -> list[int]:
    """CUDA stops at the first entry that names no GPU and sees nothing when one is named twice."""
    places: list[int] = []
    for entry in visible.split(","):
        place = find(entry.strip())
        if place is None:
            break
        if place in places:
            return []
        places.append(place)
    return places


def _by_uuid(gpus: Sequence[GpuSample], wanted: str) -> int | None:
    """CUDA takes the beginning of a UUID for the whole, provided that only one GPU's begins so."""
    places = [place for place, gpu in enumerate(gpus) if gpu.uuid.startswith(wanted)]
    return places[0] if len(places) == 1 else None


def _sliced(gpus: Sequence[GpuSample]) -> bool:
    return any(gpu.uuid.startswith("MIG-") for gpu in gpus)


def _code(error: Exception) -> int:
    """The NVML_ERROR_… number that every NVMLError carries."""
    return int(getattr(error, "value", -1))


def _text(answer: str | bytes) -> str:
    """Older bindings answer in bytes."""
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000
