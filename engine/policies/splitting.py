"""Out of memory: the step is taken back and redone with the batch in more parts."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from engine.data.serving.batches import Batch
from engine.devices.memory import breakdown, describe_memory
from engine.errors import TrainingError, words
from engine.resuming.randomness import restore_torch, torch_state

T = TypeVar("T")

_WATCHED = 10  # steps


def is_out_of_memory(error: BaseException) -> bool:
    """torch tells it of a GPU by a type of its own, of the CPU by a RuntimeError."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in words(error)
    )


class Splitter:
    """Computes on a batch in `parts` micro-batches, and doubles them for good when the memory does not suffice.

    Before the second try the random number generators and the model's buffers (running statistics of batch norm) are
    what they were before the first. `elsewhere` says that the model may draw from Python's and NumPy's generators too:
    asking those costs 0.1 ms, so it is left off when the first steps have drawn nothing from them. Without an
    `optimizer` there are no gradients to forget (evaluation).
    """

    def __init__(
        self,
        parts: int,
        model: nn.Module,
        device: torch.device,
        tell: Callable[[str], None],
        *,
        optimizer: torch.optim.Optimizer | None = None,
        elsewhere: bool = False,
    ) -> None:
        self.parts = parts
        self._model, self._device, self._tell = model, device, tell
        self._optimizer, self._elsewhere = optimizer, elsewhere
        self._buffers = [buffer for buffer in model.buffers() if buffer.numel()]
        self._kept = [buffer.clone() for buffer in self._buffers]
        self._random: Mapping[str, Any] | None = None  # None: no step is under way
        self._others: tuple[Any, Any] | None = None
        self._watched = _WATCHED if elsewhere else 0

    def run(self, batch: Batch, compute: Callable[[Sequence[Batch]], T]) -> T:
        """What `compute` makes of the batch's parts. Raises TrainingError when a single sample does not fit."""
        self._remember()
        while True:
            try:
                return compute(batch.split(self.parts))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) <= self.parts:
                    raise self._hopeless() from error
            # Outside of the except block: inside it the error's frames keep every activation alive.
            if self._optimizer is not None:
                self._optimizer.zero_grad(set_to_none=True)
            self.take_back()
            self._make_room()
            self.parts = min(self.parts * 2, len(batch))
            size = -(-len(batch) // self.parts)
            self._tell(
                f"out of memory: the step is redone in {self.parts} parts of at most {size} samples, and so are all"
                f" from here on; the effective batch stays {len(batch)}"
            )

    def take_back(self) -> None:
        """Put the model's buffers and the random numbers back to where the step began.

        Nothing happens between two steps: what went wrong there (the data, the disk) has drawn and moved nothing.
        """
        if self._random is None:
            return
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._kept)
        restore_torch(self._random, self._device)
        if self._others is not None:
            random.setstate(self._others[0])
            np.random.set_state(self._others[1])

    def settle(self) -> None:
        """The step is done, or what it began from is no more: there is nothing to take back."""
        if self._watched and self._random is not None:
            self._watch()
        self._random = None

    def moved(self) -> None:
        """The model's buffers are other tensors now: it was moved to another device."""
        self._buffers = [buffer for buffer in self._model.buffers() if buffer.numel()]
        self._kept = [buffer.clone() for buffer in self._buffers]

    def _remember(self) -> None:
        self._random = torch_state(self._device)
        if self._elsewhere:
            self._others = random.getstate(), np.random.get_state()
        if self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._kept, self._buffers)

    def _watch(self) -> None:
        """Whether the step has drawn from Python's or NumPy's generators; after a few that have not, none will."""
        drawn = self._others is None or not _same(self._others, (random.getstate(), np.random.get_state()))
        self._watched = 0 if drawn else self._watched - 1
        if not drawn and not self._watched:
            self._elsewhere, self._others = False, None

    def _make_room(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def explain(self, what: str, remedy: str) -> TrainingError:
        """An error that says who has the memory."""
        where = describe_memory(breakdown(self._model, self._optimizer, self._device), self._device)
        return TrainingError("training", f"out of memory: {what} ({where})", remedy)

    def _hopeless(self) -> TrainingError:
        remedy = "Try precision = bf16, gradient_checkpointing = true, a smaller model or smaller inputs."
        if self._device.type == "cuda":
            remedy = remedy.replace("Try", "Try data.in_memory = false,")
        return self.explain("not even a single sample fits", remedy)


def _same(before: tuple[Any, Any], after: tuple[Any, Any]) -> bool:
    """Whether Python's and NumPy's generators stand where they stood."""
    ours, theirs = before[1], after[1]
    return bool(before[0] == after[0] and ours[2:] == theirs[2:] and (ours[1] == theirs[1]).all())
