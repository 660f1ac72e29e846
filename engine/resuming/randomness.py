"""The random number generators that a training draws from: their state, put back to the bit."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_aside = threading.local()


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of Python's, NumPy's and torch's generators as plain containers and tensors."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": {"name": str(name), "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
                  "position": int(position), "has_gauss": int(has_gauss), "gauss": float(gauss)},
        **torch_state(device),
    }  # fmt: skip


def restore_random(state: Mapping[str, Any], device: torch.device) -> None:
    """Draw on as from the moment when `state` was taken."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    saved = state["numpy"]
    keys = saved["keys"].numpy().astype(np.uint32)
    np.random.set_state((saved["name"], keys, saved["position"], saved["has_gauss"], saved["gauss"]))
    restore_torch(state, device)


def torch_state(device: torch.device) -> dict[str, Any]:
    """torch's generators alone, of the CPU and of `device`: about a microsecond, so every step can afford it."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "mps": torch.mps.get_rng_state() if device.type == "mps" else None,
    }


def restore_torch(state: Mapping[str, Any], device: torch.device) -> None:
    """Put torch's generators back. A checkpoint from another kind of device has nothing for this one."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state.get("cuda") is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    if device.type == "mps" and state.get("mps") is not None:
        torch.mps.set_rng_state(state["mps"])


def lasting_state(device: torch.device) -> dict[str, Any]:
    """What a checkpoint keeps: the generators as they are or, inside `preserved`, as they will be again."""
    kept: dict[str, Any] | None = getattr(_aside, "state", None)
    return random_state(device) if kept is None else kept


@contextmanager
def preserved(device: torch.device) -> Iterator[None]:
    """What is drawn inside leaves no trace: a validation that was cut short is repeated after a resume."""
    outer = getattr(_aside, "state", None)
    state = random_state(device)
    _aside.state = state if outer is None else outer
    try:
        yield
    finally:
        _aside.state = outer
        restore_random(state, device)
