"""What a person may tell a job, from any thread: pause, resume, stop, checkpoint or profile now, change a setting."""

from __future__ import annotations

import queue
from collections import deque
from contextlib import suppress
from dataclasses import dataclass


class Stopped(BaseException):
    """Raised inside the engine to leave the loop when the person stops the run.

    Not an Exception, so that no `except Exception` between here and the Trainer swallows it.
    """

    saved = False
    """Whether there is a checkpoint of the position where it stopped."""


@dataclass(frozen=True)
class SetLearningRate:
    """Use this learning rate from the next step on."""

    value: float


@dataclass(frozen=True)
class SetWeightDecay:
    """Use this weight decay from the next step on."""

    value: float


@dataclass(frozen=True)
class SetEpochs:
    """Train for this many epochs in all."""

    epochs: int


@dataclass(frozen=True)
class ProfileNow:
    """Profile the next steps."""


@dataclass(frozen=True)
class CheckpointNow:
    """Write a checkpoint after this step."""


Command = SetLearningRate | SetWeightDecay | SetEpochs | ProfileNow | CheckpointNow


class Control:
    """Written by the screen, the command line and signal handlers; read by the engine thread once a step.

    Every method only sets a flag, appends to a deque or puts into a SimpleQueue, so that a signal handler may call it,
    also one that interrupts another in the midst of it. `Event.set` would wait for its own lock then.
    """

    def __init__(self) -> None:
        self.pending = False
        """Whether there is anything to look at: the one attribute that the loop reads each step."""
        self.stopping = False
        self.paused = False
        self.parked = False
        """Whether a pause gives the device's memory back."""
        self._commands: deque[Command] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def pause(self) -> None:
        """Hold the training after the current step; the device's memory is kept."""
        self.paused = True
        self._tell()

    def park(self) -> None:
        """Hold the training after the current step, and move all it holds on a GPU to host memory meanwhile."""
        self.parked = self.paused = True
        self._tell()

    def resume(self) -> None:
        """Go on after a pause."""
        self.parked = self.paused = False
        self._tell()

    def stop(self) -> None:
        """End the training after the current step, with a checkpoint."""
        self.stopping = True
        self._tell()

    def checkpoint(self) -> None:
        """Write a checkpoint after the current step."""
        self._commands.append(CheckpointNow())
        self._tell()

    def set_learning_rate(self, value: float) -> None:
        """Change the learning rate from the next step on; a schedule goes on from there, scaled alike."""
        self._commands.append(SetLearningRate(value))
        self._tell()

    def set_weight_decay(self, value: float) -> None:
        """Change the weight decay from the next step on."""
        self._commands.append(SetWeightDecay(value))
        self._tell()

    def set_epochs(self, epochs: int) -> None:
        """Train for `epochs` epochs in all; those begun are finished."""
        self._commands.append(SetEpochs(epochs))
        self._tell()

    def profile(self) -> None:
        """Profile the next steps."""
        self._commands.append(ProfileNow())
        self._tell()

    def take(self) -> list[Command]:
        """The commands not yet taken, oldest first. For the engine thread alone."""
        # First of all: what another thread tells from here on raises it again.
        self.pending = False
        taken: list[Command] = []
        while self._commands:
            taken.append(self._commands.popleft())
        if self.stopping or self.paused:
            self.pending = True
        return taken

    def wait(self, seconds: float) -> None:
        """Sleep until something is told, at most `seconds`. For the engine thread alone."""
        with suppress(queue.Empty):
            self._wake.get(timeout=seconds)
            while True:
                self._wake.get_nowait()

    def _tell(self) -> None:
        self.pending = True
        self._wake.put(None)
