"""A recipe assembled in a folder that is thrown away, and what a few real steps with it show."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.checkpoints.checkpoint import Checkpoints
from engine.data.samples import Progress
from engine.data.serving.batches import Batch
from engine.devices.device import choose
from engine.devices.memory import breakdown, total_memory
from engine.errors import TrainingError
from engine.policies.backends import backends, selected
from engine.policies.nonfinite import NonFiniteError
from engine.policies.threads import own_threads
from engine.python_file import loaded_anew
from engine.recipe import Recipe
from engine.resuming.randomness import preserved
from engine.runs.directory import RunDirectory
from engine.runs.history import History
from engine.runs.recorder import Recorder
from engine.training.assemble import assemble
from engine.training.control import Control, Stopped
from engine.training.trainer import Trainer

_STEPS = 2


@dataclass(frozen=True)
class TriedOut:
    """What a few steps showed. `seconds` are of the last step, `memory` in bytes by owner, `total` is the device's."""

    losses: tuple[float, ...]
    seconds: float
    steps: int
    memory: Mapping[str, int]
    total: int

    @property
    def estimate(self) -> float:
        """Seconds for the run's steps, without validation."""
        return self.seconds * self.steps


class Trial:
    """Takes steps of a trainer one by one and reads each loss at once; no checkpoints, no validation."""

    def __init__(self, trainer: Trainer, control: Control) -> None:
        self._stepper, self.state, self._train = trainer.trial()
        self._control = control

    @property
    def epoch_steps(self) -> int:
        """Steps of an epoch."""
        return self._train.steps

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return self._train.samples

    def steps(self, count: int) -> Iterator[float]:
        """The losses of `count` steps; one that is not finite is the last. Raises Stopped."""
        epoch = 0
        while count:
            for batch in self._train.epoch(epoch):
                yield (loss := self._take(batch))
                count -= 1
                if not count or not math.isfinite(loss):
                    return
            epoch += 1

    def fits(self, batch: Batch) -> bool:
        """Take a step on `batch`; whether it went into the memory in one part. Raises Stopped."""
        self.state.splitter.parts = 1
        self._take(batch)
        return self.state.splitter.parts == 1

    def first_batch(self) -> Batch:
        """The first training batch."""
        return self._train.peek(0, 0)

    def _take(self, batch: Batch) -> float:
        if self._control.stopping:
            raise Stopped
        try:
            self._stepper.take(batch)
        except NonFiniteError:
            return math.nan
        self.state.at.step += 1
        values = self.state.meter.read()
        assert values is not None
        return float(values.values["loss"][-1])


@contextmanager
def trial(recipe: Recipe, progress: Progress, control: Control | None = None) -> Iterator[Trial]:
    """A trial of `recipe`, whose run is forgotten, random numbers included. Raises whatever assembling raises."""
    control = control or Control()
    device = choose(recipe.training.device)
    with (
        tempfile.TemporaryDirectory(prefix="torch-tui-trial-") as folder,
        selected(device),
        backends(recipe.training, device),
        own_threads(),
        loaded_anew(),
        preserved(device),
    ):
        directory = RunDirectory.create(Path(folder), "trial", recipe, str(device))
        recorder = Recorder(History(), directory)
        try:
            assembled = assemble(
                recipe,
                control=control,
                recorder=recorder,
                checkpoints=Checkpoints(directory.checkpoints),
                progress=progress,
            )
            try:
                yield Trial(assembled.trainer, control)
            finally:
                assembled.close()
        finally:
            recorder.close()


def try_out(recipe: Recipe, progress: Progress) -> TriedOut:
    """Two real steps. Raises TrainingError when a loss is not finite, and whatever the recipe's own code raises."""
    losses: list[float] = []
    with trial(recipe, progress) as tried:
        began = time.perf_counter()
        for loss in tried.steps(_STEPS):
            seconds, began = time.perf_counter() - began, time.perf_counter()
            losses.append(loss)
        if not all(map(math.isfinite, losses)):
            raise TrainingError("training", f"the loss of step {len(losses)} is not finite", "Lower optimizer.lr.")
        state = tried.state
        memory = breakdown(state.model, state.optim.optimizer, state.device)
        return TriedOut(tuple(losses), seconds, state.epochs * tried.epoch_steps, memory, total_memory(state.device))
