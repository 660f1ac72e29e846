"""A GPU that is not there: tensors that say they lie on it, compute on the CPU, and mix with no others.

What a training does differently where there is a GPU can be run by it without one: that all its tensors are on one
device, that it waits for the device nowhere but where it means to, that what is copied, pinned and given back fits
together. Its kernels are the CPU's and done at once, so nothing is said of speed, of memory, of streams, or of what a
GPU's own kernels compute. Recurrent layers are not pretended: torch has kernels for them that no CPU has.

`pytest -p pretended_gpu` runs any tests of the engine so, with each CPU taken for the GPU; those fail that speak of a
CPU. `pretend` changes torch for good: call it in a process of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda:0")
TOTAL = 16 << 30
_CPU = torch.device("cpu")
_aten = torch.ops.aten
# Of these the host has to know the result, or its shape: it waits for all that is queued.
_WAITING = {
    _aten._local_scalar_dense, _aten.equal, _aten.nonzero, _aten.masked_select, _aten.is_nonzero, _aten.bincount,
    _aten._unique2, _aten.unique_dim, _aten.unique_consecutive, _aten.repeat_interleave,
}  # fmt: skip
_INDEXING = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_, _aten._unsafe_index}
_WITH_HOST_TENSORS = {_aten._pack_padded_sequence}  # its lengths


class OnGpu(Tensor):
    """A tensor that says it lies on the GPU; its numbers are in `inner`."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnGpu:
        strided = inner.layout == torch.strided
        with torch.inference_mode(inner.is_inference()):  # what is cut out of another tensor is no more than that is
            made: OnGpu = Tensor._make_wrapper_subclass(
                cls,
                inner.shape,
                strides=inner.stride() if strided else None,
                storage_offset=inner.storage_offset() if strided else 0,
                dtype=inner.dtype,
                layout=inner.layout,
                device=GPU,
            )
        made.inner = inner
        return made

    def __repr__(self, **named: Any) -> str:
        return f"OnGpu({self.inner!r})"

    def tolist(self) -> Any:
        """As numbers."""
        return self.cpu().tolist()

    def record_stream(self, stream: object) -> None:
        """There is one stream."""

    def __array__(self, *given: object, **named: object) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} was called by a thread that knows of no GPU")


class Gpu(TorchDispatchMode):
    """Computes for its tensors.

    `waits` counts where in the engine the host waited for the device, and `pageable` where it copied to it out of
    memory that is not pinned, which is a wait too; by file and function.
    """

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # else torch starts CUDA before this is asked

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.pageable: Counter[str] = Counter()
        self.emptied = 0
        self._pinned: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        with self:  # in inference mode torch asks for whole functions, not for what they are made of
            whole = func.decompose(*args, **kwargs)
        if whole is not NotImplemented:
            return whole
        packet, wanted = func.overloadpacket, kwargs.get("device")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = any(isinstance(tensor, OnGpu) for tensor in tensors)
        if packet is _aten.is_pinned:
            return not here and self._is_pinned(args[0])
        if packet is _aten._pin_memory:
            return self._pin(args[0].clone())
        if packet is _aten._fused_sdp_choice:
            return 0  # the attention that is written out
        pinned = kwargs.pop("pin_memory", False)
        going = wanted is not None and wanted.type == "cuda"
        if going:
            kwargs["device"] = _CPU
        if packet in (_aten._to_copy, _aten.copy_):
            self._note_copy(packet, args, kwargs, wanted)
        elif here:
            self._note(packet, args, tensors)
        out = func(*tree_map_only(OnGpu, _inner, args), **tree_map_only(OnGpu, _inner, kwargs))
        if func._schema.is_mutable and isinstance(out, Tensor):
            if "out" in kwargs:
                return kwargs["out"]
            if func._schema.name.endswith("_"):
                return args[0]
        if pinned and not going and isinstance(out, Tensor):
            return self._pin(out)
        return tree_map_only(Tensor, OnGpu, out) if going or (here and wanted is None) else out

    def waited(self) -> None:
        """The host waits for the device."""
        self.waits[_place()] += 1

    def _pin(self, tensor: Tensor) -> Tensor:
        self._pinned.add(tensor.untyped_storage().data_ptr())
        return tensor

    def _is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._pinned

    def _note_copy(self, packet: Any, args: Any, kwargs: Any, wanted: torch.device | None) -> None:
        moves = packet is _aten._to_copy
        source, target = args[0] if moves else args[1], wanted if moves else args[0].device
        later = kwargs.get("non_blocking") or (not moves and len(args) > 2 and args[2])
        if target is None or (target.type == "cuda") == isinstance(source, OnGpu):
            return
        if isinstance(source, OnGpu):
            if not later:
                self.waited()
        elif source.ndim and not self._is_pinned(source):
            self.pageable[_place()] += 1

    def _note(self, packet: Any, args: Any, tensors: list[Tensor]) -> None:
        """What torch would refuse, and what the host would wait for."""
        others = [tensor for tensor in tensors if not isinstance(tensor, OnGpu)]
        if packet in _WAITING:
            self.waited()
        if packet in _INDEXING:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.waited()
            if any(not isinstance(index, OnGpu) for index in indices):
                self.pageable[_place()] += 1
            others = [tensor for tensor in others if not any(tensor is index for index in indices)]
        if any(tensor.ndim for tensor in others) and packet not in _WITH_HOST_TENSORS:
            what = f"{packet.__name__}: expected all tensors to be on the same device, but found cuda:0 and cpu"
            raise RuntimeError(what)


