"""How samples are read, chosen from a short measurement: processes (`data.num_workers = "auto"`), prefetch, pinning."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
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
    """Processes that read, how many batches each reads ahead, and whether those lie in pinned memory.

    `why` says why so many in one sentence with the figures, `how` the reasons for the rest.
    """

    workers: int
    prefetch: int = 2
    pinned: bool = False
    why: str = ""
    how: str = ""

    @property
    def told(self) -> list[str]:
        """What is worth a line in the log."""
        return [line for line in (self.why, self.how and f"reading: {self.how}") if line]


def choose_loading(
    data: Samples | MapDataset, index: Tensor | None, batch_size: int, reads: int, device: torch.device
) -> Loading:
    """Read a few samples here and say how the `reads` of a whole run should be done. What they draw leaves no trace."""
    count = len(data) if index is None else len(index)
    free = psutil.virtual_memory().available
    if isinstance(data, Samples):
        size = data.nbytes // max(1, len(data)) * batch_size
        return ways(0, "none, as the samples lie in host memory", size, free=free, cuda=device.type == "cuda")
    fetch = Fetch(data, index, 0, Slots(0), skip=True)
    measured = measured_reading(lambda position: _pair(fetch, position), count)
    if measured is None:
        return ways(0, "none, as the first samples can't be read", 0, free=free, cuda=device.type == "cuda")
    return chosen(*measured, batch_size, reads, cores=cores(), free=free, cuda=device.type == "cuda")


def chosen(seconds: float, size: int, batch_size: int, reads: int, *, cores: int, free: int, cuda: bool) -> Loading:
    """What follows from `seconds` for reading a sample of `size` bytes, on so many cores with `free` bytes."""
    batch = seconds * batch_size
    took = f"reading a sample takes {_span(seconds)}"
    if seconds * reads < _STARTED_S or batch < _PASSED_S:
        why = f"none, as {took}, the {reads:,} of the whole run {_span(seconds * reads)}"
        return ways(0, why, size * batch_size, free=free, cuda=cuda)
    wanted = math.ceil(batch / _BATCH_S)
    spare = cores - 1 if cuda else cores // 2  # on a CPU the training itself is what needs the cores
    bytes_ahead = size * batch_size
    room = int(free / 4 // (_PROCESS_BYTES + 2 * bytes_ahead))
    workers = min(wanted, spare, room)
    figures = f"{took}, a batch of {batch_size} {_span(batch)}"
    if workers < 1:
        short = "there is no core to spare" if spare < 1 else "there is no memory for another process"
        return ways(0, f"none, though {figures}: {short}", bytes_ahead, free=free, cuda=cuda)
    limit = "" if workers == wanted else f" ({cores} cores)" if workers == spare else " (free memory)"
    return ways(workers, f"{workers}{limit}, as {figures}", bytes_ahead, free=free, cuda=cuda)


def ways(workers: int, why: str, batch_bytes: int, *, free: int, cuda: bool) -> Loading:
    """How so many processes read batches of so many bytes: how far ahead, into which memory, how long they are kept."""
    said: list[str] = []
    prefetch = 2
    if workers:
        # More of them ahead even out samples that take longer than others.
        if workers * (_PROCESS_BYTES + 4 * batch_bytes) < free / 4:
            prefetch, as_ = 4, "to even out slow samples"
        else:
            as_ = "as more would take too much of the free memory"
        said.append(f"{prefetch} batches of {_size(batch_bytes)} ahead in each process, {as_}")
    waiting = max(1, workers * prefetch) * batch_bytes
    pinned = cuda and waiting < free / 8
    if pinned:
        said.append("pinned memory, so that copies to the GPU run beside the steps")
    elif cuda:
        said.append(f"no pinned memory, as {_size(waiting)} of it would be over an eighth of what is free")
    elif workers:
        said.append("no pinned memory, as nothing is copied to a GPU")
    if workers:
        said.append("the same processes for training, validation and test, kept from epoch to epoch to start but once")
    return Loading(workers, prefetch, pinned, why and f"data.num_workers: {why}", "; ".join(said))


def measured_reading(read: Callable[[int], Sequence[Tensor] | None], count: int) -> tuple[float, int] | None:
    """Seconds and bytes of a sample, of a few that are spread over `count`; None where none can be read.

    `read` gives the tensors of the sample at a position, None for what ends all reading.
    """
    took: list[float] = []
    size, begun = 0, time.perf_counter()
    # As doubles: float32 rounds numbers above 16 million, also to one past the last.
    for position in torch.linspace(0, count - 1, min(_READ, count), dtype=torch.float64).long().tolist():
        before = time.perf_counter()
        tensors = read(position)
        if tensors is None:
            break
        took.append(time.perf_counter() - before)
        size = max(size, sum(tensor.nbytes for tensor in tensors))
        if time.perf_counter() - begun > _READ_S:
            break
    if not took:
        return None
    return median(took[1:] or took), size  # the first may have to open or import something


def _pair(fetch: Fetch, position: int) -> Sequence[Tensor] | None:
    try:
        batch = fetch.__getitems__([(0, position)])
    except DataError:
        return None
    assert not isinstance(batch, Failed)
    return (batch.inputs, batch.targets) if isinstance(batch, Partial) else batch


def _span(seconds: float) -> str:
    """`3.1 ms`, `0.25 s`, `12 s`, `3.5 min`."""
    if seconds < 0.1:
        return f"{seconds * 1e3:.2g} ms"
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min"


def _size(nbytes: int) -> str:
    """`0.02 MB`, `9.6 MB`, `120 MB`, `5.1 GB`."""
    return f"{nbytes / 1e9:.2g} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.{2 if nbytes < 100e6 else 3}g} MB"
