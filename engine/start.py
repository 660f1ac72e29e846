"""A quick start: what makes a process wait less for torch, and answer keys meanwhile.

Measured on two cores with torch 2.15: its import holds the GIL for up to 0.4 s at a time while its libraries are
linked, and again wherever the garbage collector walks over a million new objects of which none is garbage. With both
out of the way the longest hold is 0.05 s, and the import takes two thirds of the time.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

# In the order in which torch itself loads them; the first makes CUDA's symbols visible to the others.
_LIBRARIES = ("libtorch_global_deps.so", "libtorch_cpu.so", "libtorch_cuda.so")
_TURN_S = 0.0002
_ENVIRONMENT = {
    # Intra-op threads that spin, as they do for milliseconds, stall each other when another thread wants a core: on two
    # cores a 1 ms step took 10 to 200 ms. Threads that sleep at once are woken by the hundred in a step: for 140 µs
    # they may spin, by which W2 and W3 of benchmarks/ take a fifth less time. 5,000 are too few for W4 on some machines
    # (0.85 of its speed), and 20,000 gain nothing more. Two trainings on the same two cores want fewer: each has 2,000
    # samples/s of W2 with 5,000, 1,740 with 10,000, 1,300 with 20,000, and 320 as torch has it.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "10000",
    # cuBLAS reads it once, as it starts: a deterministic run that follows another one in the studio would be too late.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # torch's profiler writes of GPUs that are not there to stderr; what matters is in its report.
    "KINETO_LOG_LEVEL": "99",
}
_DEFERRED = ("numpy", "psutil", "tomlkit")


def own_environment(given: Mapping[str, str]) -> dict[str, str]:
    """What torch must find in the environment when it is loaded, beside what is `given`, which counts."""
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in given}
    if "OMP_WAIT_POLICY" in given:  # it would overrule that
        added.pop("GOMP_SPINCOUNT", None)
    return added


def before_screen() -> None:
    """To be called before the studio is imported; `Desk.load` ends what begins here."""
    without_collector()
    defer()


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Much is imported inside: nothing of it is garbage, now or later. Other threads get their turn at once.

    A key of the studio goes through dozens of turns of its event loop, and each would wait for the usual 5 ms.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    without_collector()
    try:
        yield
    finally:
        settled()
        sys.setswitchinterval(before)


def without_collector() -> None:
    """Collect no garbage until `settled`."""
    gc.disable()


def settled() -> None:
    """What is there stays: later collections don't walk over it, which would hold up training and screen alike."""
    gc.freeze()
    gc.enable()
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)  # extension modules count what is left of theirs at the end, and complain on stderr


def defer() -> None:
    """Let what the first frame need not wait for, 0.08 s of it, be loaded where it is first used."""
    for name in _DEFERRED:
        if name not in sys.modules and (spec := importlib.util.find_spec(name)):
            sys.modules[name] = placeholder = _Deferred(name)
            placeholder.__spec__ = spec


def load_deferred() -> None:
    """Load what was deferred, if nobody has used it yet."""
    for name in _DEFERRED:
        placeholder = sys.modules.get(name)
        if isinstance(placeholder, _Deferred):
            placeholder.load()


class _Deferred(ModuleType):
    """Stands for a module until something of it is wanted. importlib's own LazyLoader loads at the next `import`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._loading = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.load(), name)

    def load(self) -> ModuleType:
        with self._loading:  # another thread must not get half a module
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
                vars(self).update(vars(importlib.import_module(self.__name__)))
            return sys.modules[self.__name__]


def load_the_rest() -> None:
    """What torch imports as soon as a model's shapes are followed or an optimizer is made, imported ahead.

    1.1 s, and half a second more with the garbage collector at work: so within `importing`.
    """
    with contextlib.suppress(ImportError):  # a torch that has no such module does not import it either
        import torch._dynamo
        import torch.utils.flop_counter  # noqa: F401


def link_torch() -> None:
    """Link torch's libraries without holding the GIL: `import torch` finds them there then. Nothing of torch runs yet.

    Not beside the first frame: page faults and imports wait for the same lock of the kernel.
    """
    folder = _libraries() if sys.platform == "linux" and "torch" not in sys.modules else None
    if folder is None:
        return
    import ctypes

    # The function called through ctypes, as CDLL(path) itself holds the GIL. What fails here fails again in the import,
    # which says why.
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    for name in _LIBRARIES:
        if (folder / name).exists():
            dlopen(os.fsencode(folder / name), os.RTLD_NOW | (os.RTLD_GLOBAL if name == _LIBRARIES[0] else 0))


def _libraries() -> Path | None:
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("torch")
        if spec is not None and spec.origin:
            return Path(spec.origin).parent / "lib"
    return None
