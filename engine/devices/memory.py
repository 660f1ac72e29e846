"""Where the memory of a training goes, in words and bytes, and what to change when it does not suffice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import psutil
import torch
from torch import Tensor, nn

from engine.devices.nvml import GIB


def breakdown(model: nn.Module, optimizer: torch.optim.Optimizer | None, device: torch.device) -> Mapping[str, int]:
    """Bytes by owner. The peak of what torch held beside the named is known on CUDA only."""
    parameters = list(model.parameters())
    owned = {
        "weights": _bytes([*parameters, *model.buffers()]),
        "gradients": _bytes(p.grad if p.grad is not None else p for p in parameters if p.requires_grad),
        "optimizer": _bytes(_state_tensors(optimizer)) if optimizer is not None else 0,
    }
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        owned["activations and data"] = max(0, peak - sum(owned.values()))
    return owned


def describe_memory(owned: Mapping[str, int], device: torch.device) -> str:
    """`weights 0.4 GiB · gradients 0.4 GiB · … of 15.8 GiB`."""
    parts = " · ".join(f"{name} {size_text(size)}" for name, size in owned.items())
    return f"{parts}, of {size_text(total_memory(device))}"


def total_memory(device: torch.device) -> int:
    """Bytes that the device has in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def size_text(size: float) -> str:
    """`1.5 GiB`, `12 MiB`, `340 KiB`, `12 B`."""
    if size >= GIB:
        return f"{size / GIB:.1f} GiB"
    if size >= 2**20:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / 2**10:.0f} KiB" if size >= 2**10 else f"{size:.0f} B"


def _state_tensors(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                yield value


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
