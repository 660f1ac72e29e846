"""Snapshots: what a training is at one moment, copied to host memory faster than a step takes."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import re
import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

AT_ONCE = 3
"""How many snapshots exist at most: one being written, one waiting for that, one being taken."""

_COMPILED = re.compile(r"(^|\.)(?:_orig_mod\.)+")
_PLAIN_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
_Kind = tuple[torch.Size, torch.dtype, bool]


def plain_name(name: str) -> str:
    """The name of a weight without what torch.compile puts in front of the parts that it compiled."""
    return _COMPILED.sub(r"\1", name)


class Snapshot:
    """A host copy of weights and state that later training does not change. Its buffers are its own until `release`."""

    def __init__(self, files: dict[str, dict[str, Tensor]], state: Any, give_back: Callable[[], None]) -> None:
        self.files = files
        self.state = state
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        """Let the next snapshot have the buffers; this one is empty from now on. May be called more than once."""
        give_back, self._give_back = self._give_back, None
        self.files, self.state = {}, None
        if give_back:
            give_back()


class Snapshots:
    """Takes snapshots into host buffers that are used again: fresh memory costs five times as much as the copy.

    `take` is the training thread's; a snapshot may be released in any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: dict[_Kind, list[Tensor]] = {}
        self._out = 0
        self._closed = False

    def take(self, files: Mapping[str, Mapping[str, Any]], state: Any) -> Snapshot:
        """Copy every tensor of `files` (file → name → tensor) and every tensor and mutable container inside `state`.

        Names lose what torch.compile adds. What is no tensor in `files` is left out: a module's extra state belongs to
        `state`. Tensors that share memory get a buffer each in `files`, as safetensors needs it.
        """
        # Validation runs in inference mode, and a buffer made there could never be written again outside of it.
        with torch.inference_mode(False), torch.no_grad(), self._lock:
            assert not self._closed, "the snapshots are closed"
            assert self._out < AT_ONCE, "a snapshot was not released"
            copying = _Copying(self._spare)
            copied = {
                file: {plain_name(name): copying.tensor(value) for name, value in tensors.items() if _is_tensor(value)}
                for file, tensors in files.items()
            }
            copied_state = copying.value(state)
            copying.run()
            # Buffers of shapes that are not needed any more go: state that grows must not leave a trail.
            self._spare = {kind: self._spare.get(kind, []) for kind in copying.taken}
            self._out += 1
        return Snapshot(copied, copied_state, lambda: self._give_back(copying.taken))

    def close(self) -> None:
        """Let the buffers go: pinned ones are memory that no other process can have. Those out follow at release."""
        with self._lock:
            self._closed = True
            self._spare = {}

    def _give_back(self, taken: Mapping[_Kind, list[Tensor]]) -> None:
        with self._lock:
            self._out -= 1
            if self._closed:
                return
            for kind, buffers in taken.items():
                self._spare.setdefault(kind, []).extend(buffers)


class _Copying:
    """One walk over weights and state that gives each tensor a buffer, then copies them all."""

    def __init__(self, spare: Mapping[_Kind, list[Tensor]]) -> None:
        self.taken: dict[_Kind, list[Tensor]] = {}
        self._spare = spare
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._known: dict[int, Any] = {}
        """Copies of the state's tensors and containers by id: what is one thing there stays one thing."""

    def tensor(self, source: Tensor) -> Tensor:
        """The buffer that will hold `source`: contiguous, in host memory."""
        if type(source) not in (Tensor, nn.Parameter) or source.layout != torch.strided or source.is_quantized:
            return source.detach().cpu().clone()  # sparse and other rare kinds have no plain buffer
        kind = (source.shape, source.dtype, source.is_cuda)
        spare = self._spare.get(kind)
        buffer = spare.pop() if spare else _buffer(kind)
        self.taken.setdefault(kind, []).append(buffer)
        self._pairs.append((buffer, source))
        return buffer

    def value(self, source: Any) -> Any:
        """A copy of a nested plain container; what can't change is kept."""
        if type(source) in (int, float, str, bool, bytes, type(None)):
            return source
        if id(source) not in self._known:
            copied = self._copied(source)
            self._known.setdefault(id(source), copied)
        return self._known[id(source)]

    def _copied(self, source: Any) -> Any:
        if _is_tensor(source):
            return self.tensor(source)
        kind = type(source)
        if kind in _PLAIN_MAPPINGS:
            fresh = self._known[id(source)] = source.copy()  # known before its values are: one of them may hold it
            for key, item in source.items():
                fresh[key] = self.value(item)
            return fresh
        if kind is list:
            entries: list[Any] = []
            self._known[id(source)] = entries
            entries.extend(self.value(item) for item in source)
            return entries
        if kind is tuple:
            return tuple(self.value(item) for item in source)
        try:
            fresh = copy.deepcopy(source)
        except Exception:  # a person's object may raise anything; whether it can be kept, the writer finds out
            return source
        return fresh if type(fresh) is kind else source

    def run(self) -> None:
        """Copy. On CUDA all copies are queued, and one wait for the device ends them."""
        for buffer, source in self._pairs:
            if source.is_cpu and source.is_contiguous() and not source.is_conj() and not source.is_neg():
                # copy_ wakes all threads for each tensor; on a busy machine that took 530 ms where this takes 10.
                ctypes.memmove(buffer.data_ptr(), source.data_ptr(), source.nbytes)
            else:
                buffer.copy_(source, non_blocking=source.is_cuda)
        for device in {source.device for _, source in self._pairs if source.is_cuda}:
            torch.cuda.synchronize(device)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _buffer(kind: _Kind) -> Tensor:
    shape, dtype, pinned = kind
    if pinned:
        with contextlib.suppress(RuntimeError):  # no more memory can be locked: the copy is slower, and still right
            return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=True)
    return torch.empty(shape, dtype=dtype, device="cpu")
