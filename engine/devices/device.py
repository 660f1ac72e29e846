"""Which device a training runs on."""

from __future__ import annotations

import os
import random
import re

import numpy as np
import torch

from engine.devices.nvml import GIB
from engine.errors import DeviceError, nearest

WHERE = "training.device"


def choose(spec: str) -> torch.device:
    """The device that `spec` names: auto, cpu, cuda, cuda:N or mps. `DeviceError` if it isn't there."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", spec):
        meant = nearest(spec, ["auto", "cpu", "cuda", "cuda:0", "mps"])
        raise DeviceError(WHERE, f"{spec!r} is not a device", f"{meant} {_remedy()}".strip())
    if spec == "cpu" or (spec == "auto" and not _has_gpu()):
        return torch.device("cpu")
    if spec == "mps" or (spec == "auto" and not torch.cuda.is_available()):
        return _mps()
    return _cuda(spec)


def describe(device: torch.device) -> str:
    """One line for a person, such as `cuda:0 · NVIDIA H200 · 139.8 GiB`."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} · {properties.name} · {properties.total_memory / GIB:.1f} GiB"
    if device.type == "mps":
        return "mps · Apple GPU (Metal)"
    threads = torch.get_num_threads()
    return f"{device} · {os.cpu_count()} cores, {threads} torch thread{'s' if threads > 1 else ''}"


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch on all of its devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # the widest seed that NumPy takes
    torch.manual_seed(seed)  # CUDA and MPS too, also when they start later


def _has_gpu() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _mps() -> torch.device:
    if not torch.backends.mps.is_available():
        why = "this Mac has no usable Metal GPU" if torch.backends.mps.is_built() else "mps needs a Mac with Metal"
        raise DeviceError(WHERE, why, _remedy())
    return torch.device("mps")


def _cuda(spec: str) -> torch.device:
    if not torch.cuda.is_available():
        raise DeviceError(WHERE, f"{spec} is not available: {_why_no_cuda()}", _remedy())
    if ":" not in spec:
        # With its number, so that it equals the device of a tensor that lies there.
        return torch.device("cuda", torch.cuda.current_device())
    index = int(spec.removeprefix("cuda:"))
    if index >= torch.cuda.device_count():
        raise DeviceError(WHERE, f"there is no {spec}", _remedy())
    return torch.device("cuda", index)


def _why_no_cuda() -> str:
    """torch's own reason (no driver, too old a driver, a CPU build, no GPU), its first sentence."""
    try:
        torch.cuda.current_device()  # starts CUDA, and says why it can't
    except (RuntimeError, AssertionError) as error:
        return re.split(r"\.\s|\n", str(error))[0].rstrip(".")
    return "torch sees no NVIDIA GPU"


def _remedy() -> str:
    names = ["auto", "cpu"]
    names += ["mps"] if torch.backends.mps.is_available() else []
    names += [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    return f"Use {', '.join(names[:-1])} or {names[-1]}."