class _Stream:
    """What is queued is done at once."""

    device = GPU

    def __init__(self, *given: object, **named: object) -> None: ...
    def wait_event(self, event: object) -> None: ...
    def wait_stream(self, stream: object) -> None: ...
    def synchronize(self) -> None: ...


class _Event:
    def __init__(self, *given: object, **named: object) -> None: ...
    def record(self, stream: object = None) -> None: ...
    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: object) -> float:
        return 0.25


class _Generator(torch.Generator):
    """The GPU's numbers are drawn by the CPU's generator."""

    def __new__(cls, device: object = "cpu") -> _Generator:
        return super().__new__(cls, "cpu")


def compiler() -> str | None:
    """What is needed, and why it can't be had; None where it is all there."""
    if torch.cuda.is_available():
        return "there is an NVIDIA GPU here"
    if not torch.backends.cuda.is_built():
        return "this torch knows nothing of CUDA"
    return None if shutil.which("g++") else "needs a C++ compiler"


def compiled(folder: Path) -> Path:
    """The library that tells torch's own C++ of a GPU; takes some seconds."""
    library, torch_folder = folder / "pretended_gpu.so", Path(torch.__file__).parent
    source = Path(__file__).with_suffix(".cpp")
    command = ["g++", "-std=c++20", "-shared", "-fPIC", f"-I{torch_folder / 'include'}", f"-L{torch_folder / 'lib'}"]
    command += [str(source), "-o", str(library), "-ltorch_cpu", "-lc10"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def pretend(library: Path | str) -> Gpu:
    """From now on torch has a GPU, in this thread and all that begin after it; there is no way back."""
    ctypes.CDLL(str(library)).pretend()
    gpu = Gpu()
    _answer_for_cuda(gpu)
    torch.Generator = _Generator  # type: ignore[misc]
    torch.backends.cudnn.enabled = False  # whose kernels no CPU has
    # A parameter is to be another tensor when its module moves: `.data = ` would change only what it says of itself.
    torch.__future__.get_swap_module_params_on_conversion = lambda: sys._getframe(1).f_code.co_name == "_apply"
    from engine.checkpoints import snapshot

    # It has buffers for plain tensors alone, and looks at the type.
    snapshot.type = lambda value: Tensor if isinstance(value, OnGpu) else type(value)  # type: ignore[attr-defined]
    run = threading.Thread.run

    def run_with_gpu(thread: threading.Thread) -> None:
        with gpu, torch.autograd.set_multithreading_enabled(False):
            run(thread)

    threading.Thread.run = run_with_gpu  # type: ignore[method-assign]
    gpu.__enter__()
    torch._C._set_multithreading_enabled(False)  # backward passes stay in the thread that asks for them
    return gpu


def _answer_for_cuda(gpu: Gpu) -> None:
    """`torch.cuda` answers for the pretended one."""
    cuda: Any = torch.cuda
    properties = SimpleNamespace(
        name="Pretended GPU", total_memory=TOTAL, uuid="none", major=9, minor=0, multi_processor_count=1
    )
    answers = {
        "is_available": True, "is_initialized": True, "is_bf16_supported": True, "_lazy_init": None, "_sleep": None,
        "device_count": 1, "current_device": 0, "set_device": None, "manual_seed_all": None,
        "get_device_name": properties.name, "get_device_properties": properties, "get_device_capability": (9, 0),
        "current_stream": _Stream(), "stream": contextlib.nullcontext(), "device": contextlib.nullcontext(),
        "memory_allocated": 0, "max_memory_allocated": 0, "memory_reserved": 0, "mem_get_info": (TOTAL, TOTAL),
        "memory_stats": {}, "reset_peak_memory_stats": None,
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(cuda, name, lambda *given, _answer=answer, **named: _answer)
    cuda.Stream, cuda.Event, cuda.default_generators = _Stream, _Event, (torch.default_generator,)
    cuda.get_rng_state = lambda device=None: torch.get_rng_state()
    cuda.set_rng_state = lambda state, device=None: torch.set_rng_state(state)
    cuda.synchronize = lambda device=None: gpu.waited()

    torch._C._cuda_hasPrimaryContext = lambda number: True

    def empty_cache() -> None:
        gpu.emptied += 1

    cuda.empty_cache = empty_cache


def pytest_configure() -> None:
    """As a plugin: each CPU is the GPU."""
    from engine.devices import device

    chosen = device.choose
    device.choose = lambda spec: GPU if spec in ("auto", "cpu") else chosen(spec)
    with tempfile.TemporaryDirectory() as folder:
        pretend(compiled(Path(folder)))


def _inner(tensor: OnGpu) -> Tensor:
    return tensor.inner


def _place() -> str:
    """Where in the engine: `training/meter.py Meter.read`."""
    frame = sys._getframe(1)
    engine = f"{os.sep}engine{os.sep}"
    while frame is not None:
        path = frame.f_code.co_filename
        if engine in path and "tests" not in path:
            return f"{path.rpartition(engine)[2]} {frame.f_code.co_qualname}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"
