"""Checkpoints from the loop's side: handed to the writer, taken again, and what to do when the disk refuses them."""

from __future__ import annotations

import time

from engine.checkpoints.checkpoint import Checkpoint, Checkpoints, Loaded
from engine.checkpoints.writer import CheckpointWriter
from engine.errors import DiskFull, RunError, TrainingError
from engine.policies.nonfinite import NonFiniteError, all_finite
from engine.resuming.state import TrainingState
from engine.runs.recorder import Recorder
from engine.training.clock import Clock
from engine.training.control import Control, Stopped

_LAST_WRITE_S = 60.0  # how long the end of a run waits for a disk that is slow but not in trouble
_DISK_S = 2.0  # how often a full disk is tried again


class WentBackError(Exception):
    """The training is at an earlier checkpoint now: the epoch at hand is another."""


class Keeper:
    """Keeps a training's state. The writer's thread does the writing; all of this is for the engine thread."""

    def __init__(
        self, state: TrainingState, checkpoints: Checkpoints, recorder: Recorder, control: Control, clock: Clock
    ) -> None:
        self._state, self._checkpoints, self._recorder = state, checkpoints, recorder
        self._control, self._clock = control, clock
        self._writer = CheckpointWriter(checkpoints, recorder.mark)
        self._told = ""
        """The trouble that was said last."""
        self._asked: tuple[int, Checkpoint | None] | None = None
        """The step of the checkpoint that a person waits for, and what had been written last before it."""
        self.saved_at = time.monotonic()

    def save(self, score: float | None = None, loss: float | None = None) -> None:
        """Hand over a checkpoint of this position, ranked by `score` and `loss`; the disk is not waited for.

        Raises NonFiniteError: weights that are no numbers must not take the place of good ones.
        """
        self.saved_at = time.monotonic()
        files = self._state.files()
        # Of the parameters alone: a buffer may be infinite by design, as a mask of attention is.
        if not all_finite(dict(self._state.model.named_parameters())):
            raise NonFiniteError("gradient")
        at = self._state.at
        rest = self._state.rest(at.seconds + self._clock.seconds())
        self._writer.save(at.epoch, at.step, files, rest, score, loss=loss, replace=self._state.changed)
        self._state.changed = False

    def save_as_asked(self) -> None:
        """Hand over a checkpoint that a person asked for; `tell_written` says when it is there.

        Raises NonFiniteError.
        """
        before = self._writer.last
        self.save()
        self._asked = self._state.at.step, before

    def tell_written(self) -> None:
        """Say once that what a person asked for is on disk, or what took its place there on a slow one."""
        last = self._writer.last
        if self._asked is None or last is None:
            return
        step, before = self._asked
        if last is not before and last.step >= step:
            self._asked = None
            self._recorder.event(last.step, "checkpoint", f"checkpoint written at step {last.step}")

    def kept(self) -> bool:
        """Whether all that was handed over is on disk, after some patience."""
        kept = self._writer.wait(_LAST_WRITE_S) and self._writer.trouble is None
        self.tell_written()
        return kept

    def go_back(self, why: str, factor: float = 1.0) -> None:
        """Take the newest checkpoint, with the learning rate times `factor`. Raises WentBackError."""
        self.kept()
        checkpoint, loaded = self._checkpoints.load_newest(self._recorder.say)
        self._recorder.rewind(checkpoint.step)
        self._state.restore(loaded)
        self._writer.forget_after(checkpoint.epoch, checkpoint.step)
        said = f"{why} Back to step {checkpoint.step}"
        if factor != 1.0:
            self._state.optim.scale_learning_rate(factor)
            self._state.changed = True
            said += f", learning rate now {self._state.optim.learning_rate:g}"
        self._recorder.event(checkpoint.step, "rollback", f"{said}.")
        raise WentBackError

    def best(self) -> Loaded | None:
        """The checkpoint that validated best; None if that is the state at hand, or it can't be had."""
        best, at = self._checkpoints.best(), self._state.at
        if best is None or at.best_epoch == at.epoch:
            return None
        try:
            return self._checkpoints.load(best)
        except RunError as error:
            self._recorder.event(at.step, "trouble", f"{error} The last weights are used.")
            return None

    @property
    def trouble(self) -> TrainingError | None:
        """Why the newest checkpoint could not be written; one attribute, so that every step may look."""
        return self._writer.trouble

    def face_trouble(self) -> None:
        """A full disk holds the training until there is space again; other trouble is said once, and it goes on.

        Raises Stopped when the person does not want to wait.
        """
        trouble = self._writer.trouble
        told, self._told = self._told, str(trouble or "")
        if trouble is None or (self._told == told and not isinstance(trouble, DiskFull)):
            return
        self._recorder.event(self._state.at.step, "trouble", self._told)
        if not isinstance(trouble, DiskFull):
            return
        before = self._recorder.history.progress.state
        self._recorder.state("paused", f"{trouble.what}; the training goes on when there is space")
        with self._clock.stopped():
            while isinstance(self._writer.trouble, DiskFull) and not self._control.stopping:
                self._control.wait(_DISK_S)
                self._writer.retry()
                self._writer.wait(_LAST_WRITE_S)
        if self._control.stopping:
            raise Stopped
        self._recorder.event(self._state.at.step, "disk", "the checkpoint is written, the training goes on")
        self._recorder.state(before)

    def close(self) -> None:
        """Write out what is pending and end the writer."""
        self._writer.close()
