"""Batches of host memory, copied to a GPU while it still trains on the ones before: a double buffer on a side stream.

A copy on the training's own stream waits behind everything that is queued there. Here the copy of the next batch runs
beside the step under way, and the training's stream waits for its end alone. No thread is involved: queuing a copy out
of pinned memory takes the host some ten microseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

DEPTH = 2
"""Batches on the device that are not trained on yet, and steps that the host may be ahead of the device."""


class Streams(Protocol):
    """What a device can do beside the training. `Any` is a thing of the device's own, such as an event."""

    def copy(self, tensors: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Any]:
        """Queue copies to the device; they may be read once the training's stream has been told to wait."""

    def await_copy(self, tensors: tuple[Tensor, ...], copied: Any) -> None:
        """What the training queues from now on sees `tensors` whole, and their memory is theirs until it is done."""

    def mark(self) -> Any:
        """A mark behind all that the training has queued so far."""

    def await_mark(self, mark: Any) -> None:
        """Hold this thread until the device has come to `mark`."""


class SideStream:
    """A CUDA stream for copies. To be used by the thread that trains, whose current stream is the training's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, tensors: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], torch.cuda.Event]:
        # The pinned memory is not given to another batch before the copy is done: torch notes this stream for it.
        with torch.cuda.stream(self._side):
            moved = tuple(tensor.to(self._device, non_blocking=True) for tensor in tensors)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._side)
        return moved, copied

    def await_copy(self, tensors: tuple[Tensor, ...], copied: torch.cuda.Event) -> None:
        training = torch.cuda.current_stream(self._device)
        training.wait_event(copied)
        for tensor in tensors:
            # It is memory of the side stream: freed while a step that reads it is queued, it would go to the next copy.
            tensor.record_stream(training)

    def mark(self) -> torch.cuda.Event:
        passed = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        passed.record(torch.cuda.current_stream(self._device))
        return passed

    def await_mark(self, mark: torch.cuda.Event) -> None:
        mark.synchronize()  # gives up the GIL, and sleeps: the studio may paint meanwhile


def side_stream(device: torch.device) -> Streams | None:
    """What copies beside the training on `device`; None where nothing can."""
    return SideStream(device) if device.type == "cuda" else None


class Ahead:
    """The batches of one epoch in their order, sent to the device one step before they are asked for.

    What is no tuple of tensors (a failure that a worker has sent) keeps its place. An error of the source is raised
    after the batches that were read before it.
    """

    def __init__(self, source: Iterator[Any], streams: Streams) -> None:
        self._source, self._streams = source, streams
        self._sent: deque[tuple[Any, Any]] = deque()  # each with what its copy is known by; None: nothing to wait for
        self._passed: deque[Any] = deque()
        self._over = False
        self._trouble: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        # All of the batches before this one is queued by now. Without a limit to how far the host is ahead, copies of
        # an epoch could gather on the device while its first step is computed.
        if self._sent:
            self._passed.append(self._streams.mark())
            if len(self._passed) > DEPTH:
                self._streams.await_mark(self._passed.popleft())
        while not self._over and len(self._sent) < DEPTH:
            self._send()
        if not self._sent:
            trouble, self._trouble = self._trouble, None
            raise trouble or StopIteration
        batch, copied = self._sent.popleft()
        if copied is not None:
            self._streams.await_copy(batch, copied)
        return batch

    def to(self, device: torch.device) -> None:
        """Move what has been copied ahead, to give its memory back or take it again."""
        for _ in range(len(self._sent)):
            batch, copied = self._sent.popleft()
            if copied is not None:
                self._streams.await_copy(batch, copied)
            moved = tuple(each.to(device) for each in batch) if _is_tensors(batch) else batch
            self._sent.append((moved, None))

    def close(self) -> None:
        """Let go of what has been copied ahead; there are no more batches."""
        self._over, self._trouble = True, None
        self._sent.clear()
        self._passed.clear()

    def _send(self) -> None:
        try:
            batch = next(self._source)
        except StopIteration:
            self._over = True
        except Exception as error:  # a dataset may raise anything; what was read before it comes first
            self._over, self._trouble = True, error
        else:
            self._sent.append(self._streams.copy(tuple(batch)) if _is_tensors(batch) else (batch, None))


def _is_tensors(batch: Any) -> bool:
    return isinstance(batch, (tuple, list)) and all(isinstance(each, Tensor) for each in batch)
