"""Precision of the forward and backward pass: fp32, its shortcut tf32, or mixed with bf16 or fp16 (torch.amp)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from engine.errors import DeviceError

_LEAST_SCALE = 2.0**-14  # it begins at 2¹⁶ and halves with every step that is left out


class Precision:
    """Autocast and, for fp16, gradient scaling against underflow.

    Raises DeviceError for fp16 on the CPU, where torch has no gradient scaling worth its time, and for tf32 where there
    is none. What makes fp32 and tf32 differ is a switch of the process: `engine.policies.backends`.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "fp16" and device.type == "cpu":
            raise DeviceError("training.precision", "fp16 needs a GPU", "Use bf16 or fp32 on the CPU.")
        if name == "tf32" and not _has_tf32(device):
            what = "tf32 needs an NVIDIA GPU of the Ampere generation or later"
            raise DeviceError("training.precision", what, "Use fp32 or bf16.")
        self._dtype = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
        self._device = device.type
        self._one = torch.ones((), device=device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for a forward pass."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device, self._dtype)

    @property
    def scale(self) -> Tensor | None:
        """What the gradients are multiplied by, on the device; None without scaling."""
        return self.scaler.scale(self._one) if self.scaler.is_enabled() else None

    @property
    def collapsed(self) -> bool:
        """Whether the gradients were not finite for so long that the scale has come to nothing. A sync."""
        return self.scaler.is_enabled() and float(self.scaler.get_scale()) < _LEAST_SCALE

    def backward(self, loss: Tensor) -> None:
        """Back-propagate a (scaled) loss."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
