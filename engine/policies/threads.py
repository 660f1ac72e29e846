"""How many of the machine's cores one operation is shared among, when a training computes on the CPU.

Measured on two cores with torch 2.15 and intra-op threads that spin for a moment (engine/start.py), a step on two
threads takes of one on one (784-h-10 perceptrons of 64): h = 128 0.93×, 256 0.95×, 512 0.87×, 1024 0.64×, 2048 0.65×;
two-layer GRUs over 28 steps: 32 units 1.3×, 64 1.0×, 128 0.86×, 256 0.76×; convolutions 16/32 k3 0.62×. A core that is
left idle gathers batches (engine/data/serving/picking.py) and paints, which is worth a tenth of such a short step.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

CORES = torch.get_num_threads()
"""What the process may use. Read before a thread is told otherwise: each that touches torch keeps what it was told."""
GRAIN = 25e6
"""Floating point operations of the typical operation that a thread must have to do."""
_SAMPLES = 2  # whose work is counted and multiplied: batch norm can't do with one


@dataclass(frozen=True)
class Threads:
    """A number of threads, and why."""

    count: int
    why: str

    def __str__(self) -> str:
        return f"{self.count} torch thread{'s' if self.count > 1 else ''}: {self.why}"


def choose_threads(
    asked: int,
    before: int,
    model: nn.Module,
    shape: tuple[int, ...],
    batch: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Threads | None:
    """How many threads to use for `batch` samples of `shape` a step; None where the CPU is not what computes.

    `asked` is what the recipe says (0: nothing), `before` how many the run had before it was resumed (0: it is new): a
    sum over other parts is rounded otherwise, and a resumed run is to be the same to the bit. Decided by the work of
    the operations and not by the clock, so that a recipe gives the same numbers each time.
    """
    if device.type != "cpu":
        return None
    if asked:
        return Threads(asked, "training.threads says so")
    if before:
        return Threads(before, "as before the run was resumed")
    if "OMP_NUM_THREADS" in os.environ:
        return Threads(CORES, "OMP_NUM_THREADS says so")
    work = typical_work(model, shape, dtype) * batch
    if not work:
        return Threads(CORES, "all cores; what a step computes could not be counted")
    count = min(CORES, max(1, int(work / GRAIN)))
    if count == CORES:
        return Threads(count, f"all cores; an operation is {_amount(work)}")
    return Threads(count, f"an operation is {_amount(work)}, too little to share among {CORES}")


@contextmanager
def own_threads() -> Iterator[None]:
    """What is set inside by torch.set_num_threads is undone: all cores again."""
    try:
        yield
    finally:
        torch.set_num_threads(CORES)


def typical_work(model: nn.Module, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> float:
    """Floating point operations, for one sample, of the operation in which the typical one of them is done.

    That is Σ n² / Σ n over the forward pass's matrix products and convolutions of n operations each, as torch's flop
    counter has them; 0 where there are none or where a copy of the model can't be run.
    """
    try:
        trial = copy.deepcopy(model).eval()
        with _Counted() as counted:  # not without gradients: a Transformer would be one operator that nobody can count
            trial(torch.zeros(_SAMPLES, *shape, dtype=dtype))
    except Exception:  # a person's module may raise anything; the training itself will say what
        return 0.0
    total = sum(counted.work)
    return sum(one * one for one in counted.work) / total / _SAMPLES if total else 0.0


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the work of each operation that is done inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.utils.flop_counter import flop_registry

        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.work.append(count(*args, **(kwargs or {}), out_val=result))
        return result


def _amount(work: float) -> str:
    return f"{work / 1e9:.1f} GFLOP" if work >= 1e9 else f"{work / 1e6:.0f} MFLOP"
