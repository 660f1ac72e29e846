"""How many processes read samples, chosen from a short measurement: `data.num_workers = "auto"`."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from statistics import median

import psutil
import torch
from torch import Tensor

from engine.data.samples import MapDataset, Samples
from engine.data.serving.fetching import Fetch, Partial, cores
from engine.data.serving.workers import Failed, Slots
from engine.errors import DataError

_READ, _READ_S = 12, 1.0  # samples, and how long reading them may take
_STARTED_S = 20.0
"""Seconds of reading in a whole run below which starting processes, each with a torch of its own, is not worth it."""
_PASSED_S = 0.002
"""What a batch costs on its way from another process."""
_BATCH_S = 0.01
"""A batch every so often keeps up with most trainings."""
_PROCESS_BYTES = 300 << 20  # a Python with torch in it


@dataclass(frozen=True)
class Loading:
    """Processes that read, and how many batches each reads ahead; `why` is one sentence with the figures.

    `seconds` is what a sample takes, where it was measured.
    """

    workers: int
    prefetch: int = 2
    why: str = ""
    seconds: float = 0.0


def choose_loading(
    data: Samples | MapDataset, index: Tensor | None, batch_size: int, epochs: int, device: torch.device
) -> Loading:
    """Read a few samples here and say how the rest should be read. What they draw leaves no trace."""
    count = len(data) if index is None else len(index)
    if isinstance(data, Samples):
        return Loading(0, why="data.num_workers: none, as the samples lie in host memory")
    measured = _measured(data, index, count)
    if measured is None:
        return Loading(0, why="data.num_workers: none, as the first samples can't be read")
    free = psutil.virtual_memory().available
    return chosen(*measured, count, batch_size, epochs, cores=cores(), free=free, cuda=device.type == "cuda")


def chosen(
    seconds: float, size: int, count: int, batch_size: int, epochs: int, *, cores: int, free: int, cuda: bool
) -> Loading:
    """What follows from `seconds` for reading a sample of `size` bytes, on so many cores with `free` bytes."""
    batch = seconds * batch_size
    took = f"reading a sample takes {_span(seconds)}"
    if seconds * count * epochs < _STARTED_S or batch < _PASSED_S:
        epoch = f"{took}, all {count:,} of them {_span(seconds * count)}"
        return Loading(0, why=f"data.num_workers: none, as {epoch}")
    wanted = math.ceil(batch / _BATCH_S)
    spare = cores - 1 if cuda else cores // 2  # on a CPU the training itself is what needs the cores
    bytes_ahead = size * batch_size
    room = int(free / 4 // (_PROCESS_BYTES + 2 * bytes_ahead))
    workers = min(wanted, spare, room)
    figures = f"{took}, a batch of {batch_size} {_span(batch)}"
    if workers < 1:
        short = "there is no core to spare" if spare < 1 else "there is no memory for another process"
        return Loading(0, why=f"data.num_workers: none, though {figures}: {short}")
    # More of them ahead even out samples that take longer than others.
    prefetch = 4 if workers * (_PROCESS_BYTES + 4 * bytes_ahead) < free / 4 else 2
    limit = "" if workers == wanted else f" ({cores} cores)" if workers == spare else " (free memory)"
    pinned = " in pinned memory" if cuda else ""
    ahead = f"{prefetch} batches ahead each{pinned}, kept from epoch to epoch"
    return Loading(workers, prefetch, f"data.num_workers: {workers}{limit}, as {figures}; {ahead}", seconds)


def _measured(data: MapDataset, index: Tensor | None, count: int) -> tuple[float, int] | None:
    """Seconds and bytes of a sample; None where none can be read."""
    fetch = Fetch(data, index, 0, Slots(0), skip=True)
    took: list[float] = []
    size, begun = 0, time.perf_counter()
    for position in torch.linspace(0, count - 1, min(_READ, count)).long().tolist():
        before = time.perf_counter()
        try:
            batch = fetch.__getitems__([(0, position)])
        except DataError:
            break
        assert not isinstance(batch, Failed)
        pair = (batch.inputs, batch.targets) if isinstance(batch, Partial) else batch
        took.append(time.perf_counter() - before)
        size = max(size, sum(tensor.nbytes for tensor in pair))
        if time.perf_counter() - begun > _READ_S:
            break
    if not took:
        return None
    return median(took[1:] or took), size  # the first may have to open or import something


def _span(seconds: float) -> str:
    """`3.1 ms`, `0.25 s`, `12 s`, `3.5 min`."""
    if seconds < 0.1:
        return f"{seconds * 1e3:.2g} ms"
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min"
