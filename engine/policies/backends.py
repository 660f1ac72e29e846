"""torch's switches for the whole process while a run trains, and how its model is placed and compiled."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import nn

from engine.errors import RecipeError, first_line, words
from engine.policies.graphs import GRAPHS, ready_this_thread
from engine.recipe import Training

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def selected(device: torch.device) -> AbstractContextManager[object]:
    """`device` as the one that this thread means where torch is told none: events, streams, pinned memory.

    Without it they belong to cuda:0, and a run on cuda:1 would time, wait for and take memory of the wrong device.
    """
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@contextmanager
def backends(training: Training, device: torch.device) -> Iterator[None]:
    """torch's switches as the recipe wants them on `device`, and as they were afterwards, whatever happens in between.

    They belong to the process, not to the thread: two runs of one process must not hold them at the same time.
    """
    floats, exactness, workspace = _Floats(), _Exactness(), os.environ.get(_WORKSPACE)
    try:
        _set_floats(training.precision == "tf32" and device.type == "cuda")
        if training.deterministic:
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            # The two that cuBLAS is deterministic with. It reads them once, as it starts, so that the command line sets
            # them before torch is loaded; this is for those who use the engine as a library.
            if workspace not in (":4096:8", ":16:8"):
                os.environ[_WORKSPACE] = ":4096:8"
        yield
    finally:
        if training.compile == GRAPHS:
            torch.compiler.reset()  # graphs hold memory of their own
        floats.restore()
        exactness.restore()
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
        else:
            os.environ[_WORKSPACE] = workspace


def nondeterministic(error: BaseException) -> str | None:
    """What is wrong, if `error` is torch's refusal of an operator that has no deterministic version."""
    text = words(error)
    if not isinstance(error, RuntimeError) or "use_deterministic_algorithms" not in text:
        return None
    found = re.match(r"(\S+) does not have a deterministic implementation", text)
    operator = found[1] if found else "an operation of cuBLAS" if "CuBLAS" in text else "an operation"
    return f"{operator} has no deterministic version, which training.deterministic asks for"


def place(model: nn.Module, training: Training, device: torch.device, *, channels_last: bool = False) -> nn.Module:
    """`model` itself, moved to `device`, laid out and compiled as the recipe asks; its state_dict keys stay.

    Compiling only happens at the first step. Raises RecipeError for settings that exclude each other.
    """
    if training.compile and training.gradient_checkpointing:
        what = "does not go with training.gradient_checkpointing"
        raise RecipeError("training.compile", what, "Turn off one of them.")
    model.to(device)
    if channels_last:
        # Not Module.to(memory_format=…): it refuses models with weights of three dimensions (5-D).
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.ndim == 4:
                # `contiguous` leaves weights of one channel as they are, and with them the whole convolution.
                tensor.data = tensor.data.to(memory_format=torch.channels_last)
    if training.compile == GRAPHS:
        ready_this_thread()
        # Each size of batch by itself, of which there are two: a graph is of one size, and what is compiled for any
        # size, as the smaller last batch would have it, is slower for all.
        model.compile(mode=GRAPHS, dynamic=False)
    elif training.compile:
        model.compile()
    return model


_SLOWER_CHANNELS_LAST = (nn.GroupNorm, nn.InstanceNorm2d, nn.LocalResponseNorm)


def lays_channels_last(training: Training, model: nn.Module, device: torch.device, *, own: bool) -> bool:
    """Whether weights (O, I, H, W) and pictures are laid out channel by channel a pixel.

    "auto" says so where convolutions are sooner done so: in half precision on CUDA, whose tensor cores take them that
    way, and on a CPU, except beside layers that are slower so (`benchmarks/layouts.py`). Not for a model of one's
    `own`, whose `view` of such a tensor would fail. A run keeps as a fact what it was, for when it is resumed.
    """
    if training.channels_last != "auto":
        return training.channels_last
    if own or not any(parameter.ndim == 4 for parameter in model.parameters()):
        return False
    if device.type == "cpu":
        return not any(map(_slower_channels_last, model.modules()))
    return device.type == "cuda" and training.precision in ("bf16", "fp16")


def _slower_channels_last(layer: nn.Module) -> bool:
    """Whether it takes a CPU longer: some norms, and convolutions with gaps."""
    if isinstance(layer, nn.Conv2d):
        return any(gap > 1 for gap in layer.dilation)
    return isinstance(layer, _SLOWER_CHANNELS_LAST)


def compile_trouble(error: BaseException) -> str | None:
    """What is wrong, if `error` (or what caused it) comes from torch.compile."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "InvalidCxxCompiler" in kinds or "No working C++ compiler" in words(error):
        return "torch.compile needs a C++ compiler, and found none: install g++, or set training.compile = false"
    if "TritonMissing" in kinds:
        return "torch.compile needs Triton, which is not installed here: install it, or set training.compile = false"
    if "GPUTooOldForTriton" in kinds:
        return "this GPU is too old for torch.compile: set training.compile = false"
    if isinstance(error, RuntimeError) and "output of CUDAGraphs that has been overwritten" in words(error):
        return "the model keeps a tensor from step to step, which a CUDA graph overwrites: set training.compile = true"
    if any(kind.__module__.startswith(("torch._dynamo", "torch._inductor")) for kind in type(error).__mro__):
        return f"torch.compile failed: {first_line(error)}: set training.compile = false"
    return None


def _set_floats(tf32: bool) -> None:
    """TF32 for products and convolutions, or really fp32 (torch's own default is TF32 in cuDNN).

    By the older switches: torch.compile reads those, and they can't be read once the newer `fp32_precision` says
    something that the older ones can't express.
    """
    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = "none"  # what nothing more special is said about follows it
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


class _Floats:
    """How products of floats are computed, in the older and (from torch 2.9 on) the newer terms."""

    def __init__(self) -> None:
        self._matmul = self._cudnn = None
        with suppress(RuntimeError):  # unreadable: somebody has used the newer switches
            self._matmul = torch.get_float32_matmul_precision()
        with suppress(RuntimeError):
            self._cudnn = torch.backends.cudnn.allow_tf32
        self._newer = [(owner, owner.fp32_precision) for owner in _owners() if hasattr(owner, "fp32_precision")]

    def restore(self) -> None:
        if self._matmul is not None:
            torch.set_float32_matmul_precision(self._matmul)
        if self._cudnn is not None:
            torch.backends.cudnn.allow_tf32 = self._cudnn
        for owner, value in self._newer:
            owner.fp32_precision = value


def _owners() -> list[Any]:
    """Everything with an `fp32_precision` that the older switches write to, the most general first."""
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    parts = [getattr(of, name, None) for of in (cudnn, mkldnn) for name in ("conv", "rnn", "matmul")]
    return [torch.backends, torch.backends.cuda.matmul, *filter(None, parts)]


class _Exactness:
    """Whether operators must be deterministic."""

    def __init__(self) -> None:
        self._on = torch.are_deterministic_algorithms_enabled()
        self._warn = torch.is_deterministic_algorithms_warn_only_enabled()
        self._cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark

    def restore(self) -> None:
        torch.use_deterministic_algorithms(self._on, warn_only=self._warn)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = self._cudnn
