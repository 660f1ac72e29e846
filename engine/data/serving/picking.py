"""Rows gathered out of tensors in a shuffled order, some batches ahead of the training, by a core that is idle.

64 digits are 64 places in 190 MB, for which a core waits 60 to 100 µs: in a small network's step of 700 µs the largest
part after the matrix products. The rows are the same whoever gathers them, and a batch begins in memory where a tensor
of its own might begin, since the last bits of a matrix product may depend on that.
"""

# N samples · R rows

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import islice

import torch
from torch import Tensor

from engine.data.serving.fetching import cores
from engine.devices.openmp import Threads

_ALIGNED = 64  # bytes, as torch lays its own tensors
# Each time takes the interpreter from the training for a moment; of large batches few would fit, and none needs it.
_MOST_BATCHES, _MOST_BYTES = 16, 4 << 20
_AHEAD = 2


def can_pick_ahead(tensors: Sequence[Tensor], size: int) -> bool:
    """Whether a core is idle while this thread trains, and batches of `size` rows are small parts of one tensor."""
    if torch.get_num_threads() >= cores() or size * sum(map(_row_bytes, tensors)) > _MOST_BYTES:
        return False
    return all(tensor.device.type == "cpu" and _row_bytes(tensor) * size % _ALIGNED == 0 for tensor in tensors)


class Picker:
    """Gathers rows in a thread of its own, which is begun when a second batch is asked for."""

    def __init__(self) -> None:
        self._thread: Threads | None = None

    def batches(self, tensors: Sequence[Tensor], order: Tensor, size: int) -> Iterator[Sequence[Tensor]]:
        """Of each tensor (N, …) the rows of `order` (R,), `size` at a time. What gathering raises goes through."""
        most = _MOST_BYTES // max(1, size * sum(map(_row_bytes, tensors)))
        chunks = _growing(order, size, max(1, min(_MOST_BATCHES, most)))
        for chunk in islice(chunks, 1):
            yield _gathered(tensors, chunk)
        ahead = deque(self._gathering(tensors, chunk) for chunk in islice(chunks, _AHEAD))
        while ahead:
            rows = ahead.popleft().result()
            ahead.extend(self._gathering(tensors, chunk) for chunk in islice(chunks, 1))
            # Not views: to a model that writes into its inputs they are tensors like others.
            yield from zip(*([part.data for part in torch.split(each, size)] for each in rows), strict=True)

    def close(self) -> None:
        """Let go of the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    def _gathering(self, tensors: Sequence[Tensor], index: Tensor) -> Future[Sequence[Tensor]]:
        if self._thread is None:
            self._thread = Threads(1, "picking batches")
        return self._thread.submit(_gathered, tensors, index)


def _gathered(tensors: Sequence[Tensor], index: Tensor) -> Sequence[Tensor]:
    return [tensor.index_select(0, index) for tensor in tensors]


def _growing(order: Tensor, size: int, most: int) -> Iterator[Tensor]:
    """`order` in pieces of one batch, two, four, up to `most`: nobody waits for the first of many."""
    first, batches = 0, 1
    while first < len(order):
        yield order[first : first + size * batches]
        first, batches = first + size * batches, min(2 * batches, most)


def _row_bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape[1:]) * tensor.element_size()
