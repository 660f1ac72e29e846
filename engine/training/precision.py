"""Precision of the forward and backward pass: fp32, or mixed with bf16 or fp16 (torch.amp)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from engine.errors import DeviceError


class Precision:
    """Autocast and, for fp16, gradient scaling against underflow.

    Raises DeviceError for fp16 on the CPU, where torch has no gradient scaling worth its time.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "fp16" and device.type == "cpu":
            raise DeviceError("training.precision", "fp16 needs a GPU", "Use bf16 or fp32 on the CPU.")
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
        self._device = device.type
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for a forward pass."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device, self._dtype)

    def backward(self, loss: Tensor) -> None:
        """Back-propagate a (scaled) loss."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
